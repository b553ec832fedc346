"""Which ids meet: the pairs of two labellings of the same voxels, each with its voxels.

    a  1 1 1 2 2 0        (1, 7) 2   (1, 8) 1   (2, 8) 2   (0, 0) 1
    b  7 7 8 8 8 0

What it is: counting, once for all sciences; pairs of blocks add up to those of the volume, exactly,
in any order. Memory grows with the runs of equal pairs, not with the ids squared. What it is not: a
table with a meaning; those are petavox.score.pairs, petavox.segment.consensus and votes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def runs(*labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths, (n,) int64, of runs of equal (a[i], b[i], ...); all flat, of one size."""
    size = labels[0].size
    if size == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    new = np.zeros(size - 1, bool)
    for ids in labels:
        new |= ids[1:] != ids[:-1]
    starts = np.concatenate(([0], np.flatnonzero(new) + 1)).astype(np.int64)
    return starts, np.diff(starts, append=size)


def counted(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of two labellings, sorted by (a, b): ids uint64 and voxels int64, (n,) each.

    a, b: arrays of one shape, unsigned ids; 0 is an id like any other.
    """
    a, b = a.ravel(), b.ravel()
    starts, lengths = runs(a, b)
    return summed(a[starts].astype(np.uint64), b[starts].astype(np.uint64), lengths)


def summed(
    a: np.ndarray, b: np.ndarray, amount: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equal pairs added up, sorted by (a, b); the sums are int64."""
    order, heads = grouped((a, b))
    if heads.size == 0:
        return a[:0], b[:0], np.zeros(0, np.int64)
    sums = np.add.reduceat(np.asarray(amount)[order].astype(np.int64), heads)
    return a[order][heads], b[order][heads], sums


def grouped(keys: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Sort rows of key columns: the order, and where in it each group of equal rows begins."""
    order = np.lexsort(tuple(reversed(keys)))
    if order.size == 0:
        return order, np.zeros(0, np.int64)
    new = np.zeros(order.size - 1, bool)
    for key in keys:
        ordered = key[order]
        new |= ordered[1:] != ordered[:-1]
    return order, np.concatenate(([0], np.flatnonzero(new) + 1)).astype(np.int64)
