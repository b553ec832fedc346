"""Variation of information, adapted Rand error, fill and the oracle floor, from a pair table.

What it is: numbers from a petavox.score.pairs.PairTable. `a` is the result, `t` the truth.
What it is not: a choice of voxels; the caller says by the table which voxels count.

>>> table = pair_table(np.array([1, 1, 2, 2]), np.array([7, 7, 7, 7]))
>>> variation_of_information(table)          # one body cut into halves: one bit of split
Vi(split=1.0, merge=0.0)
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from petavox.score.pairs import PairTable, pair_table, sums_by

__all__ = [
    "Counts",
    "Rand",
    "Vi",
    "adapted_rand",
    "counts",
    "fill",
    "majority",
    "oracle",
    "pair_table",
    "variation_of_information",
]


class Vi(NamedTuple):
    """Variation of information in bits; NaN where no voxel counts."""

    split: float
    merge: float

    @property
    def total(self) -> float:
        """Split and merge together."""
        return self.split + self.merge


class Rand(NamedTuple):
    """Adapted Rand error with its parts; NaN where no voxel counts.

    precision: share of the voxel pairs joined in the result that the truth joins (mergers lower
    it).  recall: share of the pairs joined in the truth that the result joins (splits lower it).
    """

    error: float
    precision: float
    recall: float


class Counts(NamedTuple):
    """How many objects there are, and how many of at least a given number of voxels."""

    objects: int
    large: int


def variation_of_information(table: PairTable) -> Vi:
    """Split = H(a | t) and merge = H(t | a), in bits (log2). Source: Meila 2007.

    Every pair in the table counts, one with id 0 as one object called 0: restrict the table
    first. The sum is over non-negative terms, so a perfect result is exactly 0.
    """
    if len(table) == 0:
        return Vi(math.nan, math.nan)
    split, merge = bits(table)
    return Vi(math.fsum(split), math.fsum(merge))


def bits(table: PairTable) -> tuple[np.ndarray, np.ndarray]:
    """What each pair adds to VI: (split, merge), (n,) float64 each, in bits."""
    n = table.voxels.astype(np.float64)
    _, of_a, at_a = sums_by(table.result, n)
    _, of_t, at_t = sums_by(table.truth, n)
    share = n / n.sum() if len(n) else n
    return share * np.log2(of_t[at_t] / n), share * np.log2(of_a[at_a] / n)


def adapted_rand(table: PairTable) -> Rand:
    """1 - F of pair precision and recall, over pairs of two different voxels.

    Source: Arganda-Carreras et al. 2015, as in scikit-image's adapted_rand_error. Where neither
    side joins any two voxels, nothing can be wrong and the error is 0.
    """
    if len(table) == 0:
        return Rand(math.nan, math.nan, math.nan)
    n = table.voxels.astype(np.float64)
    both = float(n @ n - n.sum())
    in_a = _pairs(table.result, n)
    in_t = _pairs(table.truth, n)
    precision = both / in_a if in_a > 0 else 1.0
    recall = both / in_t if in_t > 0 else 1.0
    together = in_a + in_t
    return Rand(1.0 - 2.0 * both / together if together > 0 else 0.0, precision, recall)


def fill(table: PairTable) -> float:
    """Share of the voxels with t > 0 that have a > 0; NaN where the truth is empty."""
    truth = table.truth > 0
    every = int(table.voxels[truth].sum())
    return int(table.voxels[truth & (table.result > 0)].sum()) / every if every else math.nan


def counts(ids: np.ndarray, voxels: np.ndarray, large: int = 1000) -> Counts:
    """Objects (ids above 0) and those of at least `large` voxels, from a table's columns."""
    unique, sizes, _ = sums_by(ids, voxels)
    sizes = sizes[unique > 0]
    return Counts(len(sizes), int((sizes >= large).sum()))


def majority(table: PairTable) -> tuple[np.ndarray, np.ndarray]:
    """The body that each result object shares most voxels with: (objects, bodies), uint64.

    Of equal shares the smallest body wins. Only pairs with both ids above 0 count; objects
    without any are left out.
    """
    t = table.labelled()
    order = np.lexsort((t.truth, -t.voxels, t.result))
    objects, first = np.unique(t.result[order], return_index=True)
    return objects, t.truth[order][first]


def oracle(table: PairTable, judged_on: PairTable | None = None) -> PairTable:
    """The table had every result object been merged perfectly: each given to its majority body.

    Its scores are the floor for any agglomeration of this result. judged_on: the table that
    says which body is the majority (default: `table` itself); use the table of all voxels also
    when `table` counts only some, so that both floors speak of one merging.
    """
    objects, bodies = majority(table if judged_on is None else judged_on)
    # an object that meets no body becomes nothing; the 0 at the end stands for it
    at = np.searchsorted(objects, table.result)
    known = np.append(objects, np.uint64(0))[at] == table.result
    return table.with_result(np.where(known, np.append(bodies, np.uint64(0))[at], np.uint64(0)))


def _pairs(ids: np.ndarray, voxels: np.ndarray) -> float:
    _, sums, _ = sums_by(ids, voxels)
    return float(sums @ sums - sums.sum())
