"""Marching cubes in blocks: exact joining, closure, topology, volume, place, ids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import measure as sk

from petavox.neuron import mesh as m
from petavox.neuron import packing
from petavox.neuron.simplify import bounded, levels, simplified
from petavox.space import Box, Grid, VoxelSize


def whole(labels: np.ndarray, start=(0, 0, 0)) -> dict[int, m.Fragment]:
    """All objects of an array in one block, closed by a layer of zeros."""
    return m.fragments(np.pad(labels, 1), tuple(a - 1 for a in start))


def blockwise(labels: np.ndarray, block, start=(0, 0, 0)) -> dict[int, m.Fragment]:
    """The same, from blocks that read one layer beyond themselves, joined in reverse order."""
    total = Box.of_shape(labels.shape, start)
    padded = np.pad(labels, 1)
    pieces: dict[int, list[m.Fragment]] = {}
    for b in reversed(list(Grid(total, block))):
        low = [a - (a == t) for a, t in zip(b.write.start, total.start, strict=True)]
        box = Box(tuple(low), b.write.grown(1).stop)
        values = padded[box.slices(total.grown(1).start)]
        for label, piece in m.fragments(values, box.start).items():
            pieces.setdefault(label, []).append(piece)
    return {label: m.join(p) for label, p in pieces.items()}


def same(a: m.Fragment, b: m.Fragment) -> bool:
    return np.array_equal(a.vertices, b.vertices) and np.array_equal(a.faces, b.faces)


def sphere(n: int, radius: float) -> np.ndarray:
    g = np.mgrid[:n, :n, :n] - (n - 1) / 2
    return (np.sqrt((g**2).sum(0)) <= radius).astype(np.uint32)


def torus(n: int, ring: float, tube: float) -> np.ndarray:
    z, y, x = np.mgrid[:n, :n, :n] - (n - 1) / 2
    return (np.hypot(np.hypot(y, x) - ring, z) <= tube).astype(np.uint32)


def test_one_voxel_is_an_octahedron_around_its_centre():
    labels = np.zeros((3, 3, 3), np.uint64)
    labels[1, 1, 1] = 2**40 + 7
    (label, piece), *others = m.fragments(labels, (10, 20, 30)).items()
    assert (label, others) == (2**40 + 7, [])
    # the voxel (11, 21, 31) has its centre at half voxels (23, 43, 63)
    centre = np.array([23, 43, 63])
    steps = np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)])
    assert {tuple(v) for v in piece.vertices} == {tuple(centre + s) for s in steps}
    assert len(piece.faces) == 8
    measures = m.measure(m.placed(piece, VoxelSize(40, 4, 4)))
    assert measures.watertight
    assert measures.euler == 2
    # an octahedron of half axes 20, 2, 2 nm: 4/3 a b c
    assert measures.volume == pytest.approx(4 / 3 * 20 * 2 * 2)


def test_a_box_has_the_volume_of_its_bevelled_shape_in_nm():
    labels = np.zeros((6, 7, 8), np.uint16)
    labels[1:5, 1:6, 1:7] = 3  # 4 x 5 x 6 voxels
    measures = m.measure(m.placed(whole(labels)[3], VoxelSize(1, 1, 1)))
    # each edge loses a prism of 1/8 square a unit, between corners; each corner keeps 1/6 of an
    # eighth: by inclusion over cells, full 3*4*5 cells, half cells on faces, 1/8 on edges, 1/48
    a, b, c = 3, 4, 5
    expected = a * b * c + (a * b + b * c + c * a) + 4 * (a + b + c) / 8 + 8 / 48
    assert measures.volume == pytest.approx(expected)
    assert measures.euler == 2
    assert measures.watertight


def test_sphere_and_torus_have_their_topology_and_volume():
    ball = m.measure(m.placed(whole(sphere(24, 10.2))[1], VoxelSize(1, 1, 1)))
    ring = m.measure(m.placed(whole(torus(32, 10, 4.2))[1], VoxelSize(1, 1, 1)))
    assert (ball.euler, ring.euler) == (2, 0)
    assert ball.watertight
    assert ring.watertight
    assert ball.volume == pytest.approx(4 / 3 * np.pi * 10.2**3, rel=0.03)
    assert ring.volume == pytest.approx(2 * np.pi**2 * 10 * 4.2**2, rel=0.03)


def test_volume_and_area_agree_with_scikit_image_on_a_smooth_shape():
    labels = sphere(20, 7.5)
    size = (3.0, 1.0, 2.0)
    v, f, _, _ = sk.marching_cubes(labels.astype(float), 0.5, spacing=size, method="lorensen")
    mine = m.measure(m.placed(whole(labels)[1], VoxelSize(*size)))
    assert mine.area == pytest.approx(sk.mesh_surface_area(v, f), rel=1e-3)


def test_faces_look_outwards_also_after_the_turn_to_xyz():
    mesh = m.placed(whole(sphere(10, 3.5))[1], VoxelSize(1, 2, 3))
    assert m.measure(mesh).volume > 0
    v, f = m.as_xyz(mesh)
    a, b, c = (v[f[:, k]] - v.mean(0) for k in range(3))
    assert np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6 == pytest.approx(
        m.measure(mesh).volume
    )


def test_an_object_across_eight_blocks_has_the_very_mesh_of_the_whole():
    labels = sphere(24, 10.4) * np.uint32(9)
    assert same(blockwise(labels, (12, 12, 12))[9], whole(labels)[9])


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    block=st.tuples(*[st.integers(1, 6)] * 3),
    start=st.tuples(*[st.integers(-50, 50)] * 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_blocks_of_any_shape_and_place_give_the_same_closed_meshes(shape, block, start, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 1, 5, 2**33], np.uint64), shape)
    one, many = whole(labels, start), blockwise(labels, block, start)
    assert one.keys() == many.keys() == set(np.unique(labels).tolist()) - {0}
    for label in one:
        assert same(one[label], many[label])
        assert m.measure(m.placed(one[label], VoxelSize(40, 4, 4))).watertight


def test_two_touching_objects_have_closed_surfaces_that_coincide():
    labels = np.ones((4, 4, 4), np.uint8)
    labels[:, :, 2:] = 2
    found = whole(labels)
    shared = {tuple(v) for v in found[1].vertices} & {tuple(v) for v in found[2].vertices}
    assert len(shared) == 16  # the 4 x 4 midpoints between the two halves
    for piece in found.values():
        assert m.measure(m.placed(piece, VoxelSize(1, 1, 1))).watertight


def test_an_open_border_leaves_a_rim():
    found = m.fragments(np.ones((4, 4, 4), np.uint8) * np.uint8(2), (0, 0, 0))
    assert found == {}
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[:, :2] = 2
    assert not m.measure(m.placed(m.fragments(labels, (0, 0, 0))[2], VoxelSize(1, 1, 1))).watertight


def test_nothing_gives_nothing():
    assert whole(np.zeros((5, 5, 5), np.uint64)) == {}
    assert m.join([]).faces.shape == (0, 3)
    assert m.measure(m.placed(m.join([]), VoxelSize(1, 1, 1))).euler == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_packed_fragments_come_back_as_they_were(seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 3, 2**50], np.uint64), (4, 5, 6))
    found = whole(labels, (-9, 1000, 7))
    path = tmp_path_factory.mktemp("packed") / "0"
    packing.write(path, ((i, packing.packed(f), len(f.faces)) for i, f in found.items()))
    rows = packing.index(path)
    assert rows["id"].tolist() == sorted(found)
    for label, offset, size, faces in rows.tolist():
        assert same(packing.unpacked(packing.read(path, offset, size)), found[label])
        assert faces == len(found[label].faces)


def test_an_object_smaller_than_the_error_keeps_a_volume():
    labels = np.zeros((3, 3, 3), np.uint8)
    labels[1, 1, 1] = 1
    (mesh,) = levels(whole(labels)[1], VoxelSize(30, 8, 7.5), error=30, most_levels=4)
    found = m.measure(mesh)
    assert found.watertight
    assert found.volume == pytest.approx(30 * 8 * 7.5 / 6)  # the octahedron in the voxel


def test_simplified_surfaces_stay_closed_near_the_original_and_get_smaller():
    labels = np.zeros((20, 40, 40), np.uint8)
    labels[2:18] = torus(40, 12, 6).astype(np.uint8)[12:28]
    size = VoxelSize(40, 16, 16)
    fine = whole(labels)[1]
    detail = levels(fine, size, error=40, most_levels=3, fewest_faces=50)
    faces = [len(x.faces) for x in detail]
    assert faces == sorted(faces, reverse=True)
    assert len(detail) == 3
    assert faces[0] < len(fine.faces) / 4
    exact = m.measure(m.placed(fine, size))
    for mesh in detail:
        measures = m.measure(mesh)
        assert measures.watertight
        assert measures.euler == exact.euler
    assert m.measure(detail[0]).volume == pytest.approx(exact.volume, rel=0.05)
    from scipy.spatial import cKDTree

    far = cKDTree(m.placed(fine, size).vertices).query(detail[0].vertices)[0]
    assert far.max() < 2 * 40


def test_clustering_pieces_before_the_join_is_clustering_the_whole():
    labels = sphere(20, 8.3)
    pieces = []
    padded = np.pad(labels, 1)
    for b in Grid(Box.of_shape(padded.shape), (8, 8, 8)):
        values = padded[Box(b.write.start, b.write.grown(1).stop).slices()]
        pieces += list(m.fragments(values, tuple(a - 1 for a in b.write.start)).values())
    faces = sum(len(p.faces) for p in pieces)
    one = bounded([m.join(pieces)], faces=faces, most_faces=faces // 3)
    many = bounded(pieces[::-1], faces=faces, most_faces=faces // 3)
    assert same(one, many)
    assert len(one.faces) < faces / 2
    assert m.measure(m.placed(one, VoxelSize(1, 1, 1))).watertight


def test_an_object_wider_than_the_simplifier_counts_is_scaled_into_it():
    mesh = m.placed(whole(sphere(12, 5))[1], VoxelSize(4e5, 4e5, 4e5))
    small = simplified(mesh, error=4e5, reduction=10)
    assert m.measure(small).watertight
    assert m.measure(small).volume == pytest.approx(m.measure(mesh).volume, rel=0.2)
