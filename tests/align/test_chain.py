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


def composed(outer: Field, inner: Field) -> Field:
    return Field.affine(outer.matrix @ inner.matrix, outer(inner.shift[None])[0])


def inverse(f: Field) -> Field:
    back = np.linalg.inv(f.matrix)
    return Field.affine(back, -back @ f.shift)


@pytest.mark.parametrize("seed", range(4))
def test_what_a_window_changes_reaches_all_sections_after_it(seed):
    """However many windows came before, a section lies to the last held one as the rough says."""
    rng = np.random.default_rng(seed)
    rough = {k: random_rigid(rng) for k in range(40)}
    p = np.array([[10.0, 20.0], [300.0, 50.0], [120.0, 310.0]])
    for last in (7, 15, 23, 31):
        held = {k: random_rigid(rng) for k in range(last - 3, last + 1)}
        placed = chain.carried(rough, held, range(last + 1, 40), lambda k: (SIZE, SIZE))
        for k in range(last + 1, 40):
            there = inverse(rough[last])(rough[k](p))  # places of k's points in the last held one
            np.testing.assert_allclose(placed[k](p), held[last](there), atol=1e-6)


def test_between_known_sections_all_move_with_those_before_them(rng):
    """A window holds 2, 3 and 12, of which 3 was moved: 4..11 follow it, 13 on stay."""
    rough = {k: random_rigid(rng) for k in range(20)}
    moved = random_rigid(rng)
    held = {2: rough[2], 3: composed(moved, rough[3]), 12: rough[12]}
    placed = chain.carried(rough, held, range(20), lambda k: (SIZE, SIZE))
    p = np.array([[10.0, 20.0], [300.0, 50.0], [120.0, 310.0]])
    for k in range(20):
        expected = composed(moved, rough[k]) if 3 <= k < 12 else rough[k]
        np.testing.assert_allclose(placed[k](p), expected(p), atol=1e-6)


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
    assert [placed.runs[k] for k in sorted(mixed)] == [0, 0, 0, 1, 1, 1, 0, 0]
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


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("flip", [False, True])
def test_two_landmarks_turn_a_section_but_never_flip_it(seed, flip):
    rng = np.random.default_rng(seed)
    before, own = (turned(rng.uniform(-180, 180), rng.uniform(-30, 30, 2), flip) for _ in "ab")
    u = rng.uniform(50, 250, (2, 2))
    marks = [Matches(0, 1, inverse(before)(u), inverse(own)(u), np.ones(2), 100.0)]
    found = chain._by_hand(1, {0: before}, marks)
    assert found is not None
    p = rng.uniform(0, SIZE, (5, 2))
    np.testing.assert_allclose(found[0](p), own(p), atol=1e-6)


def test_sections_in_front_of_solved_ones_are_placed_backwards():
    """Ten sections of which 6..9 are solved: 0 is too far from these, but not from 1."""
    rng = np.random.default_rng(4)
    sections = tissue(7, SIZE, 10)
    truths = {k: turned(rng.uniform(-3, 3), rng.uniform(-8, 8, 2)) for k in range(10)}
    images = {k: bent(sections[k], truths[k]) for k in range(10)}
    first, _ = aligned({k: images[k] for k in range(6, 10)}, truths)
    result, steps = aligned(images, truths, fixed=first.fields)
    assert not result.failures
    assert not result.breaks
    assert steps.max() < 1.5
    p = np.array([[50.0, 60.0], [200.0, 100.0]])
    for k in range(6, 10):
        np.testing.assert_array_equal(result.fields[k](p), first.fields[k](p))


@pytest.mark.parametrize(("window", "margin"), [(8, 8), (8, 12), (8, 0), (8, 1)])
def test_windows_that_do_not_overlap_are_refused(window, margin):
    with pytest.raises(ValueError, match="farthest of offsets"):
        stack.AlignSettings(window=window, margin=margin)


@pytest.mark.parametrize(("sections", "window", "margin"), [(7, 4, 3), (7, 3, 2), (4, 3, 2)])
def test_every_section_is_in_a_window(sections, window, margin):
    images = dict(enumerate(bent(s, turned(0, (0, 0))) for s in tissue(5, SIZE, sections)))
    settings = stack.AlignSettings(window=window, margin=margin, passes=1)
    assert sorted(stack.align(Arrays(images), sorted(images), settings).fields) == sorted(images)
