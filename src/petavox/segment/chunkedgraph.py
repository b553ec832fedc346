"""The agglomeration graph as PyChunkedGraph ingests it: objects in pieces, edges chunk by chunk.

    id of a piece     layer 1 | x | y | z | number         8 bits, 3 x spatial bits, the rest
    edges_x_y_z.proto.zst     ChunkEdgesMsg {in_chunk, cross_chunk, between_chunk}, each an
                              EdgesMsg {node_ids1, node_ids2: uint64; affinities: float32;
                              areas: uint64}, arrays as little-endian bytes
    components_x_y_z.proto    ChunkComponentsMsg {repeated uint64: size, ids, size, ids, ...}

    in        two objects in one chunk          node_ids1 are always pieces of the file's chunk,
    between   two objects, two chunks           so that edges of two chunks are in both files
    cross     one object cut at a chunk's face  affinity infinite, area 1

What it is: ids, edges and files of arrays. What it is not: volumes, a server, or an upload.

Format: CAVEconnectome/PyChunkedGraph, docs/edges_and_components.md, pychunkedgraph/io and
pychunkedgraph/ingest. The messages are few enough to be written without the protobuf library.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from petavox.cooccurrence import summed
from petavox.errors import BadInput
from petavox.segment.unionfind import components, look_up
from petavox.space import Zyx, zyx

LAYER_BITS = 8
SPATIAL_BITS = 10
ALWAYS = np.float32(np.inf)
"""Affinity of the pieces of one object."""


@dataclass(frozen=True)
class Layout:
    """Where chunks lie and how ids are made.

    start, stop: voxels of the volume, zyx.  chunk: voxels, zyx.  spatial_bits: of each coordinate.
    """

    start: Zyx
    stop: Zyx
    chunk: Zyx
    spatial_bits: int = SPATIAL_BITS

    def __post_init__(self) -> None:
        most = max(self.shape)
        if most > 1 << self.spatial_bits:
            raise BadInput(
                f"the volume has {most} chunks of {self.chunk} (z y x) along one axis, more than "
                f"{self.spatial_bits} bits count: make the chunks larger."
            )

    @property
    def shape(self) -> Zyx:
        """Chunks along z, y, x."""
        return zyx(
            [-(-(b - a) // c) for a, b, c in zip(self.start, self.stop, self.chunk, strict=True)]
        )

    @property
    def _number_bits(self) -> int:
        return 64 - LAYER_BITS - 3 * self.spatial_bits

    def chunk_id(self, coordinate: Sequence[int]) -> int:
        """The id of the chunk at z, y, x: that of its pieces with number 0."""
        z, y, x = (int(c) for c in coordinate)
        out = 1
        for c in (x, y, z):
            out = out << self.spatial_bits | c
        return out << self._number_bits

    def chunk_of(self, pieces: np.ndarray) -> np.ndarray:
        """The chunk of each piece, (n, 3) int64 z, y, x."""
        rest = np.asarray(pieces, np.uint64) >> np.uint64(self._number_bits)
        mask = np.uint64((1 << self.spatial_bits) - 1)
        shifts = [np.uint64(k * self.spatial_bits) for k in range(3)]
        return np.stack([(rest >> s) & mask for s in shifts], 1).astype(np.int64)

    def pieces(
        self, labels: np.ndarray, coordinate: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The objects of one chunk as pieces.

        labels: (z, y, x) unsigned, the voxels of the chunk, 0 = nothing.
        Returns the labels with ids of pieces (uint64), and for each piece its id, its object and
        its voxels; ids ascend with the objects' ids.
        """
        ids, place, voxels = np.unique(labels, return_inverse=True, return_counts=True)
        first = 1 if len(ids) and ids[0] == 0 else 0
        objects, count = ids[first:].astype(np.uint64), len(ids) - first
        if count >= 1 << self._number_bits:
            raise BadInput(
                f"chunk {tuple(coordinate)} (z y x) holds {count} objects, more than "
                f"{self._number_bits} bits count: make the chunks smaller."
            )
        named = np.uint64(self.chunk_id(coordinate)) + np.arange(1, count + 1, dtype=np.uint64)
        table = np.concatenate([np.zeros(first, np.uint64), named])
        out = table[place].reshape(labels.shape) if len(ids) else labels.astype(np.uint64)
        return out, named, objects, voxels[first:].astype(np.int64)


@dataclass(frozen=True)
class Edges:
    """Edges between pieces, (n,) each: uint64 p < q, float32 affinity, uint64 area."""

    p: np.ndarray
    q: np.ndarray
    affinity: np.ndarray
    area: np.ndarray

    def __len__(self) -> int:
        return len(self.p)


def touching(
    p: np.ndarray, q: np.ndarray, faces: np.ndarray, touch: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Contacts of several chunks added up: one row a pair, sorted, with faces and faces without a
    gap."""
    return (*summed(p, q, faces), summed(p, q, touch)[2])


def edges_of(
    contacts: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    pieces: np.ndarray,
    objects: np.ndarray,
    voxels: np.ndarray,
    graph: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> tuple[Edges, Edges]:
    """Edges between different objects, and cross edges within objects.

    contacts: p, q, faces, faces without a gap, as of `touching`.  pieces, objects, voxels: of all
    pieces, ids ascending.  graph: a, b, affinity, accepted: of pairs of objects, a < b.
    Every object hangs together by cross edges, and every accepted pair has an edge: where no
    contact of pieces gives one, the largest pieces are linked (area 1).
    """
    p, q, faces, touch = contacts
    own = [objects[np.searchsorted(pieces, v)] for v in (p, q)]
    same = own[0] == own[1]
    cross = _whole(p[same & (touch > 0)], q[same & (touch > 0)], pieces, objects, voxels)
    a, b, affinity, accepted = graph
    order = np.lexsort((b, a))
    a, b, affinity, accepted = a[order], b[order], affinity[order], accepted[order]
    low, high = np.minimum(*own), np.maximum(*own)
    row = _rows(a, b, low, high)
    mine = ~same & (row >= 0)
    row = row[mine]
    lost = accepted.copy()
    lost[row] = False
    ends = [_largest(objects, voxels, pieces, v[lost]) for v in (a, b)]
    between = Edges(
        np.concatenate([p[mine], np.minimum(*ends)]),
        np.concatenate([q[mine], np.maximum(*ends)]),
        np.concatenate([affinity[row], affinity[lost]]).astype(np.float32),
        np.concatenate([faces[mine], np.ones(int(lost.sum()), np.int64)]).astype(np.uint64),
    )
    return between, cross


def _whole(
    p: np.ndarray, q: np.ndarray, pieces: np.ndarray, objects: np.ndarray, voxels: np.ndarray
) -> Edges:
    """Cross edges, with more of them until every object hangs together."""
    roots = look_up(pieces, *components(p, q))
    parts = np.flatnonzero(roots == pieces)  # one piece of each connected part
    order = parts[np.lexsort((pieces[parts], objects[parts]))]
    more = np.flatnonzero(objects[order][1:] == objects[order][:-1])
    p = np.concatenate([p, np.minimum(pieces[order[more]], pieces[order[more + 1]])])
    q = np.concatenate([q, np.maximum(pieces[order[more]], pieces[order[more + 1]])])
    ones = np.ones(len(p))
    return Edges(p, q, (ones * ALWAYS).astype(np.float32), ones.astype(np.uint64))


def _rows(a: np.ndarray, b: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The row of each pair (low, high) among the sorted pairs (a, b); -1 where there is none."""
    keys, place = np.unique(
        np.concatenate([np.stack([a, b], 1), np.stack([low, high], 1)]), axis=0, return_inverse=True
    )
    row = np.full(len(keys), -1)
    row[place.ravel()[: len(a)]] = np.arange(len(a))
    return row[place.ravel()[len(a) :]]


def _largest(
    objects: np.ndarray, voxels: np.ndarray, pieces: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """The largest piece of each wanted object (of equal ones the one with the smallest id)."""
    order = np.lexsort((pieces, -voxels, objects))
    at = np.searchsorted(objects[order], wanted)
    return pieces[order][at]


class EdgesByChunk:
    """Edges sorted once by chunk, so that a chunk does not look at all of them.

    chunks: the number of the chunk of each p and q.
    """

    def __init__(self, edges: Edges, chunks: tuple[np.ndarray, np.ndarray]) -> None:
        of_p, of_q = chunks
        inside = np.flatnonzero(of_p == of_q)
        across = np.flatnonzero(of_p != of_q)
        self._within = _Sorted(_rows_of(edges, inside), of_p[inside])
        # once for each of their two chunks, that one's piece first
        out = _rows_of(edges, across)
        both = Edges(
            np.concatenate([out.p, out.q]),
            np.concatenate([out.q, out.p]),
            np.concatenate([out.affinity, out.affinity]),
            np.concatenate([out.area, out.area]),
        )
        self._leaving = _Sorted(both, np.concatenate([of_p[across], of_q[across]]))

    def of(self, number: int) -> tuple[Edges, Edges]:
        """Edges of one chunk, its own piece first: those within it, and those that leave it.

        Edges within have p < q.
        """
        return self._within.of(number), self._leaving.of(number)


class _Sorted:
    """Edges by the number of a chunk, in their order within each."""

    def __init__(self, edges: Edges, number: np.ndarray) -> None:
        order = np.argsort(number, kind="stable")
        self._edges, self._number = _rows_of(edges, order), number[order]

    def of(self, number: int) -> Edges:
        first, last = np.searchsorted(self._number, [number, number + 1])
        return _rows_of(self._edges, slice(first, last))


def _rows_of(edges: Edges, rows: np.ndarray | slice) -> Edges:
    return Edges(edges.p[rows], edges.q[rows], edges.affinity[rows], edges.area[rows])


def edges_message(within: Edges, between: Edges, cross: Edges) -> bytes:
    """A ChunkEdgesMsg."""
    parts = ((1, within), (2, cross), (3, between))
    return b"".join(_field(number, _edges(e)) for number, e in parts)


def components_message(groups: Iterable[np.ndarray]) -> bytes:
    """A ChunkComponentsMsg: of each component its size and its pieces."""
    numbers: list[int] = []
    for group in groups:
        numbers += [len(group), *(int(i) for i in group)]
    return _field(1, b"".join(_varint(n) for n in numbers))


def _edges(edges: Edges) -> bytes:
    arrays = (
        (edges.p, "<u8"), (edges.q, "<u8"), (edges.affinity, "<f4"), (edges.area, "<u8"),
    )  # fmt: skip
    return b"".join(_field(k, v.astype(t).tobytes()) for k, (v, t) in enumerate(arrays, 1))


def _field(number: int, data: bytes) -> bytes:
    """A field of bytes (wire type 2); an empty one is its default and is left out."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data if data else b""


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit says that more follow."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
