"""Parts: the combinations of labels that several segmentations of the same voxels give.

      pass 1   1 1 1 1 2 2 0        (1, 7) 2   (1, 8) 2   (2, 9) 2   (0, 9) 1
      pass 2   7 7 8 8 9 9 9

A consensus or an ensemble decides which object each part belongs to.

What it is: the table of parts, which adds up over blocks that tile a volume, and the relabelling of
arrays by it. What it is not: a decision (petavox.segment.consensus, petavox.segment.ensemble).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from petavox.cooccurrence import grouped, runs
from petavox.errors import BadInput


@dataclass(frozen=True)
class Parts:
    """Combinations of labels that occur, sorted by the first label, then the second, ...

    labels: (n, k) uint64, of k passes; 0 = nothing there; no row of zeros.
    voxels: (n,) int64.
    """

    labels: np.ndarray
    voxels: np.ndarray

    def __len__(self) -> int:
        return len(self.voxels)


NO_PARTS = Parts(np.zeros((0, 0), np.uint64), np.zeros(0, np.int64))
"""The table of no passes."""


def parts_of(passes: Sequence[np.ndarray]) -> Parts:
    """The parts of k labellings of the same voxels.

    passes: arrays of one shape, unsigned ids, 0 = nothing.
    """
    rows, lengths = _rows(passes)
    return _summed(rows, lengths)


def _rows(passes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Of each run of voxels, in C order: its labels (n, k) uint64 and its length."""
    if len(passes) < 2:
        raise BadInput(f"an ensemble needs two segmentations or more, not {len(passes)}.")
    shapes = sorted({p.shape for p in passes})
    if len(shapes) > 1:
        raise BadInput(f"labels of the shapes {shapes} are not of the same voxels.")
    flat = [p.ravel() for p in passes]
    starts, lengths = runs(*flat)
    return np.stack([f[starts].astype(np.uint64) for f in flat], 1), lengths


def _summed(rows: np.ndarray, voxels: np.ndarray) -> Parts:
    """Equal rows added up, sorted; rows of zeros left out."""
    some = (rows > 0).any(1)
    rows, voxels = rows[some], voxels[some]
    order, heads = grouped(list(rows.T))
    if len(heads) == 0:
        return Parts(rows, np.zeros(0, np.int64))
    return Parts(rows[order][heads], np.add.reduceat(voxels[order].astype(np.int64), heads))


def added(tables: Iterable[Parts]) -> Parts:
    """The sum of the tables of blocks that tile a volume: the table of the volume."""
    parts = [t for t in tables if t.labels.shape[1]]
    if not parts:
        return NO_PARTS
    return _summed(
        np.concatenate([t.labels for t in parts]), np.concatenate([t.voxels for t in parts])
    )


def relabelled(passes: Sequence[np.ndarray], parts: Parts, ids: np.ndarray) -> np.ndarray:
    """The labels of the parts' objects; uint64, of the shape of the passes.

    parts, ids: of a volume that holds these voxels. Raises BadInput for a part not among them.
    """
    rows, lengths = _rows(passes)
    order, heads = grouped(list(rows.T))
    table = np.zeros(len(heads), np.uint64)
    kinds = rows[order][heads]
    here = (kinds > 0).any(1)
    if here.any():
        table[here] = ids[_find(parts.labels, kinds[here])]
    of_run = np.zeros(len(rows), np.uint64)
    of_run[order] = np.repeat(table, np.diff(heads, append=len(rows)))
    return np.repeat(of_run, lengths).reshape(passes[0].shape)


def _find(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Places of different rows among sorted ones."""
    if known.shape[1] != wanted.shape[1]:
        raise BadInput(
            f"the table is of {known.shape[1]} segmentations, the voxels of {wanted.shape[1]}."
        )
    n = len(wanted)
    low, high = np.zeros(n, np.int64), np.full(n, len(known), np.int64)
    # column by column, among the rows whose earlier columns agree: a block asks for few parts of
    # a large table
    for column, value in zip(known.T, wanted.T, strict=True):
        low, high = (_bisect(column, low, high, value, after=after) for after in (False, True))
    if (low == high).any():
        raise BadInput("the voxels hold combinations of objects that are not in the table.")
    return low


def _bisect(
    column: np.ndarray, low: np.ndarray, high: np.ndarray, value: np.ndarray, *, after: bool
) -> np.ndarray:
    """Where value[i] stands, or ends (`after`), in the sorted column[low[i] : high[i]]."""
    low, high = low.copy(), high.copy()
    open_ = np.flatnonzero(low < high)
    while len(open_):
        middle = (low[open_] + high[open_]) // 2
        there = column[middle]
        above = there <= value[open_] if after else there < value[open_]
        low[open_[above]] = middle[above] + 1
        high[open_[~above]] = middle[~above]
        open_ = open_[low[open_] < high[open_]]
    return low
