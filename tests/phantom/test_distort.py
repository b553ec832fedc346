from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petavox.phantom.distort import Line, SectionWarp, lens, smooth_field, unlens


def line(kind, angle=0.4, width=12.0):
    return Line(
        kind, (200.0, 260.0), (float(np.sin(angle)), float(np.cos(angle))), 380.0, width,
        (6.0, 150.0, 1.0), 70.0,
    )  # fmt: skip


def section(angle=0.05, lines=(), flip=False, seed=1):
    c, s = np.cos(angle), np.sin(angle)
    m = 1.01 * np.array([[c, s], [-s, c]]) @ np.diag([1.0, -1.0 if flip else 1.0])
    field = smooth_field(seed, (400, 520), 8.0, 120.0, 32.0, 96.0)
    return SectionWarp(
        m, np.array([12.0, -30.0]), np.array([200.0, 260.0]), field, 32.0, 96.0, lines
    )


points = st.integers(0, 2**31).map(
    lambda s: np.random.default_rng(s).uniform([0, 0], [400, 520], (60, 2))
)


@settings(max_examples=30, deadline=None)
@given(points, st.floats(-3.2, 3.2), st.booleans())
def test_section_to_aligned_and_back_is_the_identity(x, angle, flip):
    w = section(angle, flip=flip)
    assert np.abs(w.aligned_to_section(w.section_to_aligned(x)) - x).max() < 1e-3
    assert np.abs(w.section_to_aligned(w.aligned_to_section(x)) - x).max() < 1e-3


@settings(max_examples=30, deadline=None)
@given(points, st.sampled_from(["fold", "crack"]), st.floats(0, 3.1))
def test_outside_the_damage_the_round_trip_holds_with_folds_and_cracks(x, kind, angle):
    w = section(0.1, (line(kind, angle),))
    back = w.aligned_to_section(w.section_to_aligned(x))
    free = w.damaged(x) == 0
    assert np.abs(back - x)[free].max(initial=0) < 1e-3


@settings(max_examples=60, deadline=None)
@given(points, st.permutations(["fold", "crack", "fold"]), st.floats(0, 3.1), st.floats(0.3, 2.8))
def test_outside_the_damage_the_round_trip_holds_where_lines_cross(x, kinds, angle, between):
    lines = tuple(line(k, angle + n * between, 4.0 + 6 * n) for n, k in enumerate(kinds))
    w = section(0.1, lines)
    back = w.aligned_to_section(w.section_to_aligned(x))
    free = w.damaged(x) == 0
    assert np.abs(back - x)[free].max(initial=0) < 1e-3


def test_a_fold_hides_exactly_its_width_of_tissue():
    f = line("fold", 0.0)
    across = np.stack([np.linspace(150, 250, 20001), np.full(20001, 260.0)], -1)
    hidden = np.isnan(f.fold(across)[:, 0])
    assert abs(hidden.sum() * 100 / 20000 - f.width) < 0.02
    # and across the line the tissue jumps by that width
    bend = 6.0 * np.sin(1.0)
    beside = np.array([[200 - bend - 1e-7, 260.0], [200 - bend + 1e-7, 260.0]])
    jump = np.diff(f.unfold(beside)[:, 0])[0]
    assert abs(jump - f.width) < 1e-3


def test_a_crack_shows_no_tissue_in_its_gap_and_loses_none_beside_it():
    c = line("crack", 0.0)
    bend = 6.0 * np.sin(1.0)
    gap = np.array([[200 - bend + d, 260.0] for d in (-5.9, -3.0, 0.0, 3.0, 5.9)])
    assert np.allclose(c.unfold(gap)[:, 0], 200 - bend, atol=1e-6)
    assert c.cover(gap).all()
    whole = np.stack([np.linspace(150, 250, 501), np.full(501, 260.0)], -1)
    assert np.abs(c.unfold(c.fold(whole)) - whole).max() < 1e-6


def test_damage_ends_with_its_line():
    f = line("fold", 0.0)
    far = np.array([[200.0, 260 + 191.0], [20.0, 260 - 230.0]])
    assert np.allclose(f.unfold(far), far)
    assert not f.cover(far).any()


@given(st.floats(-0.05, 0.05), st.tuples(st.integers(50, 400), st.integers(50, 400)))
def test_the_lens_is_cubic_and_inverted(share, shape):
    h, w = shape
    amount = share * min(shape)
    edge = np.array([[h / 2, w], [h / 2, 0.0], [h / 2, w / 2]])
    assert np.allclose(lens(edge, shape, amount), [[0, amount], [0, -amount], [0, 0]])
    p = np.random.default_rng(0).uniform([0, 0], [h, w], (50, 2))
    assert np.abs(unlens(p + lens(p, shape, amount), shape, amount) - p).max() < 1e-3


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fields_have_the_stated_size_and_smoothness(seed):
    many = [smooth_field(100 * seed + i, (800, 900), 8.0, 100.0, 32.0, 96.0) for i in range(12)]
    assert 6.5 < np.std(many) < 9.5
    steps = np.diff(np.array(many), axis=2) / 32.0
    # a Gaussian-smoothed field of sigma s has slopes of amplitude / (sqrt(2) s)
    assert abs(steps.std() / (8.0 / (np.sqrt(2) * 100)) - 1) < 0.25
