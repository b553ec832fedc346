"""One place to look at for each of many things spread over voxels, found block by block.

What it is: for every key (a pair, or a triple of ids) its weight and one voxel that really
belongs to it, near the middle of its largest part. What it is not: a centroid, which may lie
outside of a curved object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from petavox.cooccurrence import grouped
from petavox.score.pairs import runs

Nm = tuple[float, float, float]


@dataclass(frozen=True)
class Spots:
    """Keys with weights and places, sorted by key.

    keys: (n, k) uint64.  weight: (n,) int64, the sum over all blocks.  best: (n,) int64, the
    weight in the block that gave the place.  place: (n, 3) int64 voxel, zyx.
    """

    keys: np.ndarray
    weight: np.ndarray
    best: np.ndarray
    place: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)

    def find(self, key: Sequence[int]) -> int | None:
        """The row of a key, or None."""
        row = np.flatnonzero((self.keys == np.array(key, np.uint64)).all(axis=1))
        return int(row[0]) if len(row) else None


def empty(columns: int) -> Spots:
    """No spots, for keys of `columns` ids."""
    none = np.zeros(0, np.int64)
    return Spots(np.zeros((0, columns), np.uint64), none, none, np.zeros((0, 3), np.int64))


def added(parts: Sequence[Spots], columns: int) -> Spots:
    """Spots of several blocks as one: weights add, the place comes from the heaviest block.

    The order of the parts does not matter: equal weights are decided by the place itself.
    """
    parts = [p for p in parts if len(p)]
    if not parts:
        return empty(columns)
    keys = np.concatenate([p.keys for p in parts])
    weight = np.concatenate([p.weight for p in parts])
    best = np.concatenate([p.best for p in parts])
    place = np.concatenate([p.place for p in parts])
    order = np.lexsort((*place.T[::-1], -best, *keys.T[::-1]))
    keys, weight, best, place = keys[order], weight[order], best[order], place[order]
    heads = np.flatnonzero(np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)])
    return Spots(keys[heads], np.add.reduceat(weight, heads), best[heads], place[heads])


def spots_of(keys: Sequence[np.ndarray], weight: np.ndarray, place: np.ndarray, size: Nm) -> Spots:
    """Spots of one block.

    keys: columns of ids, (m,) each.  weight: (m,) int64.  place: (m, 3) int64 voxels, zyx.
    size: voxel size in nm.  The place of a key is the one nearest to the weighted mean of all
    of its places.
    """
    columns = len(keys)
    if len(weight) == 0:
        return empty(columns)
    ids = [np.asarray(k, np.uint64) for k in keys]
    order, heads = grouped(ids)
    ids, weight, place = [k[order] for k in ids], weight[order].astype(np.int64), place[order]
    group = np.zeros(len(weight), np.int64)
    group[heads[1:]] = 1
    group = np.cumsum(group)
    sums = np.add.reduceat(weight, heads)
    mean = np.add.reduceat(place * weight[:, None], heads) / sums[:, None]
    off = ((place - mean[group]) * np.array(size)) ** 2
    nearest = np.lexsort((*place.T[::-1], off.sum(axis=1), group))[heads]
    return Spots(np.stack([k[heads] for k in ids], axis=1), sums, sums, place[nearest])


def overlaps(
    result: np.ndarray, truth: np.ndarray, mask: np.ndarray, start: Sequence[int], size: Nm
) -> Spots:
    """Spots of (result id, truth id) for pairs of ids above 0, over the voxels of `mask`.

    result, truth, mask: (z, y, x).  start: the voxel of their first element, zyx.
    """
    a, t, starts, lengths = runs(result, truth, mask)
    keep = (a[starts] > 0) & (t[starts] > 0) if len(starts) else np.zeros(0, bool)
    starts, lengths = starts[keep], lengths[keep]
    flat = np.flatnonzero(mask.ravel())[starts + lengths // 2] if len(starts) else starts
    place = np.stack(np.unravel_index(flat, mask.shape), axis=1) + np.array(start)
    return spots_of([a[starts], t[starts]], lengths, place, size)


def contacts(
    outer: np.ndarray,
    inner: np.ndarray,
    owned: tuple[slice, slice, slice],
    start: Sequence[int],
    size: Nm,
) -> Spots:
    """Spots of (outer id, inner id, inner id): where two inner objects meet inside an outer one.

    outer, inner: (z, y, x) ids; faces between two voxels of one outer object (above 0) and of two
    inner ones (above 0, the smaller first) count. With the result as outer these are the places
    of mergers, with the truth as outer those of splits.
    owned: the part of the arrays whose voxels are counted, each with its faces to the voxel
    before it; blocks that tile a volume, read with one voxel of context, count each face once.
    start: voxel of the arrays' first element.  weight: faces.
    """
    found: list[tuple[np.ndarray, ...]] = []
    for axis in range(3):
        first = max(owned[axis].start, 1)
        here = tuple(slice(first, s.stop) if i == axis else s for i, s in enumerate(owned))
        there = tuple(slice(first - 1, s.stop - 1) if i == axis else s for i, s in enumerate(owned))
        o, i, j = outer[here], inner[here], inner[there]
        meets = (o > 0) & (o == outer[there]) & (i != j) & (i > 0) & (j > 0)
        at = np.nonzero(meets)
        place = np.stack(at, axis=1) + np.array([s.start for s in here]) + np.array(start)
        found.append((o[at], np.minimum(i[at], j[at]), np.maximum(i[at], j[at]), place))
    keys = [np.concatenate([f[k] for f in found]) for k in range(3)]
    place = np.concatenate([f[3] for f in found])
    return spots_of(keys, np.ones(len(place), np.int64), place, size)
