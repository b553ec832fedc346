"""Pyramids: factors, means, majorities and geometry, against brute force on single voxels."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import petavox as pv
from petavox.errors import BadInput
from petavox.space import Box, VoxelSize
from petavox.volume import Kind, pyramid
from petavox.volume.opening import WRITERS, create, finish

starts = st.tuples(*[st.integers(-9, 9)] * 3)
shapes = st.tuples(*[st.integers(1, 9)] * 3)
factors = st.tuples(*[st.sampled_from([1, 2])] * 3)


def brute(values: np.ndarray, start, factors, kind: Kind) -> np.ndarray:
    """One voxel at a time: which fine voxels fall in it, then the mean or the majority."""
    groups: dict[tuple[int, ...], list] = {}
    for i in itertools.product(*map(range, values.shape)):
        key = tuple((a + b) // f for a, b, f in zip(i, start, factors, strict=True))
        groups.setdefault(key, []).append(values[i].item())
    low = [min(k[a] for k in groups) for a in range(3)]
    high = [max(k[a] for k in groups) + 1 for a in range(3)]
    out = np.zeros([b - a for a, b in zip(low, high, strict=True)], values.dtype)
    for key, held in groups.items():
        if kind is Kind.IMAGE:
            value = (2 * sum(held) + len(held)) // (2 * len(held))  # half up, exact
        else:
            count = Counter(held)
            most = max(count.values())
            best = [v for v, n in count.items() if n == most]
            value = min([v for v in best if v] or best)
        out[tuple(k - a for k, a in zip(key, low, strict=True))] = value
    return out


@settings(max_examples=100, deadline=None)
@given(shapes, starts, factors, st.sampled_from(list(Kind)), st.integers(0, 99))
def test_each_coarse_voxel_is_the_mean_or_majority_of_what_it_covers(
    shape, start, factors, kind, seed
):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, shape, np.uint64) * np.uint64(2**61)
    if kind is Kind.IMAGE and seed % 2:
        values = rng.integers(0, 256, shape, np.uint8)
    found = pyramid.coarsened(values, start, factors, kind)
    np.testing.assert_array_equal(found, brute(values, start, factors, kind))
    assert found.dtype == values.dtype
    assert found.shape == pyramid.coarser_box(Box.of_shape(shape, start), factors).shape


def test_float_means_are_taken_in_double_precision():
    values = np.array([[[1e8, 1.0], [1.0, 1.0]]], np.float32)
    found = pyramid.coarsened(values, (0, 0, 0), (1, 2, 2), Kind.IMAGE)
    assert found.item() == np.float32(100000003 / 4)


def test_ties_of_labels_go_to_the_smallest_id_and_never_to_nothing():
    values = np.array([[[0, 0], [7, 7]]], np.uint32)
    assert pyramid.coarsened(values, (0, 0, 0), (1, 2, 2), Kind.LABELS).item() == 7
    values = np.array([[[9, 5], [5, 9]]], np.uint32)
    assert pyramid.coarsened(values, (0, 0, 0), (1, 2, 2), Kind.LABELS).item() == 5
    values = np.array([[[0, 0], [0, 9]]], np.uint32)
    assert pyramid.coarsened(values, (0, 0, 0), (1, 2, 2), Kind.LABELS).item() == 0


def test_the_finest_axes_are_halved_first_until_nearly_isotropic():
    box = Box((0, 0, 0), (100, 5000, 5000))
    sizes = [tuple(s) for _, s in pyramid.plan(box, VoxelSize(40, 4, 4))]
    assert sizes[:4] == [(40, 8, 8), (40, 16, 16), (40, 32, 32), (80, 64, 64)]
    cube = Box((0, 0, 0), (999, 999, 999))
    sizes = [tuple(s) for _, s in pyramid.plan(cube, VoxelSize(16, 8, 8))]
    assert sizes[0] == (16, 16, 16)
    assert pyramid.next_factors(VoxelSize(8, 8, 8), (1, 50, 50)) == (1, 2, 2)
    assert pyramid.plan(Box((0, 0, 0), (128, 128, 128)), VoxelSize(8, 8, 8)) == []


@pytest.mark.parametrize("format", list(WRITERS))
@settings(max_examples=10, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(9, 40), st.integers(9, 40)),
    start=st.tuples(*[st.integers(-50, 50)] * 3),
    size=st.sampled_from([(40.0, 4.0, 4.0), (10.0, 10.0, 10.0), (50.0, 4.6, 4.6)]),
    kind=st.sampled_from([("image", "uint8"), ("image", "uint16"), ("labels", "uint64")]),
    seed=st.integers(0, 9),
)
def test_levels_made_block_by_block_in_any_order_equal_the_whole(
    format, shape, start, size, kind, seed
):
    box = Box.of_shape(shape, start)
    rng = np.random.default_rng(seed)
    whole = rng.integers(0, 5, shape).astype(kind[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v"
        v = create(
            path, box=box, voxel_size=size, dtype=kind[1], kind=kind[0], chunk=(4, 4, 4),
            shard=(8, 8, 8), format=format,
        )  # fmt: skip
        v.write(box, whole)
        levels = pyramid.prepare(path, smallest=8)
        assert len(levels) > 1
        for level in levels[1:]:
            blocks = list(pyramid.grid(path, level))
            for i in rng.permutation(len(blocks)):
                pyramid.build_block(path, level, blocks[i].write)
            pyramid.build_block(path, level, blocks[0].write)  # again: the same voxels
        finish(v, {})
        for before, level in itertools.pairwise(levels):
            f = [round(a / b) for a, b in zip(level.voxel_size, before.voxel_size, strict=True)]
            whole = brute(whole, before.box.start, f, Kind(kind[0]))
            found = pv.open(path, resolution=level.voxel_size)
            assert found.box == level.box
            np.testing.assert_array_equal(found.read(), whole)


def test_translations_of_levels_are_centres_of_what_they_cover(tmp_path):
    # voxels 3..8 along x at 4 nm have their centres at 12..32 nm; the first coarse voxel covers
    # voxels 2 and 3, whose common centre is at 10 nm
    v = create(
        tmp_path / "v", box=Box((0, 0, 3), (2, 16, 19)), voxel_size=(40, 4, 4), dtype="uint8",
        kind="image",
    )  # fmt: skip
    pyramid.build(tmp_path / "v", smallest=8, quiet=True)
    finish(v, {})
    data = json.loads((tmp_path / "v/zarr.json").read_text())["attributes"]["ome"]
    second = data["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert second[0]["scale"] == [40, 8, 8]
    assert second[1]["translation"] == [0, 2, 10]


def test_precomputed_levels_keep_corners(tmp_path):
    v = create(
        tmp_path / "v", box=Box((0, 0, -3), (2, 16, 13)), voxel_size=(40, 4, 4), dtype="uint8",
        kind="image", format="precomputed",
    )  # fmt: skip
    pyramid.build(tmp_path / "v", smallest=8, quiet=True)
    finish(v, {})
    scale = json.loads((tmp_path / "v/info").read_text())["scales"][1]
    assert scale["resolution"] == [8, 8, 40]
    assert scale["voxel_offset"] == [-2, 0, 0]
    assert scale["size"] == [9, 8, 2]


def test_little_memory_gives_the_same_level(tmp_path, rng):
    box = Box((1, 0, -3), (71, 90, 97))
    values = rng.integers(0, 3, box.shape, np.uint64)
    found = []
    for name, memory in (("a", 1024), ("b", 1)):
        v = create(
            tmp_path / name, box=box, voxel_size=(8, 8, 8), dtype="uint64", kind="labels",
            chunk=(16, 16, 16), shard=(64, 64, 64),
        )  # fmt: skip
        v.write(box, values)
        pyramid.build(tmp_path / name, smallest=64, memory_mb=memory, quiet=True)
        finish(v, {})
        found.append(pv.open(tmp_path / name, resolution=(16, 16, 16)).read())
    np.testing.assert_array_equal(found[0], found[1])


def test_blocks_that_cut_a_shard_and_finished_volumes_are_refused(tmp_path):
    box = Box((0, 0, 0), (8, 40, 40))
    v = create(
        tmp_path / "v", box=box, voxel_size=(8, 8, 8), dtype="uint8", kind="image",
        chunk=(4, 4, 4), shard=(8, 8, 8),
    )  # fmt: skip
    level = pyramid.prepare(tmp_path / "v", smallest=20)[1]
    with pytest.raises(BadInput, match="not whole shards"):
        pyramid.build_block(tmp_path / "v", level, Box((0, 0, 0), (4, 4, 4)))
    with pytest.raises(BadInput, match="finest"):
        pyramid.build_block(tmp_path / "v", v.levels[0], box)
    assert all(
        b.write.is_aligned((4, 8, 8), level.box) for b in pyramid.grid(tmp_path / "v", level)
    )
    finish(v, {})
    with pytest.raises(BadInput, match="complete already"):
        pyramid.prepare(tmp_path / "v")
