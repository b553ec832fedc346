from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from petavox.phantom.rng import hashed, smooth_at, smooth_on_grid, uniform, white


def splitmix64(z: int) -> int:
    """The finaliser in plain integers."""
    m = 2**64 - 1
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & m
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & m
    return z ^ (z >> 31)


@given(st.integers(0, 2**40), st.integers(-(2**30), 2**30), st.integers(-(2**30), 2**30))
def test_the_hash_is_splitmix64_once_per_number(seed, a, b):
    m, golden = 2**64 - 1, 0x9E3779B97F4A7C15
    h = splitmix64((seed + golden) & m)
    for v in (a, b):
        h = splitmix64(((h ^ (v & m)) + golden) & m)
    assert int(hashed(seed, a, b)[0]) == h


def test_uniform_numbers_are_uniform_and_uncorrelated_between_neighbours():
    u = uniform(4, np.arange(200_000))
    assert abs(u.mean() - 0.5) < 0.003
    assert abs(u.var() - 1 / 12) < 0.001
    assert abs(np.corrcoef(u[1:], u[:-1])[0, 1]) < 0.01


def test_white_noise_has_unit_variance_and_does_not_depend_on_the_box():
    w = white(3, (-5, 0, 7), (20, 30, 40))
    assert abs(float(w.mean())) < 0.03
    assert abs(float(w.std()) - 1) < 0.02
    assert np.array_equal(white(3, (-2, 10, 9), (4, 5, 6)), w[3:7, 10:15, 2:8])


@pytest.mark.parametrize("spacing", [3.0, 17.5])
def test_smooth_noise_is_the_cubic_spline_of_its_coefficients(spacing):
    axes = [np.arange(-6, 9) * 1.5, np.arange(11) * 1.0, np.arange(3, 20) * 2.0]
    got = smooth_on_grid(8, axes, spacing)
    knots = [np.arange(int(a.min() // spacing) - 3, int(a.max() // spacing) + 5) for a in axes]
    z, y, x = np.meshgrid(*knots, indexing="ij")
    places = np.meshgrid(
        *[a / spacing - k[0] for a, k in zip(axes, knots, strict=True)], indexing="ij"
    )
    want = ndimage.map_coordinates(2 * uniform(8, z, y, x) - 1, places, order=3, prefilter=False)
    assert np.allclose(got, want, atol=2e-6)


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(-50, 50)] * 3), st.tuples(*[st.integers(1, 7)] * 3))
def test_a_part_of_smooth_noise_is_bit_for_bit_the_whole(start, shape):
    whole = [np.arange(-50, 60) * 8.0, np.arange(-50, 60) * 4.0, np.arange(-50, 60) * 4.6]
    part = [a[s + 50 : s + 50 + n] for a, s, n in zip(whole, start, shape, strict=True)]
    big = smooth_on_grid(1, whole, (40.0, 33.0, 33.0))
    at = tuple(slice(s + 50, s + 50 + n) for s, n in zip(start, shape, strict=True))
    assert np.array_equal(smooth_on_grid(1, part, (40.0, 33.0, 33.0)), big[at])


def test_noise_at_points_equals_noise_on_the_grid():
    axes = [np.arange(4) * 8.0, np.arange(5) * 9.0, np.arange(6) * 10.0]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    grid = smooth_on_grid(2, axes, 30.0).reshape(-1)
    assert np.allclose(smooth_at(2, points, 30.0), grid, atol=1e-6)
