"""Objects that come close: growth against scipy's distance transform, contacts counted by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from petavox.errors import BadInput
from petavox.segment.candidates import contacts, joined, no_contacts, reach
from petavox.segment.grown import grown

SIZES = [(8.0, 8.0, 8.0), (40.0, 4.0, 4.0), (20.0, 9.0, 9.0)]


SHOWN = ("a", "b", "faces", "distance", "z", "y", "x", "tied")


def rows(table):
    columns = table.columns()
    return [tuple(v.item() for v in row) for row in zip(*(columns[k] for k in SHOWN), strict=True)]


def test_touching_objects_meet_in_the_middle_of_their_contact():
    labels = np.zeros((3, 5, 4), np.uint64)
    labels[:, :, :2], labels[:, :, 2:] = 7, 3
    table = contacts(labels, max_distance=0, voxel_size=(8, 8, 8), start=(-10, 0, 100))
    # 15 faces; the lower voxel of the middle one is (1, 2, 1)
    assert rows(table) == [(3, 7, 15, 0.0, -9, 2, 101, 15)]


def test_objects_across_a_gap_are_found_if_it_is_not_too_wide():
    labels = np.array([[[1, 0, 0, 2]]], np.uint64)
    # growing by 8 nm each closes two voxels; the face lies between them
    assert rows(contacts(labels, max_distance=16, voxel_size=(8, 8, 8))) == [
        (1, 2, 1, 8.0, 0, 0, 1, 1)
    ]
    assert len(contacts(labels, max_distance=15, voxel_size=(8, 8, 8))) == 0


def test_distance_is_in_nm_and_not_in_voxels():
    labels = np.zeros((3, 1, 3), np.uint64)
    labels[0, 0, 0], labels[2, 0, 0], labels[0, 0, 2] = 1, 2, 3
    table = contacts(labels, max_distance=10, voxel_size=(40, 4, 4))
    assert [(r[0], r[1]) for r in rows(table)] == [(1, 3)]


def test_the_decision_point_is_where_both_are_nearest():
    labels = np.zeros((1, 3, 5), np.uint64)
    labels[0, :, 0] = 1
    labels[0, :, 4] = 2
    labels[0, 2, 3] = 2  # the gap is narrower in the last row
    (row,) = rows(contacts(labels, max_distance=40, voxel_size=(8, 8, 8)))
    assert row[5] == 2


def test_between_equally_near_objects_the_smaller_id_wins():
    out, distance = grown(np.array([[[9, 0, 4]]], np.uint64), 8, (8, 8, 8))
    assert out.tolist() == [[[9, 4, 4]]]
    assert distance.tolist() == [[[0, 8, 0]]]


def test_nothing_one_object_and_one_voxel_have_no_contacts():
    for labels in (np.zeros((4, 4, 4)), np.ones((4, 4, 4)), np.ones((1, 1, 1)), np.ones((0, 3, 3))):
        table = contacts(labels.astype(np.uint64), max_distance=50, voxel_size=(8, 8, 8))
        assert len(table) == 0
    assert len(joined([no_contacts(), no_contacts()])) == 0


def test_a_negative_distance_is_refused():
    with pytest.raises(BadInput, match="negative"):
        contacts(np.ones((2, 2, 2), np.uint64), max_distance=-1, voxel_size=(8, 8, 8))


sparse = arrays(
    np.uint64,
    array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7),
    elements=st.sampled_from([0, 0, 0, 0, 1, 2, 3]),
)


@given(sparse, st.sampled_from(SIZES), st.sampled_from([0, 8, 20, 41]))
def test_growth_equals_the_distance_transform(labels, size, most):
    out, distance = grown(labels, most, size)
    if not (labels > 0).any():
        assert not out.any()
        return
    exact = ndimage.distance_transform_edt(labels == 0, sampling=size)
    near = exact <= most + 1e-6
    assert np.array_equal(out > 0, near)
    assert np.allclose(distance[near], exact[near], atol=1e-3)
    for i in np.unique(out[out > 0]):
        mine = ndimage.distance_transform_edt(labels != i, sampling=size)
        assert np.allclose(mine[out == i], exact[out == i])


def width_by_hand(out, place, pair, size):
    """Distance to the nearest voxel of the array that is neither of the two; at most 80 nm."""
    third = np.argwhere((out != pair[0]) & (out != pair[1]))
    far = np.sqrt((((third - place) * np.array(size)) ** 2).sum(1))
    return min([80.0, *far.tolist()])


@given(sparse, st.sampled_from(SIZES), st.sampled_from([0, 16, 50]))
def test_contacts_equal_counting_all_faces(labels, size, most):
    out, distance = grown(labels, most / 2, size)
    light = np.arange(labels.size, dtype=np.uint8).reshape(labels.shape)
    gray = ndimage.uniform_filter(light.astype(np.float64), 3, mode="nearest")
    faces: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    for p in itertools.product(*map(range, labels.shape)):
        for axis in range(3):
            q = tuple(c + (k == axis) for k, c in enumerate(p))
            if q[axis] >= labels.shape[axis]:
                continue
            a, b = sorted((int(out[p]), int(out[q])))
            if a and a != b:
                wide = width_by_hand(out, p, (a, b), size)
                far = float(distance[p] + distance[q]) / 2
                faces.setdefault((a, b), []).append((-round(wide, 4), far, (gray[p] + gray[q]) / 2))
    table = contacts(labels, max_distance=most, voxel_size=size, image=light)
    expected = {}
    for k, v in faces.items():
        wide, near = min(f[:2] for f in v)
        tied = sum(f[0] == wide and abs(f[1] - near) < 1e-6 for f in v)
        expected[k] = (
            len(v),
            pytest.approx(near),
            pytest.approx(-wide, abs=1e-3),
            tied,
            sum(f[1] == 0 for f in v),
            pytest.approx(sum(f[2] for f in v), rel=1e-4, abs=1e-3),
            pytest.approx(max(f[2] for f in v), rel=1e-4, abs=1e-3),
        )
    c = table.columns()
    names = ("faces", "distance", "width", "tied", "touching", "gray", "bright")
    found = zip(*(c[k].tolist() for k in names), strict=True)
    pairs = zip(c["a"].tolist(), c["b"].tolist(), strict=True)
    assert dict(zip(pairs, found, strict=True)) == expected


def test_the_decision_point_is_where_the_contact_is_widest():
    labels = np.zeros((9, 9, 8), np.uint64)
    labels[:, :, :4], labels[:, :, 4:] = 1, 2
    labels[:, :4, 3:5] = 3  # below y 4 a third object lies between the two, but for one hole
    labels[2, 1, 3], labels[2, 1, 4] = 1, 2
    table = contacts(labels, max_distance=0, voxel_size=(8, 8, 8))
    at = table.a.tolist().index(1)
    assert (table.b[at], table.y[at]) == (2, 8)
    assert table.width[at] == pytest.approx(5 * 8)


@given(sparse, st.sampled_from(SIZES), st.sampled_from([0, 16, 50]), st.integers(1, 4))
def test_blocks_with_their_reach_find_what_the_whole_volume_has(labels, size, most, side):
    context = reach(most, size)
    parts = []
    for corner in itertools.product(*(range(0, n, side) for n in labels.shape)):
        read = [max(c - r, 0) for c, r in zip(corner, context, strict=True)]
        end = [c + side + r for c, r in zip(corner, context, strict=True)]
        piece = labels[tuple(slice(a, b) for a, b in zip(read, end, strict=True))]
        own = tuple(slice(c - a, c - a + side) for c, a in zip(corner, read, strict=True))
        parts.append(contacts(piece, max_distance=most, voxel_size=size, start=read, own=own))
    whole = contacts(labels, max_distance=most, voxel_size=size)
    table = joined(parts)
    for name in ("a", "b", "faces", "touching", "distance", "width", "tied"):
        assert np.array_equal(getattr(table, name), getattr(whole, name)), name


@pytest.mark.parametrize("size", [(100.0, 8.0, 8.0), (40.0, 40.0, 40.0)])
@pytest.mark.parametrize("most", [0, 150])
def test_grey_values_of_blocks_equal_those_of_the_whole(rng, size, most):
    labels = np.ones((9, 4, 4), np.uint64)
    labels[4:] = 2
    image = rng.integers(0, 255, labels.shape).astype(np.uint8)
    context, parts = reach(most, size), []
    for z in range(0, 9, 4):
        first = max(z - context[0], 0)
        read, own = slice(first, z + 4 + context[0]), (slice(z - first, z + 4 - first),)
        parts.append(
            contacts(
                labels[read], max_distance=most, voxel_size=size, image=image[read],
                start=(first, 0, 0), own=(*own, slice(0, 4), slice(0, 4)),
            )
        )  # fmt: skip
    whole = contacts(labels, max_distance=most, voxel_size=size, image=image)
    table = joined(parts)
    for name in ("gray", "touching_gray", "bright"):
        assert getattr(table, name) == pytest.approx(getattr(whole, name)), name
