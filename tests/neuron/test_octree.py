"""Cutting and encoding for Neuroglancer, read back by an independent parse; shards; mesh files."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import tensorstore as ts
from hypothesis import given, settings
from hypothesis import strategies as st

from petavox.errors import BadInput
from petavox.neuron import mesh as m
from petavox.neuron import mesh_files, octree
from petavox.neuron.sharding import Sharding, ShardWriter, murmur
from petavox.neuron.simplify import levels
from petavox.space import VoxelSize
from tests.neuron import precomputed


def ball(n: int = 30, radius: float = 12.3) -> m.Fragment:
    g = np.mgrid[:n, :n, :n] - (n - 1) / 2
    labels = (np.sqrt((g**2).sum(0)) <= radius).astype(np.uint8)
    return m.fragments(np.pad(labels, 1), (-101, 99, 999))[1]


SIZE = VoxelSize(40, 16, 16)


def volume_of(v, f) -> float:
    a, b, c = (v[f[:, k]] for k in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6)


def rim_of(v, f) -> int:
    """Directed edges without an opposite, after merging equal positions."""
    _, at = np.unique(v, axis=0, return_inverse=True)
    f = at.reshape(-1)[f]
    f = f[(f[:, 0] != f[:, 1]) & (f[:, 1] != f[:, 2]) & (f[:, 2] != f[:, 0])]
    edges = np.concatenate([f[:, [0, 1]], f[:, [1, 2]], f[:, [2, 0]]])
    count: dict = {}
    for a, b in edges.tolist():
        count[(a, b)] = count.get((a, b), 0) + 1
    return sum(n != count.get((b, a), 0) for (a, b), n in count.items())


@settings(max_examples=30, deadline=None)
@given(axis=st.integers(0, 2), place=st.floats(-11, 11), seed=st.integers(0, 1000))
def test_a_cut_keeps_the_surface_closed_and_no_triangle_crosses(axis, place, seed):
    rng = np.random.default_rng(seed)
    mesh = m.placed(ball(14, 5.2), VoxelSize(1, 1, 1))
    points = mesh.vertices - mesh.vertices.mean(0) + rng.normal(0, 0.01, mesh.vertices.shape)
    if seed % 2:  # vertices that lie in the plane
        points[:, axis] = np.where(abs(points[:, axis] - place) < 0.3, place, points[:, axis])
    v, f = octree.cut(points, mesh.faces, axis, place)
    side = v[f][:, :, axis]
    assert not ((side.min(1) < place) & (side.max(1) > place)).any()
    assert volume_of(v, f) == pytest.approx(volume_of(points, mesh.faces))
    assert rim_of(v, f) == 0


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Three objects in two shards."""
    folder = tmp_path_factory.mktemp("meshes")
    detail = levels(ball(), SIZE, error=15, most_levels=3, fewest_faces=20)
    code = octree.encoded(detail)
    ids = np.array([5, 6, 2**45 + 1], np.uint64)
    sharding = Sharding(1, 1)
    shards, _ = sharding.places(ids)
    for shard in np.unique(shards):
        with ShardWriter(folder, sharding, int(shard)) as out:
            for label in ids[shards == shard]:
                out.add(int(label), code.manifest, before=code.fragments)
    info = {**octree.INFO, "sharding": sharding.spec()}
    (folder / "info").write_text(json.dumps(info))
    return folder, detail


def test_what_neuroglancer_reads_is_the_mesh_in_nm_xyz_at_every_level(written):
    folder, detail = written
    assert precomputed.ids(folder) == [5, 6, 2**45 + 1]
    for k, mesh in enumerate(detail):
        v, f, facts = precomputed.mesh(folder, 2**45 + 1, k)
        assert facts["lods"] == len(detail) == 3
        assert list(facts["counts"])[-1] == 1
        assert (np.diff(facts["scales"]) > 0).all()
        exact = m.measure(mesh)
        assert volume_of(v, f) == pytest.approx(exact.volume, rel=1e-3)
        low, high = mesh.vertices.min(0)[::-1], mesh.vertices.max(0)[::-1]
        step = facts["chunk"] * 2**k / (2**16 - 1)
        assert (abs(v.min(0) - low) <= step).all()
        assert (abs(v.max(0) - high) <= step).all()
        # pieces meet: after rounding to the grid the closed surface has no rim
        grid = facts["chunk"] / (2**16 - 1)
        assert rim_of(np.rint((v - facts["origin"]) / grid), f) == 0


def test_no_triangle_crosses_the_nodes_of_the_next_finer_level(written):
    folder, detail = written
    for k in range(len(detail)):
        v, f, facts = precomputed.mesh(folder, 5, k)
        step = facts["chunk"] * (1 if k == 0 else 2 ** (k - 1))
        corner = (v[f] - facts["origin"]) / step
        loose = 2.0**-14
        for axis in range(3):
            low, high = corner[:, :, axis].min(1), corner[:, :, axis].max(1)
            assert (np.floor(low + loose) + 1 >= high - loose).all()


def test_a_tip_that_vanishes_when_it_is_rounded_is_no_fragment():
    tip = np.array([[0, 0, 0], [20, 0, 0], [0, 20, 0], [2, 2, 50 + 1e-6]], float)
    far = np.array([[99, 99, 0], [100, 99, 0], [99, 100, 0], [99, 99, 100]], float)
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]])
    mesh = m.Mesh(np.concatenate([tip, far]), np.concatenate([faces, faces + 4]))
    code = octree.encoded([mesh, mesh])
    nodes = np.frombuffer(code.manifest, "<u4", count=2, offset=24 + 4 + 2 * 4 + 2 * 12)
    # the far one has two halves, the tip's second half is gone; and one node above them
    assert nodes.tolist() == [3, 1]


def test_nodes_are_in_z_order_x_fastest():
    at = np.array([[1, 1, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    order = np.argsort(octree.z_order(at))
    assert at[order].tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_murmur_is_the_hash_that_tensorstore_uses(tmp_path, rng):
    some = rng.integers(1, 2**63, 200).astype(np.uint64)
    ids = np.unique(np.concatenate([np.array([1, 2, 2**64 - 1], np.uint64), some]))
    sharding = Sharding(3, 2)
    shards, _ = sharding.places(ids)
    for shard in np.unique(shards):
        with ShardWriter(tmp_path, sharding, int(shard)) as out:
            for label in ids[shards == shard]:
                out.add(int(label), str(label).encode(), before=b"some bytes before it")
    kv = ts.KvStore.open(
        {
            "driver": "neuroglancer_uint64_sharded",
            "base": f"file://{tmp_path}/",
            "metadata": sharding.spec(),
        }
    ).result()
    for label in ids:
        assert kv.read(int(label).to_bytes(8, "big")).result().value == str(label).encode()
    assert len(np.unique(murmur(ids))) == len(ids)


def test_a_shard_that_fails_leaves_no_file(tmp_path):
    sharding = Sharding(1, 0)
    wrong = 1 - int(sharding.places(np.array([7], np.uint64))[0][0])
    with pytest.raises(BadInput, match="7 is not of"), ShardWriter(tmp_path, sharding, wrong) as w:
        w.add(7, b"x")
    assert list(tmp_path.iterdir()) == []


def test_obj_ply_and_glb_hold_the_same_surface():
    mesh = m.placed(ball(12, 4.4), SIZE)
    v0, f0 = m.as_xyz(mesh)
    lines = mesh_files.obj(mesh).decode().splitlines()
    v = np.array([x.split()[1:] for x in lines if x.startswith("v ")], float)
    f = np.array([x.split()[1:] for x in lines if x.startswith("f ")], int) - 1
    assert np.allclose(v, v0, atol=1e-3)
    assert np.array_equal(f, f0)

    data = mesh_files.ply(mesh)
    head, body = data.split(b"end_header\n", 1)
    assert f"element vertex {len(v0)}".encode() in head
    assert np.allclose(np.frombuffer(body, "<f4", 3 * len(v0)).reshape(-1, 3), v0)
    rows = np.frombuffer(body[12 * len(v0) :], np.dtype([("n", "u1"), ("v", "<i4", 3)]))
    assert np.array_equal(rows["v"], f0)

    data = mesh_files.glb(mesh)
    magic, version, size = struct.unpack("<4sII", data[:12])
    assert (magic, version, size) == (b"glTF", 2, len(data))
    n = struct.unpack("<I", data[12:16])[0]
    document = json.loads(data[20 : 20 + n])
    body = data[28 + n :]
    count = document["accessors"][0]["count"]
    assert np.allclose(np.frombuffer(body, "<f4", 3 * count).reshape(-1, 3) * 1000, v0, atol=0.01)
    assert np.array_equal(np.frombuffer(body, "<u4", offset=12 * count).reshape(-1, 3), f0)
