"""Patch correlation of pairs, overlays, and the reasoning to suspects."""

from __future__ import annotations

import math

import numpy as np
import pytest

from petavox.align.correlation import low_pairs, overlay, patch_correlation, suspects
from petavox.errors import BadInput


def test_every_patch_equals_numpys_correlation(rng):
    a, b = rng.integers(0, 256, (2, 40, 56)).astype(np.uint8)
    b = (b // 2 + a // 2).astype(np.uint8)
    ok = np.ones(a.shape, bool)
    got = patch_correlation(a[None], b[None], ok[None], ok[None], patch=16, step=8)[0]
    assert got.shape == (4, 6)
    for i in range(4):
        for j in range(6):
            window = np.s_[i * 8 : i * 8 + 16, j * 8 : j * 8 + 16]
            oracle = np.corrcoef(a[window].ravel(), b[window].ravel())[0, 1]
            assert got[i, j] == pytest.approx(oracle, abs=1e-4)


def test_only_pixels_valid_in_both_count(rng):
    a = rng.integers(1, 256, (16, 16)).astype(np.uint8)
    b = a.copy()
    valid = np.ones(a.shape, bool)
    b[:6], valid[:6] = 0, False
    got = patch_correlation(a[None], b[None], ~(a[None] == 0), valid[None], patch=16, step=16)
    assert got[0, 0, 0] == pytest.approx(1, abs=1e-4)


def test_too_little_or_constant_is_nan(rng):
    a = rng.integers(1, 256, (16, 16)).astype(np.uint8)
    valid = np.ones(a.shape, bool)
    valid[:9] = False
    few = patch_correlation(a[None], a[None], valid[None], valid[None], patch=16, step=16)
    flat = np.full_like(a, 7)
    ok = np.ones(a.shape, bool)
    constant = patch_correlation(a[None], flat[None], ok[None], ok[None], patch=16, step=16)
    assert np.isnan(few).all()
    assert np.isnan(constant).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (5, 3), (0, 4)])
def test_sections_smaller_than_a_patch(rng, shape):
    a = rng.integers(0, 65536, shape).astype(np.uint16)
    ok = np.ones(shape, bool)
    got = patch_correlation(a[None], a[None], ok[None], ok[None])
    assert got.shape[0] == 1
    assert np.all(np.isnan(got) | (got > 0.99))


def test_sixteen_bit_with_a_high_offset_stays_exact(rng):
    a = (60000 + rng.integers(0, 50, (64, 64))).astype(np.uint16)
    b = (60000 + rng.integers(0, 50, (64, 64))).astype(np.uint16)
    ok = np.ones(a.shape, bool)
    got = patch_correlation(a[None], b[None], ok[None], ok[None], patch=64, step=64)[0, 0, 0]
    assert got == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-4)


def test_overlay_shows_the_first_red_and_the_second_green():
    a, b = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    a[0], a[1], b[2], b[3] = 10, 200, 10, 200
    picture = overlay(a, b)
    assert picture.dtype == np.uint8
    assert (picture[1] == [255, 0, 0]).all()
    assert (picture[3] == [0, 255, 0]).all()
    assert (picture[..., 2] == 0).all()


def stack(n: int) -> tuple[list[float], list[float]]:
    wobble = 0.01 * np.sin(np.arange(n))
    return list(0.6 + wobble[: n - 1]), list(0.4 + wobble[: n - 2])


def test_a_good_stack_has_no_suspects():
    one, two = stack(20)
    assert suspects(range(20), one, two) == []


def test_a_section_unlike_both_neighbours_is_named_with_what_qc_says():
    one, two = stack(20)
    one[6] = one[7] = 0.1  # section 7 against 6 and 8
    two[5] = two[7] = 0.05
    found = suspects(range(20), one, two, {7: ("out of focus",)})
    assert [f.section for f in found] == [7]
    assert found[0].cause == "differs from both neighbours; out of focus"
    assert found[0].correlation == 0.1


def test_swapped_sections_are_named_as_such():
    one, two = stack(20)
    # true order ... 7 8 ... stands as 8 7: pairs (6,8) (8,7) (7,9)
    one[6] = one[8] = 0.38
    two[6], two[7] = 0.61, 0.60
    two[5] = two[8] = 0.25
    found = suspects(range(20), one, two)
    assert [f.section for f in found] == [7, 8]
    assert all("7 and 8 look swapped" in f.cause for f in found)


def test_a_step_between_two_good_halves_is_a_step():
    one, two = stack(20)
    one[9], two[8], two[9] = 0.1, 0.1, 0.1
    found = suspects(range(100, 120), one, two)
    assert [(f.section, f.cause) for f in found] == [(110, "step between sections 109 and 110")]


def test_a_blank_section_is_named():
    one, two = stack(20)
    one[4] = one[5] = two[3] = two[5] = math.nan
    found = suspects(range(20), one, two, {5: ("blank",)})
    assert [f.section for f in found] == [5]
    assert "blank" in found[0].cause


@pytest.mark.parametrize("n", [1, 2, 3])
def test_short_stacks_give_no_error(n):
    assert suspects(range(n), [0.5] * (n - 1), [0.4] * max(0, n - 2)) == []


def test_low_pairs_are_told_from_the_stacks_own_level():
    assert low_pairs([0.9, 0.91, 0.9, 0.5, 0.9]) == [False, False, False, True, False]
    assert low_pairs([0.3, 0.31, 0.3, 0.29]) == [False] * 4


def test_shapes_that_differ_are_refused():
    a = np.zeros((1, 8, 8))
    with pytest.raises(BadInput, match="must be the same"):
        patch_correlation(a, a[:, :7], a > 0, a > 0)
