"""The boundary mask, against brute force and scipy."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import distance_transform_edt

from petavox.errors import BadInput
from petavox.score.tolerance import context, near_boundary

SIZES = st.sampled_from([(1.0, 1.0, 1.0), (40.0, 4.0, 4.0), (8.0, 4.0, 4.0), (4.6, 9.2, 50.0)])
RADII = st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0])
LABELS = hnp.arrays(
    np.uint64, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.integers(0, 2)
)


def by_distance_transform(labels, radius, size):
    """Distance of every voxel to the nearest one of another id, one id at a time."""
    near = np.zeros(labels.shape, bool)
    for value in np.unique(labels):
        inside = labels == value
        if inside.all():
            continue
        far = distance_transform_edt(inside, sampling=size)
        near |= inside & (far <= radius * min(size) * (1 + 1e-9))
    return near


@given(LABELS, RADII, SIZES)
def test_mask_equals_a_distance_transform_of_every_body(labels, radius, size):
    got = near_boundary(labels, radius, size)
    np.testing.assert_array_equal(got, by_distance_transform(labels, radius, size))


@given(LABELS, RADII, SIZES, st.integers(1, 4))
def test_blocks_with_context_equal_the_whole(labels, radius, size, step):
    whole = near_boundary(labels, radius, size)
    reach = context(radius, size)
    for corner in itertools.product(*(range(0, n, step) for n in labels.shape)):
        low = [max(0, c - r) for c, r in zip(corner, reach, strict=True)]
        read = tuple(slice(a, c + step + r) for a, c, r in zip(low, corner, reach, strict=True))
        own = tuple(slice(c - a, c - a + step) for a, c in zip(low, corner, strict=True))
        block = near_boundary(labels[read], radius, size)[own]
        here = tuple(slice(c, c + step) for c in corner)
        np.testing.assert_array_equal(block, whole[here])


def test_two_voxels_at_40_4_4_nm_reach_no_neighbour_in_z():
    assert context(2.0, (40.0, 4.0, 4.0)) == (0, 2, 2)
    labels = np.array([[[1, 1]], [[2, 2]]])
    assert not near_boundary(labels, 2.0, (40.0, 4.0, 4.0)).any()
    assert near_boundary(labels, 2.0, (4.0, 4.0, 4.0)).all()


def test_the_edge_of_the_volume_is_no_boundary():
    assert not near_boundary(np.ones((3, 3, 3), np.uint8), 2.0).any()


def test_radius_zero_marks_nothing():
    assert not near_boundary(np.arange(27).reshape(3, 3, 3), 0.0).any()


@pytest.mark.parametrize("radius", [-1.0, 9.0, float("nan")])
def test_impossible_radius_is_refused(radius):
    with pytest.raises(BadInput, match="tolerance"):
        near_boundary(np.ones((2, 2, 2), int), radius)
