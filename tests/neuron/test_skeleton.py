"""Skeletons: joining, thinning, ticks, measures, files; TEASAR in blocks beside the whole."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from petavox.neuron import skeleton as sk
from petavox.neuron import skeleton_files
from petavox.neuron.sharding import Sharding, ShardWriter
from petavox.space import Box, Grid, VoxelSize
from tests.neuron import precomputed

SIZE = VoxelSize(40, 16, 16)


def line(start, stop, label=1, voxels=100, radius=50.0) -> sk.Piece:
    """A piece along x from start to stop (inclusive)."""
    z, y, x = start
    n = stop - x + 1
    vertices = np.stack([np.full(n, z), np.full(n, y), np.arange(x, stop + 1)], 1)
    edges = np.stack([np.arange(n - 1), np.arange(1, n)], 1)
    return sk.Piece(label, voxels, vertices, edges, np.full(n, radius))


def test_pieces_that_share_a_voxel_become_one_tree_in_any_order():
    a, b = line((3, 4, 0), 10), line((3, 4, 10), 25)
    for pieces in ([a, b], [b, a]):
        found = sk.join(pieces, SIZE, const=0, scale=0.01)
        measures = sk.measure(found)
        assert measures == sk.Measures(25 * 16.0, 0, 2, 1)
        assert found.vertices[0].tolist() == [3.5 * 40, 4.5 * 16, 0.5 * 16]


def test_parts_smaller_than_dust_are_judged_after_joining():
    cut = [line((0, 0, 0), 4, voxels=60), line((0, 0, 4), 9, voxels=60)]
    alone = line((50, 0, 0), 9, voxels=90)
    found = sk.join([*cut, alone], SIZE, const=0, scale=0.01, dust=100 * SIZE.volume)
    assert sk.measure(found).trees == 1
    assert found.vertices[:, 0].max() < 40


def test_paths_side_by_side_within_the_ball_become_one():
    pair = [line((0, 0, 0), 100, radius=200.0), line((0, 6, 0), 100, radius=150.0)]
    ladder = sk.Piece(
        1, 0,
        np.array([[0, y, x] for x in (0, 100) for y in range(7)]),
        np.array([[k, k + 1] for s in (0, 7) for k in range(s, s + 6)]),
        np.full(14, 100.0),
    )  # fmt: skip
    found = sk.join([*pair, ladder], SIZE, scale=1.5, const=300)
    measures = sk.measure(found)
    assert measures.trees == 1
    assert measures.branch_points == 0
    assert measures.cable == pytest.approx(100 * 16, rel=0.1)


def steps(*corners) -> np.ndarray:
    """Voxels along straight lines between corners, each once, one axis at a time."""
    out = [np.array(corners[0])]
    for corner in corners[1:]:
        while (out[-1] != corner).any():
            out.append(out[-1] + np.sign(np.array(corner) - out[-1]))
    return np.array(out)


def chain(voxels, radius) -> sk.Piece:
    """A piece along voxels, in their order."""
    n = len(voxels)
    edges = np.stack([np.arange(n - 1), np.arange(1, n)], 1)
    return sk.Piece(1, n, voxels, edges, np.broadcast_to(np.asarray(radius, float), n))


def test_a_branch_that_passes_close_to_its_trunk_is_kept_whole():
    # out 12 voxels, 60 along the trunk and half way back: all of it in the trunk's balls
    trunk = steps((0, 0, 0), (0, 0, 200))
    branch = steps((0, 0, 100), (0, 12, 100), (0, 12, 160), (0, 6, 160))
    found = sk.join([chain(trunk, 60.0), chain(branch, 30.0)], VoxelSize(16, 16, 16))
    assert sk.measure(found) == sk.Measures((200 + 12 + 60 + 6) * 16.0, 1, 3, 1)


@pytest.mark.parametrize("seed", range(6))
def test_no_end_is_lost_that_lies_farther_along_its_branch_than_the_ball_there(seed):
    rng = np.random.default_rng(seed)
    size, scale, const = VoxelSize(40, 16, 16), 1.5, 300.0
    nm = np.array(tuple(size))
    tree = {(0, 0, x): (float(rng.uniform(50, 400)), None) for x in range(150)}
    edges = [((0, 0, x), (0, 0, x + 1)) for x in range(149)]
    for _ in range(25):  # branches from anywhere, that run beside the trunk in its balls or stray
        here = list(tree)[rng.integers(len(tree))]
        thin = float(rng.uniform(20, 100))
        along = (0, 0, int(rng.choice([-1, 1])))
        out = tuple(int(a) for a in rng.integers(-1, 2, 3))
        turn, stop = rng.integers(1, [30, 80])
        for k in range(turn + stop):
            there = tuple(int(a) for a in np.array(here) + (out if k < turn else along))
            if there in tree:
                break
            tree[there] = (thin, here)
            edges.append((here, there))
            here = there
    number = {voxel: k for k, voxel in enumerate(tree)}
    vertices = (np.array(list(tree)) + 0.5) * nm
    graph = sk.Skeleton(
        vertices,
        np.array([[number[a], number[b]] for a, b in edges]),
        np.array([radius for radius, _ in tree.values()]),
    )
    kept = sk.thinned(graph, scale=scale, const=const)
    assert sk.measure(kept).trees == 1
    at = [number[tuple(int(i) for i in v)] for v in np.floor(kept.vertices / nm)]
    whole = sk._matrix(graph.edges, np.linalg.norm(
        np.diff(vertices[graph.edges], axis=1)[:, 0], axis=1), len(vertices))  # fmt: skip
    # from every kept vertex by straight line in its inscribed ball, then along the graph
    apart = np.linalg.norm(vertices[at][:, None] - vertices[None], axis=2)
    along = sk.csgraph.dijkstra(whole, False)
    ends = np.flatnonzero(np.bincount(graph.edges.reshape(-1)) == 1)
    for lost in set(ends.tolist()) - set(at):
        ways = np.where(apart <= kept.radii[:, None], apart + along[lost][None], np.inf)
        assert (ways.min(1) <= scale * kept.radii + const).any()


def test_a_wide_loop_is_opened_not_lost():
    n = 200
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    ring = np.stack([np.zeros(n), 300 * np.sin(t), 300 * np.cos(t)], 1).astype(np.int64)
    edges = np.stack([np.arange(n), (np.arange(n) + 1) % n], 1)
    found = sk.join([sk.Piece(1, 1, ring, edges, np.full(n, 50.0))], SIZE, scale=1, const=100)
    measures = sk.measure(found)
    assert measures.trees == 1
    assert measures.branch_points == 0
    assert measures.cable == pytest.approx(2 * np.pi * 300 * 16, rel=0.06)


def test_a_long_axon_is_joined_in_memory_that_follows_its_vertices():
    n = 60_000  # about a millimetre; 57 vertices in every ball
    axon = line((0, 0, 0), n - 1, radius=100.0)
    tracemalloc.start()
    found = sk.join([axon], SIZE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.vertices) == n
    assert peak < 1000 * n


def test_balls_are_the_same_in_batches_of_any_size(monkeypatch):
    rng = np.random.default_rng(4)
    points, radius = rng.uniform(0, 100, (300, 3)), rng.uniform(0, 40, 300)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    expected = {(a, b) for a, b in np.argwhere(apart[::2] <= radius[::2, None]) * [2, 1]}
    for pairs in (1, 100, 10**6):
        monkeypatch.setattr(sk, "_PAIRS", pairs)
        seen = list(sk._in_balls(sk.cKDTree(points), np.arange(0, 300, 2), radius))
        rows = [(a, b, d) for batch in seen for a, b, d in zip(*batch, strict=True)]
        assert {(a, b) for a, b, _ in rows} == expected
        assert len(rows) == len(expected)
        assert all(d == pytest.approx(apart[a, b]) for a, b, d in rows)


def test_ticks_go_the_shortest_first_and_a_stem_stays():
    #  a stem of 40 along x; at x = 20 one tick of 3 and one of 5 along y
    stem = np.array([[0, 0, x] for x in range(41)])
    up = np.array([[0, y, 20] for y in range(1, 4)])
    down = np.array([[0, -y, 20] for y in range(1, 6)])
    v = np.concatenate([stem, up, down]).astype(float)
    e = [[k, k + 1] for k in range(40)]
    e += [[20, 41], [41, 42], [42, 43], [20, 44], [44, 45], [45, 46], [46, 47], [47, 48]]
    whole = sk.Skeleton(v, np.array(e), np.ones(len(v)))
    assert sk.measure(whole) == sk.Measures(48.0, 1, 4, 1)
    assert sk.measure(sk.without_ticks(whole, 4)) == sk.Measures(45.0, 1, 3, 1)
    assert sk.measure(sk.without_ticks(whole, 6)) == sk.Measures(40.0, 0, 2, 1)
    assert sk.measure(sk.without_ticks(whole, 1000)) == sk.Measures(40.0, 0, 2, 1)


def test_swc_lists_parents_first_and_keeps_length_and_radius(tmp_path):
    v = np.array([[0, 0, 0], [0, 0, 10], [0, 0, 20], [0, 10, 10], [9, 9, 90]], float)
    skeleton = sk.Skeleton(v, np.array([[0, 1], [1, 2], [1, 3]]), np.array([1, 5, 2, 3, 4.0]))
    file = tmp_path / "7.swc"
    file.write_text(skeleton_files.swc(skeleton, 7))
    rows = precomputed.swc(file)
    seen = {-1}
    for row in rows:
        assert row[6] in seen
        seen.add(row[0])
    assert (rows[:, 6] == -1).sum() == 2
    assert rows[0, 2:6].tolist() == [10, 0, 0, 5]  # x first, the thickest is the root
    at = {r[0]: r[2:5] for r in rows}
    length = sum(np.linalg.norm(at[r[6]] - r[2:5]) for r in rows if r[6] != -1)
    assert length == pytest.approx(sk.measure(skeleton).cable)


def test_precomputed_skeletons_read_back_in_nm_xyz(tmp_path):
    skeleton = sk.join([line((3, 4, 0), 30, radius=77.0)], SIZE, const=0, scale=0.01)
    sharding = Sharding(0, 0)
    with ShardWriter(tmp_path, sharding, 0) as out:
        out.add(2**40, skeleton_files.precomputed(skeleton))
    info = {**skeleton_files.INFO, "sharding": sharding.spec()}
    (tmp_path / "info").write_text(json.dumps(info))
    v, e, attributes = precomputed.skeleton(tmp_path, 2**40)
    assert np.allclose(v, skeleton.vertices[:, ::-1])
    assert np.array_equal(e, skeleton.edges)
    assert np.allclose(attributes["radius"], 77.0)


def test_without_kimimaro_a_sentence_says_how_to_get_it():
    code = (
        "import sys; sys.modules['kimimaro'] = None\n"
        "from petavox.errors import MissingExtra\n"
        "from petavox.neuron import teasar\n"
        "try: teasar.require()\n"
        "except MissingExtra as e: print(e)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'petavox[skeletons]'" in said.stdout


def tubes() -> np.ndarray:
    """A Y of tubes (id 2^34 + 1) across every block, a straight tube (2), a speck (3)."""
    labels = np.zeros((40, 96, 96), np.uint64)
    z, y, x = np.mgrid[:40, :96, :96]

    def tube(a, b, radius: float) -> np.ndarray:
        a, b = np.array(a) * [40, 16, 16], np.array(b) * [40, 16, 16]
        p = np.stack([z * 40, y * 16, x * 16], -1)
        t = np.clip(((p - a) @ (b - a)) / ((b - a) @ (b - a)), 0, 1)
        return np.linalg.norm(p - a - t[..., None] * (b - a), axis=-1) <= radius

    fork = (20, 48, 48)
    for end in ((4, 6, 10), (35, 10, 88), (20, 92, 50)):
        labels[tube(fork, end, 90)] = 2**34 + 1
    labels[tube((6, 85, 6), (6, 85, 90), 60)] = 2
    labels[35, 80, 80] = 3
    return labels


def skeletons(
    labels: np.ndarray, block, start=(-7, 100, 3), context=(4, 10, 10), size=SIZE
) -> dict[int, sk.Skeleton]:
    teasar = pytest.importorskip("petavox.neuron.teasar")
    pytest.importorskip("kimimaro", reason="extra petavox[skeletons] is not installed")
    total = Box.of_shape(labels.shape, start)
    pieces: dict[int, list[sk.Piece]] = {}
    for b in Grid(total, block, context):
        values = labels[b.read.slices(start)]
        for piece in teasar.block_pieces(
            values, b.read, b.write, total, size, teasar.TeasarSettings(), dust=1e5
        ):
            pieces.setdefault(piece.label, []).append(piece)
    joined = {label: sk.join(p, size, dust=1e5) for label, p in pieces.items()}
    return {label: s for label, s in joined.items() if len(s.vertices)}


@functools.cache
def in_blocks() -> dict[int, sk.Skeleton]:
    return skeletons(tubes(), (20, 48, 48))


def test_blocks_give_the_skeletons_of_the_whole_within_a_few_percent():
    labels = tubes()
    one = skeletons(labels, labels.shape)
    many = in_blocks()
    odd = skeletons(labels, (17, 61, 37))
    assert one.keys() == many.keys() == odd.keys() == {2, 2**34 + 1}
    for label in one:
        a = sk.measure(one[label])
        for other in (many, odd):
            b = sk.measure(other[label])
            assert b.cable == pytest.approx(a.cable, rel=0.08)
            assert (b.branch_points, b.end_points, b.trees) == (
                a.branch_points,
                a.end_points,
                a.trees,
            )
    y = sk.measure(one[2**34 + 1])
    assert (y.branch_points, y.end_points, y.trees) == (1, 3, 1)
    straight = sk.measure(one[2])
    assert straight.cable == pytest.approx(84 * 16 + 2 * 60, rel=0.1)


def test_blocks_inside_a_soma_have_finite_radii_and_lose_no_neurite():
    # a cell body wider than a block of 8, and a neurite from it to the far end
    z, y, x = np.mgrid[:24, :48, :120]
    body = ((z - 12) * 40) ** 2 + ((y - 24) * 16) ** 2 + ((x - 30) * 16) ** 2 <= 460**2
    labels = (body | ((abs(z - 12) < 2) & (abs(y - 24) < 4) & (x > 30))).astype(np.uint64)
    one = skeletons(labels, labels.shape)[1]
    many = skeletons(labels, (6, 12, 12), context=(1, 2, 2))[1]
    for found in (one, many):
        assert sk.measure(found).trees == 1
        assert found.radii.max() < 600
        assert found.vertices[:, 2].max() > (3 + 110) * 16


def test_a_soma_and_its_neurite_are_one_tree_in_blocks():
    # a body of 4 um radius, more than kimimaro's soma mode starts at, and neurites through it
    z, y, x = np.mgrid[:90, :90, :200]
    thin = ((z - 45) ** 2 + (y - 45) ** 2 <= 9) | ((z - 45) ** 2 + (x - 150) ** 2 <= 9)
    body = (z - 45) ** 2 + (y - 45) ** 2 + (x - 45) ** 2 <= 40**2
    labels = (body | thin).astype(np.uint64)
    labels[:3, :3, :3] = 2  # otherwise kimimaro has one object alone, and other borders
    size = VoxelSize(100, 100, 100)
    one, many = (
        sk.measure(skeletons(labels, b, context=(6, 6, 6), size=size)[1])
        for b in (labels.shape, (90, 90, 100))
    )
    assert one.trees == many.trees == 1
    assert many.end_points == one.end_points
    assert many.cable == pytest.approx(one.cable, rel=0.1)


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_a_contact_across_an_edge_or_corner_of_blocks_joins(axes):
    # a diagonal line of single voxels that crosses the seams exactly where blocks meet; the
    # first of its axes falls while the others rise
    at = np.full((24, 3), 5)
    at[:, list(axes)] = np.arange(24)[:, None]
    at[:, axes[0]] = 23 - at[:, axes[0]]
    labels = np.zeros((24, 24, 24), np.uint64)
    labels[tuple(at.T)] = 1
    one = sk.measure(skeletons(labels, (24, 24, 24))[1])
    many = sk.measure(skeletons(labels, (12, 12, 12))[1])
    assert one.trees == many.trees == 1
    assert many.cable == pytest.approx(one.cable)


def test_skeletons_lie_inside_their_object_with_its_radius():
    labels, start = tubes(), np.array((-7, 100, 3))
    found = in_blocks()
    for label, skeleton in found.items():
        at = np.floor(skeleton.vertices / np.array(tuple(SIZE))).astype(int) - start
        assert (labels[tuple(at.T)] == label).all()
    middle = np.median(found[2].radii)
    assert 40 <= middle <= 80  # a tube of 60 nm


@pytest.mark.parametrize("shape", [(9, 17, 17), (9, 17, 20), (1, 1, 1), (1, 1, 7), (3, 1, 1)])
def test_blocks_that_are_one_row_of_voxels_join_the_others(shape):
    teasar = pytest.importorskip("petavox.neuron.teasar")
    pytest.importorskip("kimimaro", reason="extra petavox[skeletons] is not installed")
    labels, size = np.full(shape, 5, np.uint32), VoxelSize(30, 8, 8)
    total = Box.of_shape(shape)
    found = []
    for block in Grid(total, (8, 16, 16)):
        read = block.write.grown((8, 16, 16)).intersection(total)
        found += teasar.block_pieces(
            labels[read.slices((0, 0, 0))], read, block.write, total, size, teasar.TeasarSettings()
        )
    assert sum(p.voxels for p in found) == labels.size
    assert sk.measure(sk.join(found, size)).trees == 1
    if shape[1] == 1:  # a row alone: all of it
        assert len(found[0].vertices) == len(found[0].edges) + 1 == max(shape)


@pytest.mark.parametrize("ground", [0, 2**63 + 5])
def test_objects_of_the_largest_ids_have_skeletons_down_to_one_voxel(ground):
    teasar = pytest.importorskip("petavox.neuron.teasar")
    pytest.importorskip("kimimaro", reason="extra petavox[skeletons] is not installed")
    labels = np.full((9, 17, 17), ground, np.uint64)
    labels[8, 16, 16] = 2**64 - 1
    box = Box.of_shape(labels.shape)
    size = VoxelSize(40, 10, 10)
    found = teasar.block_pieces(labels, box, box, box, size, teasar.TeasarSettings())
    voxels = {p.label: p.voxels for p in found}
    assert voxels == {2**64 - 1: 1} | ({ground: labels.size - 1} if ground else {})
    (one,) = (p for p in found if p.voxels == 1)
    assert one.vertices.tolist() == [[8, 16, 16]]


def test_skeletons_are_the_same_again():
    a, b = in_blocks(), skeletons(tubes(), (20, 48, 48))
    for label in a:
        assert np.array_equal(a[label].vertices, b[label].vertices)
        assert np.array_equal(a[label].edges, b[label].edges)


def test_kimimaro_is_named_in_one_module_only():
    import petavox

    root = __import__("pathlib").Path(petavox.__file__).parent
    users = [f.name for f in root.rglob("*.py") if "import kimimaro" in f.read_text()]
    assert users == ["teasar.py"]
