"""The rough placing of a stack: carried from window to window, broken runs, landmarks."""

from __future__ import annotations

import numpy as np
import pytest

from petavox.align import chain, stack
from petavox.align.frames import Field
from petavox.align.solve import Matches
from tests.align.test_stack import SIZE, Arrays, aligned, bent, tissue, turned


def random_rigid(rng) -> Field:
    return turned(rng.uniform(-5, 5), rng.uniform(-30, 30, 2), flip=bool(rng.integers(2)))


def inverse(f: Field) -> Field:
    back = np.linalg.inv(f.matrix)
    return Field.affine(back, -back @ f.shift)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_window_changes_reaches_all_sections_after_it(seed):
    """However many windows came before, a section lies to the last held one as the rough says."""
    rng = np.random.default_rng(seed)
    rough = {k: random_rigid(rng) for k in range(40)}
    placed, shapes = dict(rough), dict.fromkeys(range(40), (SIZE, SIZE))
    p = np.array([[10.0, 20.0], [300.0, 50.0], [120.0, 310.0]])
    for last in (7, 15, 23, 31):
        held = {k: random_rigid(rng) for k in range(last - 3, last + 1)}
        chain.carry_over(placed, held, set(), shapes)
        for k in range(last + 1, 40):
            there = inverse(rough[last])(rough[k](p))  # places of k's points in the last held one
            np.testing.assert_allclose(placed[k](p), held[last](there), atol=1e-6)


def test_sections_with_fields_of_their_own_and_those_after_them_stay(rng):
    rough = {k: random_rigid(rng) for k in range(10)}
    placed = dict(rough)
    held = {2: random_rigid(rng)}
    chain.carry_over(placed, held, {0, 6}, dict.fromkeys(range(10), (SIZE, SIZE)))
    assert [k for k in range(10) if placed[k] is rough[k]] == [0, 1, 6, 7, 8, 9]


@pytest.fixture(scope="module")
def two_runs():
    """Sections 0..3 and 4..7 of other tissue, which share nothing."""
    rng = np.random.default_rng(2)
    both = [*tissue(5, SIZE, 4), *tissue(11, SIZE, 4)]
    truths = {k: turned(rng.uniform(-3, 3), rng.uniform(-8, 8, 2)) for k in range(8)}
    return {k: bent(both[k], t) for k, t in truths.items()}, truths


def test_a_run_that_fits_nothing_before_it_is_aligned_in_itself_and_told(two_runs):
    images, truths = two_runs
    said: list[str] = []
    result, steps = aligned(images, truths, say=said.append)
    assert not result.failures
    assert result.breaks == [4]
    assert sum("NEW RUN begins at section 4" in line for line in said) == 1
    assert np.delete(steps, 3).max() < 1.5
    assert not any(p.a < 4 <= p.b for p in result.pairs)


@pytest.mark.parametrize("window", [5, 6])
def test_a_break_at_the_end_of_a_window_fails_no_section(two_runs, window):
    images, _ = two_runs
    result = stack.align(
        Arrays(images), sorted(images), stack.AlignSettings(window=window, margin=2)
    )
    assert not result.failures
    assert sorted(result.fields) == list(range(8))
    assert result.breaks == [4]


def test_landmarks_join_the_runs(two_runs):
    images, truths = two_runs
    u = np.array([[90.0, 100.0], [220.0, 110.0], [150.0, 230.0], [230.0, 240.0]])
    p, q = (inverse(truths[k])(u) for k in (3, 4))
    marks = [Matches(3, 4, p, q, np.full(4, 4.0), 100.0)]
    result, steps = aligned(images, truths, landmarks=marks)
    assert not result.breaks
    assert not result.failures
    assert np.delete(steps, 3).max() < 1.5
    assert steps[3] < 6


def test_strange_sections_do_not_hide_those_before_them(two_runs):
    """Three sections of something else in the middle: the rest is one run."""
    images, truths = two_runs
    more = tissue(5, SIZE, 6)
    mixed = {k: bent(more[k], truths[k]) for k in (0, 1, 2)}
    mixed |= {k + 3: images[k + 4] for k in (0, 1, 2)}
    mixed |= {k: bent(more[k - 3], truths[k]) for k in (6, 7)}
    placed = chain.chain_up(Arrays(mixed), sorted(mixed), {}, thumbnail_px=192, narrow=12.0)
    assert placed.breaks == [3]
    middle = np.array([[160.0, 160.0]])
    back = {k: placed.fields[k](inverse(truths[k])(middle)) for k in (2, 6)}
    assert np.linalg.norm(back[6] - back[2]) < 8


def test_one_landmark_is_too_few_to_place_a_section(two_runs):
    images, _ = two_runs
    p = np.array([[50.0, 60.0]])
    marks = [Matches(3, 4, p, p, np.ones(1), 100.0)]
    placed = chain.chain_up(
        Arrays(images), sorted(images), {}, thumbnail_px=192, narrow=12.0, landmarks=marks
    )
    assert placed.breaks == [4]
