"""Contingency tables: how many voxels each result object shares with each truth body.

What it is: a sparse table of (result id, truth id, voxels), made from arrays or from the blocks
of a volume; the tables of blocks that tile a volume add up to the table of the volume, exactly,
in any order. Memory grows with the number of pairs, never with the number of voxels.
What it is not: a score; those are in petavox.score.overlap.

>>> a = np.array([[1, 1], [2, 0]], np.uint64)
>>> t = np.array([[5, 5], [5, 6]], np.uint64)
>>> table = pair_table(a, t)
>>> table.result.tolist(), table.truth.tolist(), table.voxels.tolist()
([0, 1, 2], [6, 5, 5], [1, 2, 1])
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from petavox import cooccurrence
from petavox.errors import BadInput


@dataclass(frozen=True)
class PairTable:
    """Pairs that share at least one voxel, sorted by result id and then truth id; ids may be 0.

    result, truth: (n,) uint64.  voxels: (n,) int64.
    """

    result: np.ndarray
    truth: np.ndarray
    voxels: np.ndarray

    def __len__(self) -> int:
        return len(self.voxels)

    @property
    def total(self) -> int:
        """All voxels in the table."""
        return int(self.voxels.sum())

    def where(self, keep: np.ndarray) -> PairTable:
        """The pairs marked in `keep`, (n,) bool."""
        return PairTable(self.result[keep], self.truth[keep], self.voxels[keep])

    def labelled(self) -> PairTable:
        """Pairs of a result object with a truth body: both ids above 0."""
        return self.where((self.result > 0) & (self.truth > 0))

    def with_result(self, result: np.ndarray) -> PairTable:
        """The table after giving each pair another result id; pairs that become equal add up."""
        return _summed(np.asarray(result, np.uint64), self.truth, self.voxels)


EMPTY = PairTable(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))
"""The table of nothing."""


def pair_table(result: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> PairTable:
    """Count the voxels of every pair of ids.

    result, truth: arrays of one shape, of any unsigned or non-negative integers up to 2^64 - 1.
    mask: bool of that shape; only voxels where it is true are counted.
    Works on runs of equal pairs, so the cost is one pass plus sorting of the runs.
    """
    a, t, starts, lengths = runs(result, truth, mask)
    return _summed(a[starts].astype(np.uint64), t[starts].astype(np.uint64), lengths)


def runs(
    result: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Runs of equal (result, truth) in C order: both flat arrays, run starts, run lengths.

    With a mask the flat arrays hold the masked voxels only.
    """
    a, t = _ids(result, "result"), _ids(truth, "truth")
    if a.shape != t.shape:
        raise BadInput(f"the result has shape {a.shape} and the truth {t.shape}; make them equal.")
    if mask is not None:
        a, t = a[mask], t[mask]
    a, t = a.ravel(), t.ravel()
    return (a, t, *cooccurrence.runs(a, t))


def added(tables: Iterable[PairTable]) -> PairTable:
    """The sum of tables."""
    parts = list(tables)
    if not parts:
        return EMPTY
    return _summed(
        np.concatenate([p.result for p in parts]),
        np.concatenate([p.truth for p in parts]),
        np.concatenate([p.voxels for p in parts]),
    )


class Adder:
    """Adds tables one by one, holding at most about twice the pairs of their sum."""

    def __init__(self, spare: int = 1 << 20) -> None:
        self._spare = spare
        self._sum = EMPTY
        self._waiting: list[PairTable] = []

    def add(self, table: PairTable) -> None:
        """Add one table."""
        self._waiting.append(table)
        if sum(map(len, self._waiting)) > max(self._spare, len(self._sum)):
            self._sum = self.sum()

    def sum(self) -> PairTable:
        """The sum so far."""
        if self._waiting:
            self._sum = added([self._sum, *self._waiting])
            self._waiting = []
        return self._sum


def sums_by(ids: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unique ids, the sum of `values` of each, and for every row the place of its id in them."""
    unique, inverse = np.unique(ids, return_inverse=True)
    sums = np.zeros(len(unique), values.dtype)
    np.add.at(sums, inverse, values)
    return unique, sums, inverse


def _summed(result: np.ndarray, truth: np.ndarray, voxels: np.ndarray) -> PairTable:
    return PairTable(*cooccurrence.summed(result, truth, voxels)) if len(voxels) else EMPTY


def _ids(values: Any, name: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "uib":
        raise BadInput(f"the {name} holds {array.dtype}; objects are whole numbers, 0 = nothing.")
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        raise BadInput(f"the {name} holds the id {array.min()}; ids cannot be negative.")
    return array
