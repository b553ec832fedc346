"""Surface meshes of labelled objects: block fragments, their exact joining, and measures.

What it is: marching cubes (Lorensen & Cline 1987, by zmesh) over one block, and the joining of
the fragments of an object into one closed surface. What it is not: simplification
(`petavox.neuron.simplify`), levels of detail, or files.

Vertices of marching cubes on labels lie half way between two voxel centres, so positions are
kept as integers in half voxels: voxel i spans [2i, 2i + 2), its centre is 2i + 1. Two blocks
that share one layer of voxels compute the same vertices on it; joining is by exact identity.

      block A reads ┌─────────┬─┐          the cells between voxel centres belong to the
                    │         │▒│          block that holds their low corner; ▒ is the
                    └─────────┴─┘          voxel layer that A reads beyond its own box,
                    block B   ┌─┬───────┐  and that B owns
                              │▒│       │
                              └─┴───────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import zmesh

from petavox.space import VoxelSize, Zyx

_BITS = 21
"""Bits of one coordinate in a packed vertex key; larger objects are sorted by columns."""


@dataclass(frozen=True)
class Fragment:
    """A piece of one object's surface.

    vertices: (n, 3) int32, half voxels, zyx, unique, in ascending order.
    faces: (m, 3) int64 indices, each starting with its smallest, in ascending order; seen from
    outside the object they turn counter-clockwise in the coordinates (z, y, x).
    """

    vertices: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True)
class Mesh:
    """A surface in space. vertices: (n, 3) float64, nm, zyx.  faces: (m, 3) int64, as Fragment."""

    vertices: np.ndarray
    faces: np.ndarray


@dataclass(frozen=True)
class Measures:
    """What a mesh measures.

    watertight: every directed edge is matched by as many opposite ones: the surface has no rim.
    euler: vertices - edges + faces; 2 for each closed piece without handles.
    area: nm^2.  volume: enclosed, nm^3 (meaningful only when watertight).
    """

    watertight: bool
    euler: int
    area: float
    volume: float


def fragments(
    labels: np.ndarray, start: Zyx, wanted: Iterable[int] | None = None
) -> dict[int, Fragment]:
    """The surface of every object in an array, open at the array's faces.

    labels: (z, y, x) unsigned integers, 0 = nothing; the block's own voxels and one layer of the
    next block (or a layer of zeros beyond the volume, which closes the surface there).
    start: voxel coordinates of labels[0, 0, 0].  wanted: only these ids.
    """
    if min(labels.shape) < 2:
        return {}
    mesher = zmesh.Mesher((1, 1, 1))
    mesher.mesh(np.ascontiguousarray(labels), close=False)
    found = {int(i) for i in mesher.ids()}
    out = {}
    for label in sorted(found if wanted is None else found.intersection(wanted)):
        mesh = mesher.get(label)
        mesher.erase(label)
        if len(mesh.faces):
            halves = np.rint(mesh.vertices * 2).astype(np.int64)
            halves += 2 * np.asarray(start, np.int64) + 1
            out[label] = _canonical(halves, mesh.faces.astype(np.int64))
    return out


def join(pieces: Sequence[Fragment]) -> Fragment:
    """One surface from the fragments of an object in any order; shared vertices become one."""
    if len(pieces) == 1:
        return pieces[0]
    if not pieces:
        return Fragment(np.zeros((0, 3), np.int32), np.zeros((0, 3), np.int64))
    shift = np.cumsum([0, *(len(p.vertices) for p in pieces[:-1])])
    return _canonical(
        np.concatenate([p.vertices for p in pieces]),
        np.concatenate([p.faces + s for p, s in zip(pieces, shift, strict=True)]),
    )


def placed(fragment: Fragment, voxel_size: VoxelSize) -> Mesh:
    """The fragment in nm."""
    return Mesh(fragment.vertices * (np.array(tuple(voxel_size)) / 2), fragment.faces)


def clustered(fragment: Fragment, cell: int) -> Fragment:
    """A coarser surface: the vertices of each lattice cell of `cell` half voxels become one.

    The one is the first of them in order, so the result does not depend on blocks. Faces that
    collapse vanish. A closed surface stays closed (Rossignac & Borrel 1993).
    """
    lattice = np.floor_divide(fragment.vertices, cell)
    _, first, inverse = _unique(lattice)
    # the first vertex of a cell in ascending order stands for the cell
    faces = inverse[fragment.faces]
    keep = (
        (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    )
    return _canonical(fragment.vertices[first], faces[keep])


def measure(mesh: Mesh) -> Measures:
    """Closure, Euler characteristic, area and volume of a mesh."""
    if not len(mesh.faces):
        return Measures(True, 0, 0.0, 0.0)
    f, n = mesh.faces, len(mesh.vertices)
    ahead = np.concatenate([f[:, 0] * n + f[:, 1], f[:, 1] * n + f[:, 2], f[:, 2] * n + f[:, 0]])
    back = np.concatenate([f[:, 1] * n + f[:, 0], f[:, 2] * n + f[:, 1], f[:, 0] * n + f[:, 2]])
    ahead.sort()
    back.sort()
    edges = len(np.unique(np.minimum(ahead, ahead % n * n + ahead // n)))
    used = len(np.unique(f))
    # relative to the first vertex: far from the origin the products would lose digits
    a, b, c = (mesh.vertices[f[:, i]] - mesh.vertices[0] for i in range(3))
    normal = np.cross(b - a, c - a)
    return Measures(
        watertight=bool(np.array_equal(ahead, back)),
        euler=used - edges + len(f),
        area=float(np.linalg.norm(normal, axis=1).sum() / 2),
        volume=float(np.einsum("ij,ij->", a, normal) / 6),
    )


def as_xyz(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (n, 3) float64 in nm, xyz, and faces that still face outwards: for writers only."""
    return mesh.vertices[:, ::-1], mesh.faces[:, ::-1]


def _canonical(vertices: np.ndarray, faces: np.ndarray) -> Fragment:
    """Unique vertices in ascending order, and faces in ascending order."""
    unique, _, inverse = _unique(vertices)
    return Fragment(unique.astype(np.int32), sorted_faces(inverse[faces], len(unique)))


def sorted_faces(faces: np.ndarray, vertices: int) -> np.ndarray:
    """Each face turned to start with its smallest index; faces in ascending order."""
    if not len(faces):
        return np.zeros((0, 3), np.int64)
    low = faces.argmin(1)
    rows = np.arange(len(faces))
    a, b, c = (faces[rows, (low + k) % 3] for k in range(3))
    if vertices < 1 << _BITS:
        key = (a << 2 * _BITS) | (b << _BITS) | c
        key.sort()
        mask = (1 << _BITS) - 1
        return np.stack([key >> 2 * _BITS, (key >> _BITS) & mask, key & mask], 1)
    order = np.lexsort((c, b, a))
    return np.stack([a[order], b[order], c[order]], 1)


def _unique(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unique rows in ascending order, the first place of each, and the inverse."""
    low = points.min(0).astype(np.int64)
    relative = points.astype(np.int64) - low
    if relative.max(initial=0) >= 1 << _BITS:
        rows, first, inverse = np.unique(points, axis=0, return_index=True, return_inverse=True)
        return rows, first, inverse.reshape(-1)
    key = (relative[:, 0] << 2 * _BITS) | (relative[:, 1] << _BITS) | relative[:, 2]
    order = np.argsort(key, kind="stable")
    key = key[order]
    new = np.empty(len(key), bool)
    new[0] = True
    np.not_equal(key[1:], key[:-1], out=new[1:])
    inverse = np.empty(len(key), np.int64)
    inverse[order] = np.cumsum(new) - 1
    first = order[new]
    return points[first], first, inverse
