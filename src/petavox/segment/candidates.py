"""Candidates: pairs of objects that come close, and where to decide whether they are one.

Objects grow into the nothing around them until they meet, each by at most half of the distance
asked for, every voxel going to the object nearest to it (of two as near: the smaller id).

      a a . . . b b         a a a a b b b         the faces between a and b are their contact
      a a . . b b b   grow  a a a b b b b         the decision point lies on the face for which
      a a b b b b b         a a b b b b b         the mean distance to both is smallest

What it is: exact growth, and the contacts of an array; both see no farther than `reach`, so a
block with that much context finds what the whole volume would. What it is not: a judgement.

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods ("Agglomeration", decision points).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from petavox.errors import BadInput
from petavox.space import Zyx, zyx


@dataclass(frozen=True)
class Contacts:
    """Pairs of objects that meet; arrays of one length, sorted by (a, b), a < b.

    a, b: uint64.  faces: int64, voxel faces between the two after growing.  distance: float64 nm,
    mean distance of the decision point's two voxels to their objects (0 where they touch).
    z, y, x: int64 voxels, the decision point.  tied: int64, faces of that same distance.
    """

    a: np.ndarray
    b: np.ndarray
    faces: np.ndarray
    distance: np.ndarray
    z: np.ndarray
    y: np.ndarray
    x: np.ndarray
    tied: np.ndarray

    def __len__(self) -> int:
        return len(self.a)

    def columns(self) -> dict[str, np.ndarray]:
        """Name -> array, for a table file."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


_TYPES = {"a": np.uint64, "b": np.uint64, "distance": np.float64}


def no_contacts() -> Contacts:
    """The table of nothing."""
    return Contacts(**{f.name: np.zeros(0, _TYPES.get(f.name, np.int64)) for f in fields(Contacts)})


def reach(max_distance: float, voxel_size: Sequence[float]) -> Zyx:
    """Voxels of context, zyx, that the contacts within a distance (nm) depend on."""
    half = max_distance / 2
    # one more: a face has a voxel on its far side, which grew by as much
    return zyx([math.floor(half / v + 1e-9) + 1 for v in voxel_size])


def grown(
    labels: np.ndarray, max_growth: float, voxel_size: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Labels grown into nothing by at most `max_growth` nm, and the distance grown.

    labels: (z, y, x) unsigned, 0 = nothing.  voxel_size: nm, zyx.
    Returns labels, uint64, and float32 nm between voxel centres (0 in objects, infinity where
    nothing is near). Between equally near objects the smaller id wins.
    """
    out = labels.astype(np.uint64)
    distance = np.where(out > 0, np.float32(0), np.float32(np.inf)).astype(np.float32)
    rim = [math.floor(max_growth / v + 1e-9) for v in voxel_size]
    if not any(rim) or out.size == 0:
        return out, distance
    padded = np.pad(out, [(r, r) for r in rim]).ravel()
    shape = [n + 2 * r for n, r in zip(labels.shape, rim, strict=True)]
    stride = (shape[1] * shape[2], shape[2], 1)
    empty = np.flatnonzero(out.ravel() == 0)
    at = np.ravel_multi_index(
        [i + r for i, r in zip(np.unravel_index(empty, labels.shape), rim, strict=True)], shape
    )
    for length, steps in _shells(rim, max_growth, voxel_size):
        if len(empty) == 0:
            break
        best = np.zeros(len(empty), np.uint64)
        for step in steps:
            seen = padded[at + sum(s * t for s, t in zip(step, stride, strict=True))]
            better = (seen > 0) & ((best == 0) | (seen < best))
            best[better] = seen[better]
        hit = best > 0
        out.ravel()[empty[hit]] = best[hit]
        distance.ravel()[empty[hit]] = length
        empty, at = empty[~hit], at[~hit]
    return out, distance


def _shells(
    rim: Sequence[int], most: float, voxel_size: Sequence[float]
) -> list[tuple[float, list[tuple[int, ...]]]]:
    """Steps of equal length, nearest first, without the step of length 0."""
    steps: dict[float, list[tuple[int, ...]]] = {}
    for step in itertools.product(*(range(-r, r + 1) for r in rim)):
        length = math.sqrt(sum((s * v) ** 2 for s, v in zip(step, voxel_size, strict=True)))
        if 0 < length <= most + 1e-9:
            # voxel sizes such as 4.6 nm must not make equal lengths differ in their last bit
            steps.setdefault(round(length, 6), []).append(step)
    return sorted(steps.items())


def contacts(
    labels: np.ndarray,
    *,
    max_distance: float,
    voxel_size: Sequence[float],
    start: Sequence[int] = (0, 0, 0),
    own: tuple[slice, slice, slice] | None = None,
) -> Contacts:
    """Pairs of objects whose surfaces come within `max_distance` nm, with their decision points.

    labels: (z, y, x) unsigned.  voxel_size: nm, zyx.  start: voxel of labels[0, 0, 0].
    own: only faces whose lower voxel lies there count; with `reach` of context around it the
    result is that of the whole volume. A pair's decision point is the voxel below that of its
    nearest faces which is nearest to their mean (ties: first in z, y, x).
    """
    if max_distance < 0:
        raise BadInput(f"max_distance is {max_distance} nm: it cannot be negative.")
    wide, distance = grown(labels, max_distance / 2, voxel_size)
    mine = np.zeros(labels.shape, bool)
    mine[own if own is not None else ...] = True
    pieces = []
    for axis in range(3):
        low = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
        high = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        p, q = wide[low], wide[high]
        faces = np.nonzero((p > 0) & (q > 0) & (p != q) & mine[low])
        mean = (distance[low][faces].astype(np.float64) + distance[high][faces]) / 2
        pieces.append((p[faces], q[faces], mean, np.stack(faces, 1)))
    p, q, mean = (np.concatenate([piece[k] for piece in pieces]) for k in range(3))
    place = np.concatenate([piece[3] for piece in pieces]) + np.asarray(start, np.int64)
    return _of_faces(np.minimum(p, q), np.maximum(p, q), mean, place)


def _of_faces(a: np.ndarray, b: np.ndarray, mean: np.ndarray, place: np.ndarray) -> Contacts:
    """One row for each pair of the faces (a[i], b[i])."""
    if len(a) == 0:
        return no_contacts()
    order = np.lexsort((place[:, 2], place[:, 1], place[:, 0], mean, b, a))
    a, b, mean, place = a[order], b[order], mean[order], place[order]
    new = np.ones(len(a), bool)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    first = np.flatnonzero(new)
    group = np.cumsum(new) - 1
    nearest = mean == mean[first][group]
    tied = np.bincount(group[nearest], minlength=len(first))
    centre = np.stack(
        [np.bincount(group[nearest], place[nearest, k], len(first)) / tied for k in range(3)], 1
    )
    off = ((place[nearest] - centre[group[nearest]]) ** 2).sum(1)
    # stable: of equally near faces the first in z, y, x stays first
    best = np.lexsort((np.round(off, 6), group[nearest]))
    chosen = best[np.searchsorted(group[nearest][best], np.arange(len(first)))]
    point = place[nearest][chosen]
    z, y, x = (point[:, k].astype(np.int64) for k in range(3))
    faces = np.bincount(group).astype(np.int64)
    return Contacts(a[first], b[first], faces, mean[first], z, y, x, tied.astype(np.int64))


def joined(tables: Sequence[Contacts]) -> Contacts:
    """The contacts of blocks that tile a volume, in their order, as one table.

    Faces add up. The decision point is that of the block with the nearest face; of equal ones,
    of the block with most such faces; then of the first.
    """
    parts = [t for t in tables if len(t)]
    if not parts:
        return no_contacts()
    every = {f.name: np.concatenate([getattr(t, f.name) for t in parts]) for f in fields(Contacts)}
    number = np.arange(len(every["a"]))
    order = np.lexsort((number, -every["tied"], every["distance"], every["b"], every["a"]))
    every = {k: v[order] for k, v in every.items()}
    new = np.ones(len(number), bool)
    new[1:] = (every["a"][1:] != every["a"][:-1]) | (every["b"][1:] != every["b"][:-1])
    first = np.flatnonzero(new)
    out = {k: v[first] for k, v in every.items()}
    out["faces"] = np.add.reduceat(every["faces"], first)
    same = every["distance"] == every["distance"][first][np.cumsum(new) - 1]
    out["tied"] = np.add.reduceat(np.where(same, every["tied"], 0), first)
    return Contacts(**out)
