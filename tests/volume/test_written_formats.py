"""What is written is read back: every writable format, type, shape and offset."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import petavox as pv
from petavox.errors import AlreadyExists, BadInput, NotComplete
from petavox.space import Box, Grid, VoxelSize
from petavox.volume.export import export_volume
from petavox.volume.opening import WRITERS, create, finish
from petavox.volume.transfer import import_volume, slabs

TYPES = {
    "image": ("uint8", "uint16", "uint32", "uint64", "float32"),
    "labels": ("uint32", "uint64"),
}
KINDS = [(kind, dtype) for kind, types in TYPES.items() for dtype in types]

shapes = st.tuples(*[st.integers(1, 13)] * 3)
starts = st.tuples(*[st.integers(-40, 40)] * 3)
sizes = st.sampled_from([(40.0, 4.0, 4.0), (10.0, 10.0, 10.0), (50.0, 4.6, 4.6), (3.5, 8.0, 16.0)])
chunks = st.tuples(*[st.sampled_from([3, 4, 8])] * 3)


def filled(box: Box, dtype: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.normal(size=box.shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max, box.shape, dtype, endpoint=True)


@pytest.mark.parametrize("format", list(WRITERS))
@settings(max_examples=25, deadline=None)
@given(
    shape=shapes, start=starts, size=sizes, chunk=chunks, times=st.integers(2, 3),
    kind=st.sampled_from(KINDS), seed=st.integers(0, 9),
)  # fmt: skip
def test_blocks_of_shards_are_read_back(format, shape, start, size, chunk, times, kind, seed):
    box = Box.of_shape(shape, start)
    values = filled(box, kind[1], seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v"
        made = create(
            path, box=box, voxel_size=size, dtype=kind[1], kind=kind[0], chunk=chunk,
            shard=tuple(c * times for c in chunk), format=format,
        )  # fmt: skip
        for block in Grid(box, made.write_shape):
            made.write(block.write, values[block.write.slices(box.start)])
        finish(made, {"stage": "test"})
        found = pv.open(path)
        np.testing.assert_array_equal(found.read(), values)
        assert found.box == box
        assert found.voxel_size == VoxelSize(*size)
        assert (found.kind, found.dtype) == kind
        assert found.write_shape == made.write_shape


@pytest.mark.parametrize("format", list(WRITERS))
def test_a_part_is_read_by_its_own_coordinates(tmp_path, format, rng):
    box = Box((-5, 3, -20), (12, 30, 9))
    values = rng.integers(0, 255, box.shape, np.uint8)
    made = create(
        tmp_path / "v", box=box, voxel_size=(40, 4, 4), dtype="uint8", kind="image", format=format
    )
    made.write(box, values)
    finish(made, {})
    v = pv.open(tmp_path / "v")
    np.testing.assert_array_equal(v[-2:4, 10:20, -20:-10], values[3:9, 7:17, 0:10])
    np.testing.assert_array_equal(v[0], values[5])
    np.testing.assert_array_equal(v[..., -1], values[:, :, 19])
    np.testing.assert_array_equal(np.asarray(v), values)
    padded = v.read(Box((-7, 3, -20), (-4, 4, -19)), fill=9)
    assert padded.ravel().tolist() == [9, 9, values[0, 0, 0]]
    with pytest.raises(BadInput, match="leaves"):
        v.read(Box((-7, 3, -20), (-4, 4, -19)))
    with pytest.raises(IndexError):
        v[0:100]
    with pytest.raises(IndexError):
        v[::2]
    with pytest.raises(BadInput, match="opened for reading"):
        v.write(box, values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format", ["hdf5", "ome-zarr", "precomputed"])
def test_export_and_import_keep_everything(tmp_path, format, kind):
    box = Box((-3, 5, -7), (6, 16, 14))
    values = filled(box, kind[1], 1)
    made = create(
        tmp_path / "a", box=box, voxel_size=(50, 4.6, 4.6), dtype=kind[1], kind=kind[0],
        chunk=(4, 4, 4), shard=(8, 8, 8),
    )  # fmt: skip
    made.write(box, values)
    finish(made, {})
    target = str(tmp_path / ("b.h5/x" if format == "hdf5" else "b"))
    export_volume(pv.open(tmp_path / "a"), target, format=format, quiet=True)
    back = tmp_path / "c"
    import_volume(pv.open(target), str(back), quiet=True)
    for v in (pv.open(target), pv.open(back)):
        np.testing.assert_array_equal(v.read(), values)
        assert v.box == box
        assert v.voxel_size == VoxelSize(50, 4.6, 4.6)
        assert (v.kind, v.dtype) == kind


WRITER = """
import sys
import numpy as np
import petavox as pv
v = pv.open(sys.argv[1], writable=True, incomplete=True)
for block in pv.Grid(v.box, v.write_shape):
    if block.number % 2 == int(sys.argv[2]):
        for piece in pv.Grid(block.write, (8, 8, 8)):
            v.write(piece.write, np.full(piece.write.shape, block.number + 1, v.dtype))
"""


@pytest.mark.parametrize("format", list(WRITERS))
def test_two_processes_write_different_shards_and_nothing_is_lost(tmp_path, format):
    box = Box((-3, 0, 2), (29, 32, 35))
    path = str(tmp_path / "v")
    v = create(
        path, box=box, voxel_size=(8, 8, 8), dtype="uint64", kind="labels", chunk=(4, 4, 4),
        shard=(16, 16, 16), format=format,
    )  # fmt: skip
    workers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(i)]) for i in (0, 1)]
    assert [w.wait(120) for w in workers] == [0, 0]
    for block in Grid(box, v.write_shape):
        assert (v.read(block.write) == block.number + 1).all()


@given(
    shape=st.tuples(*[st.integers(1, 3000)] * 3), start=starts,
    chunk=st.tuples(*[st.sampled_from([16, 64])] * 3), times=st.integers(1, 8),
    itemsize=st.sampled_from([1, 2, 8]), memory=st.sampled_from([4, 64, 1024]),
)  # fmt: skip
def test_slabs_tile_the_box_in_whole_chunks_and_keep_to_the_memory(
    shape, start, chunk, times, itemsize, memory
):
    box = Box.of_shape(shape, start)
    shard = tuple(c * times for c in chunk)
    found = list(slabs(box, shard, chunk, itemsize, memory))
    assert sum(s.size for s in found) == box.size
    assert found[0].start == box.start
    assert found[-1].stop == box.stop
    for s in found:
        assert box.contains(s)
        assert s.is_aligned(chunk, box)
        assert 2 * s.size * itemsize <= memory << 20
    # whole sections as long as some chunks of them fit
    if 2 * chunk[0] * shape[1] * shape[2] * itemsize <= memory << 20:
        assert all(s.shape[1:] == box.shape[1:] for s in found)


def test_import_in_little_memory_gives_the_same_voxels(tmp_path, rng):
    box = Box((0, 0, 0), (70, 90, 110))
    values = rng.integers(0, 2**32, box.shape, np.uint64)
    made = create(
        tmp_path / "a", box=box, voxel_size=(8, 8, 8), dtype="uint64", kind="labels",
        chunk=(16, 16, 16), shard=(32, 32, 32),
    )  # fmt: skip
    made.write(box, values)
    finish(made, {})
    for name, memory in (("much", 1024), ("little", 1)):
        import_volume(
            pv.open(tmp_path / "a"), str(tmp_path / name), chunk=(16, 16, 16), shard=(64, 64, 64),
            memory_mb=memory, quiet=True,
        )  # fmt: skip
    little, much = pv.open(tmp_path / "little"), pv.open(tmp_path / "much")
    np.testing.assert_array_equal(little.read(), values)
    assert little.levels == much.levels
    np.testing.assert_array_equal(
        pv.open(tmp_path / "little", resolution=little.levels[-1].voxel_size).read(),
        pv.open(tmp_path / "much", resolution=little.levels[-1].voxel_size).read(),
    )


def test_a_box_is_imported_at_its_own_coordinates(tmp_path, rng):
    box = Box((0, -8, 0), (10, 12, 14))
    values = rng.integers(0, 255, box.shape, np.uint8)
    made = create(tmp_path / "a", box=box, voxel_size=(8, 8, 8), dtype="uint8", kind="image")
    made.write(box, values)
    finish(made, {})
    part = Box((2, -5, 1), (9, 0, 13))
    import_volume(pv.open(tmp_path / "a"), str(tmp_path / "b"), box=part, quiet=True)
    b = pv.open(tmp_path / "b")
    assert b.box == part
    np.testing.assert_array_equal(b.read(), values[part.slices(box.start)])


def test_a_volume_is_refused_until_it_is_finished(tmp_path):
    made = create(
        tmp_path / "v", box=Box((0, 0, 0), (2, 2, 2)), voxel_size=(1, 1, 1), dtype="uint8",
        kind="image",
    )  # fmt: skip
    with pytest.raises(NotComplete, match="not complete"):
        pv.open(tmp_path / "v")
    assert pv.open(tmp_path / "v", incomplete=True).shape == (2, 2, 2)
    finish(made, {"stage": "test"})
    assert pv.open(tmp_path / "v").shape == (2, 2, 2)


def test_an_existing_output_is_kept_unless_told(tmp_path):
    box = Box((0, 0, 0), (2, 2, 2))
    how = {"box": box, "voxel_size": (1, 1, 1), "dtype": "uint8", "kind": "image"}
    finish(create(tmp_path / "v", **how), {})
    with pytest.raises(AlreadyExists, match="--overwrite"):
        create(tmp_path / "v", **how)
    create(tmp_path / "v", **how, overwrite=True)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    with pytest.raises(BadInput, match="not a volume"):
        create(tmp_path / "thesis", **how, overwrite=True)
    assert (tmp_path / "thesis/chapter.txt").exists()


def test_the_metadata_say_the_offset_as_the_first_voxels_centre(tmp_path):
    create(
        tmp_path / "v", box=Box((2, -3, 5), (4, 4, 9)), voxel_size=(40, 6, 4), dtype="uint8",
        kind="image",
    )  # fmt: skip
    data = json.loads((tmp_path / "v/zarr.json").read_text())["attributes"]["ome"]
    assert data["multiscales"][0]["datasets"][0]["coordinateTransformations"] == [
        {"type": "scale", "scale": [40.0, 6.0, 4.0]},
        {"type": "translation", "translation": [80.0, -18.0, 20.0]},
    ]


def test_precomputed_metadata_are_xyz(tmp_path):
    create(
        tmp_path / "v", box=Box((2, -3, 5), (4, 4, 9)), voxel_size=(40, 6, 4), dtype="uint64",
        kind="labels", format="precomputed",
    )  # fmt: skip
    info = json.loads((tmp_path / "v/info").read_text())
    assert info["type"] == "segmentation"
    (scale,) = info["scales"]
    assert scale["resolution"] == [4, 6, 40]
    assert scale["size"] == [4, 7, 2]
    assert scale["voxel_offset"] == [5, -3, 2]
    assert scale["encoding"] == "compressed_segmentation"
    assert scale["sharding"]["@type"] == "neuroglancer_uint64_sharded_v1"


def test_relative_paths_and_links_are_followed(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "here")
    box = Box((0, 0, 0), (2, 3, 4))
    v = create("../link/v", box=box, voxel_size=(8, 8, 8), dtype="uint8", kind="image")
    v.write(box, np.full(box.shape, 7, np.uint8))
    finish(v, {})
    assert (pv.open(tmp_path / "real/v").read() == 7).all()
    assert (pv.open("../real/v").read() == 7).all()
