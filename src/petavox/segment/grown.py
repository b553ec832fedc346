"""Objects grown into the nothing around them, and how wide the contacts are that they make.

      a a . . . b b         a a a a b b b
      a a . . b b b   grow  a a a b b b b
      a a b b b b b         a a b b b b b

What it is: two exact functions of distance on arrays, which look no farther than they are told:
shell by shell of voxels as far away, the nearest first. What it is not: a table of contacts
(petavox.segment.candidates).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

MAX_WIDTH = 80.0
"""nm; a contact as wide as this or wider is as wide as it can be told."""


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


def widths(
    wide: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    place: np.ndarray,
    voxel_size: Sequence[float],
    most: float = MAX_WIDTH,
) -> np.ndarray:
    """Distance from each voxel `place`, (n, 3), to the nearest one that is neither a nor b; nm.

    At most `most`. What lies outside of the array is taken for a or b: the end of a volume does
    not make a contact narrow.
    """
    out = np.full(len(a), float(most))
    rim = [math.floor(most / v + 1e-9) for v in voxel_size]
    if len(a) == 0 or not any(rim):
        return out
    outside = np.uint64(np.iinfo(np.uint64).max)  # no object has this id
    padded = np.pad(wide, [(r, r) for r in rim], constant_values=outside).ravel()
    shape = [n + 2 * r for n, r in zip(wide.shape, rim, strict=True)]
    stride = (shape[1] * shape[2], shape[2], 1)
    open_ = np.arange(len(a))
    at = np.ravel_multi_index([place[:, k] + rim[k] for k in range(3)], shape)
    for length, steps in _shells(rim, most, voxel_size):
        hit = np.zeros(len(open_), bool)
        for step in steps:
            seen = padded[at + sum(s * t for s, t in zip(step, stride, strict=True))]
            hit |= (seen != a[open_]) & (seen != b[open_]) & (seen != outside)
        out[open_[hit]] = length
        open_, at = open_[~hit], at[~hit]
        if len(open_) == 0:
            break
    return out


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
