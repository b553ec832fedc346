"""Pieces and edges for PyChunkedGraph: ids taken apart by bits, ingestion repeated by networkx."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petavox.errors import BadInput
from petavox.segment.candidates import contacts
from petavox.segment.chunkedgraph import (
    Edges,
    EdgesByChunk,
    Layout,
    components_message,
    edges_message,
    edges_of,
    touching,
)
from petavox.space import Box, Grid


def cut(labels, start, chunk, bits=10):
    box = Box.of_shape(labels.shape, start)
    layout = Layout(box.start, box.stop, chunk, bits)
    ws = np.zeros(labels.shape, np.uint64)
    rows = []
    for block in Grid(box, chunk):
        at = block.write.slices(box.start)
        ws[at], *row = layout.pieces(labels[at], block.index)
        rows.append(row)
    pieces, objects, voxels = (np.concatenate([r[k] for r in rows]) for k in range(3))
    order = np.argsort(pieces)
    return layout, ws, pieces[order], objects[order], voxels[order]


def test_an_id_holds_layer_place_and_number():
    layout, ws, pieces, objects, voxels = cut(
        np.array([[[0, 7, 7, 3, 3, 3, 3, 9]]], np.uint64), (-5, 2, -1), (1, 1, 4)
    )
    assert layout.chunk_id((3, 2, 1)) == (1 << 56) + (1 << 46) + (2 << 36) + (3 << 26)
    near, far = layout.chunk_id((0, 0, 0)), layout.chunk_id((0, 0, 1))
    assert ws.ravel().tolist() == [0, near + 2, near + 2, near + 1, *[far + 1] * 3, far + 2]
    assert pieces.tolist() == [near + 1, near + 2, far + 1, far + 2]
    assert objects.tolist() == [3, 7, 3, 9]
    assert voxels.tolist() == [1, 2, 3, 1]
    assert layout.chunk_of(pieces).tolist() == [[0, 0, 0]] * 2 + [[0, 0, 1]] * 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_ingestion_gives_the_agglomerated_objects(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, (3, 4, 5), np.uint64).repeat(2, 0).repeat(2, 1).repeat(2, 2)
    _, ws, pieces, objects, voxels = cut(labels, (0, -4, 8), (3, 4, 4))
    c = contacts(ws, max_distance=20.0, voxel_size=(10, 10, 10))
    met = touching(c.a, c.b, c.faces, c.touching)
    ids = np.unique(labels[labels > 0])
    pairs = [p for p in itertools.combinations(ids.tolist(), 2) if rng.random() < 0.6]
    a, b = (np.array([p[k] for p in pairs], np.uint64) for k in (0, 1))
    ok = rng.random(len(pairs)) < 0.4
    affinity = rng.random(len(pairs)).astype(np.float32)
    between, cross = edges_of(met, pieces, objects, voxels, (a, b, affinity, ok))
    owner = dict(zip(pieces.tolist(), objects.tolist(), strict=True))
    wanted = nx.Graph()
    wanted.add_nodes_from(ids.tolist())
    wanted.add_edges_from([p for p, yes in zip(pairs, ok, strict=True) if yes])
    final = {i: n for n, group in enumerate(nx.connected_components(wanted)) for i in group}
    got = nx.Graph()
    got.add_nodes_from(owner)
    for e in (between, cross):
        assert (e.p < e.q).all()
        got.add_edges_from(
            (p, q)
            for p, q in zip(e.p.tolist(), e.q.tolist(), strict=True)
            if final[owner[p]] == final[owner[q]]
        )
    groups = {frozenset(owner[p] for p in g) for g in nx.connected_components(got)}
    assert groups == {frozenset(g) for g in nx.connected_components(wanted)}
    assert nx.number_connected_components(got) == len(groups)
    assert all(
        owner[p] == owner[q] for p, q in zip(cross.p.tolist(), cross.q.tolist(), strict=True)
    )
    # each row of the graph keeps its own affinity
    said = {p: s for p, s in zip(pairs, affinity.tolist(), strict=True)}
    for p, q, s in zip(between.p.tolist(), between.q.tolist(), between.affinity, strict=True):
        assert said[tuple(sorted((owner[p], owner[q])))] == pytest.approx(float(s))


def test_an_edge_that_leaves_a_chunk_is_in_both_files():
    layout = Layout((0, 0, 0), (1, 1, 8), (1, 1, 4))
    one, two = layout.chunk_id((0, 0, 0)), layout.chunk_id((0, 0, 1))
    edges = Edges(
        np.array([one + 1, one + 1, two + 1], np.uint64),
        np.array([one + 2, two + 1, two + 2], np.uint64),
        np.array([0.1, 0.2, 0.3], np.float32),
        np.array([10, 20, 30], np.uint64),
    )
    chunks = (np.array([0, 0, 1]), np.array([0, 1, 1]))
    by_chunk = EdgesByChunk(edges, chunks)
    for number, mine, other in ((0, one, two), (1, two, one)):
        within, leaving = by_chunk.of(number)
        assert (within.p.tolist(), within.q.tolist()) == ([mine + 1], [mine + 2])
        assert (leaving.p.tolist(), leaving.q.tolist()) == ([mine + 1], [other + 1])
        assert leaving.area.tolist() == [20]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=30))
def test_edges_by_chunk_are_those_that_touch_it(ends):
    """Against looking at every edge; the piece of chunk c in edge i is 100 c + i."""
    of_p, of_q = (np.array([e[k] for e in ends], np.int64) for k in (0, 1))
    row = np.arange(len(ends))
    p, q = (np.uint64(100) * c.astype(np.uint64) + row.astype(np.uint64) for c in (of_p, of_q))
    edges = Edges(p, q, row.astype(np.float32), row.astype(np.uint64))
    by_chunk = EdgesByChunk(edges, (of_p, of_q))
    for number in range(6):
        within, leaving = by_chunk.of(number)
        assert within.area.tolist() == [i for i, e in enumerate(ends) if e == (number, number)]
        out = [i for i, (a, b) in enumerate(ends) if a == number != b]
        back = [i for i, (a, b) in enumerate(ends) if b == number != a]
        assert leaving.area.tolist() == out + back
        assert leaving.affinity.tolist() == out + back
        assert leaving.p.tolist() == [100 * number + i for i in out + back]


def test_the_bytes_of_messages():
    none = Edges(*(np.zeros(0, t) for t in (np.uint64, np.uint64, np.float32, np.uint64)))
    one = Edges(
        np.array([1], np.uint64), np.array([2], np.uint64), np.array([1], np.float32),
        np.array([3], np.uint64),
    )  # fmt: skip
    inner = (
        b"\x0a\x08\x01\0\0\0\0\0\0\0" b"\x12\x08\x02\0\0\0\0\0\0\0"
        b"\x1a\x04\0\0\x80\x3f" b"\x22\x08\x03\0\0\0\0\0\0\0"
    )  # fmt: skip
    assert edges_message(none, one, none) == b"\x1a" + bytes([len(inner)]) + inner
    groups = [np.array([5], np.uint64), np.array([6, 300], np.uint64)]
    assert components_message(groups) == b"\x0a\x06\x01\x05\x02\x06\xac\x02"


def test_too_many_chunks_or_objects_are_refused():
    with pytest.raises(BadInput, match="make the chunks larger"):
        Layout((0, 0, 0), (1, 1, 9), (1, 1, 1), 3)
    layout = Layout((0, 0, 0), (1, 1, 300), (1, 1, 300), 16)
    with pytest.raises(BadInput, match="make the chunks smaller"):
        layout.pieces(np.arange(300, dtype=np.uint64).reshape(1, 1, -1), (0, 0, 0))
