"""Meshes cut into octree nodes, and their encoding as Neuroglancer's multi-resolution meshes.

What it is: geometry (cutting triangles at planes), the manifest and the Draco fragments of one
object in the format "neuroglancer_multilod_draco". What it is not: shard files
(`petavox.neuron.sharding`), or simplification.

At level k a node is 2^k times the finest node along each axis, and no triangle crosses the faces
of the nodes of level k - 1 inside it. The coarsest level of every object is one node.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import DracoPy
import numpy as np

from petavox.neuron.mesh import Mesh, as_xyz

BITS = 16
"""Bits of a vertex coordinate inside a node."""


@dataclass(frozen=True)
class Encoded:
    """One object: the Draco fragments one after another, then their manifest."""

    fragments: bytes
    manifest: bytes


def encoded(levels: Sequence[Mesh], *, compression: int = 5) -> Encoded:
    """Draco fragments and manifest of one object.

    levels: finest first, nm, zyx.  compression: Draco's level, 0 (fast) to 10 (small).
    """
    low = np.floor(np.min([m.vertices.min(0) for m in levels], 0)[::-1])
    high = np.ceil(np.max([m.vertices.max(0) for m in levels], 0)[::-1])
    # whole nm, so that float32 holds origin and node exactly up to 16 mm
    node = np.maximum(1.0, np.ceil((high - low) / 2 ** (len(levels) - 1)))
    body = bytearray()
    positions, sizes = [], []
    scales: list[float] = []
    for k, mesh in enumerate(levels):
        at, chunks = _level(mesh, low, node, k, compression)
        positions.append(at)
        sizes.append(np.array([len(c) for c in chunks], "<u4"))
        body += b"".join(chunks)
        scales.append(max(_edge(mesh), 1.25 * scales[-1] if scales else 0.0))
    manifest = [
        node.astype("<f4"),
        low.astype("<f4"),
        np.array([len(levels)], "<u4"),
        np.array(scales, "<f4"),
        np.zeros((len(levels), 3), "<f4"),
        np.array([len(s) for s in sizes], "<u4"),
    ]
    for at, size in zip(positions, sizes, strict=True):
        manifest += [np.ascontiguousarray(at.T.astype("<u4")), size]
    return Encoded(bytes(body), b"".join(part.tobytes() for part in manifest))


def cut(
    vertices: np.ndarray, faces: np.ndarray, axis: int, place: float
) -> tuple[np.ndarray, np.ndarray]:
    """Split every triangle that crosses the plane `vertices[:, axis] == place`.

    New vertices lie exactly in the plane, one per crossing edge, so a closed surface stays closed.
    """
    side = np.sign(vertices[:, axis] - place)[faces]
    crosses = (side.min(1) < 0) & (side.max(1) > 0)
    if not crosses.any():
        return vertices, faces
    f, s = faces[crosses], side[crosses]
    # turn each so that the vertex alone on its side comes first; where one vertex lies in the
    # plane, that one comes last and the first edge is the one that crosses
    turn = np.where(
        (s == 0).any(1),
        ((s == 0).argmax(1) + 1) % 3,
        np.where(s[:, 1] == s[:, 2], 0, np.where(s[:, 0] == s[:, 2], 1, 2)),
    )
    rows = np.arange(len(f))
    a, b, c = (f[rows, (turn + k) % 3] for k in range(3))
    touching = s[rows, (turn + 2) % 3] == 0
    ends = np.sort(
        np.concatenate([np.stack([a, b], 1), np.stack([a[~touching], c[~touching]], 1)]), 1
    )
    edges, inverse = np.unique(ends, axis=0, return_inverse=True)
    p, q = vertices[edges[:, 0]], vertices[edges[:, 1]]
    share = (place - p[:, axis]) / (q[:, axis] - p[:, axis])
    new = p + share[:, None] * (q - p)
    new[:, axis] = place
    number = inverse.reshape(-1) + len(vertices)
    ab, ac = number[: len(a)], number[len(a) :]
    t, u = touching, ~touching
    pieces = [
        faces[~crosses],
        np.stack([a[t], ab[t], c[t]], 1),
        np.stack([ab[t], b[t], c[t]], 1),
        np.stack([a[u], ab[u], ac], 1),
        np.stack([ab[u], b[u], c[u]], 1),
        np.stack([ab[u], c[u], ac], 1),
    ]
    return np.concatenate([vertices, new]), np.concatenate(pieces)


def z_order(positions: np.ndarray) -> np.ndarray:
    """Keys (int64) that sort (n, 3) node positions along the Z-curve, x fastest."""
    key = np.zeros(len(positions), np.int64)
    for bit in range(20):
        for axis in range(3):
            key |= ((positions[:, axis].astype(np.int64) >> bit) & 1) << (3 * bit + axis)
    return key


def _level(
    mesh: Mesh, low: np.ndarray, node: np.ndarray, k: int, compression: int
) -> tuple[np.ndarray, list[bytes]]:
    """Node positions (n, 3) xyz in Z-order, and the Draco bytes of each."""
    points, faces = as_xyz(mesh)
    points = (points - low) / node  # in finest nodes
    step = 1.0 if k == 0 else 2.0 ** (k - 1)
    for axis in range(3):
        top = points[:, axis].max()
        for place in np.arange(step, top, step):
            points, faces = cut(points, faces, axis, float(place))
    size = 2.0**k
    middle = points[faces].mean(1) / size
    at = np.maximum(np.ceil(middle) - 1, 0).astype(np.int64)  # (i, i + 1], so the far rim is inside
    order = np.argsort(z_order(at), kind="stable")
    at, faces = at[order], faces[order]
    starts = np.flatnonzero(np.r_[True, (at[1:] != at[:-1]).any(1)])
    chunks, kept = [], []
    for begin, end in zip(starts, [*starts[1:], len(at)], strict=True):
        used, inverse = np.unique(faces[begin:end], return_inverse=True)
        inside = points[used] / size - at[begin]
        whole = np.clip(np.rint(inside * (2**BITS - 1)), 0, 2**BITS - 1)
        corners = inverse.reshape(-1, 3)
        # a sliver at the rim of a node may vanish when it is rounded: there is nothing to encode
        if _collapsed(whole[corners]).all():
            continue
        kept.append(begin)
        chunks.append(_draco(whole, corners, compression))
    return at[kept], chunks


def _collapsed(triangles: np.ndarray) -> np.ndarray:
    """Which triangles (n, 3, 3) have two corners in one place."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    return (a == b).all(1) | (b == c).all(1) | (a == c).all(1)


def _draco(whole: np.ndarray, faces: np.ndarray, compression: int) -> bytes:
    """Draco bytes whose quantised positions are exactly the whole numbers given."""
    return bytes(
        DracoPy.encode(
            whole.astype(np.float32),
            faces.astype(np.uint32),
            quantization_bits=BITS,
            quantization_range=2**BITS - 1,
            quantization_origin=[0.0, 0.0, 0.0],
            compression_level=compression,
        )
    )


def _edge(mesh: Mesh) -> float:
    """A typical edge in nm: the scale that a level resolves."""
    corner = mesh.vertices[mesh.faces]
    area = np.linalg.norm(
        np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1
    )
    return float(np.sqrt(max(area.sum() / len(mesh.faces), 1e-6)))


INFO = {
    "@type": "neuroglancer_multilod_draco",
    "vertex_quantization_bits": BITS,
    "transform": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0],
    "lod_scale_multiplier": 1,
}
"""The info file of a folder of meshes, but for its sharding; the stored space is nm, xyz."""
