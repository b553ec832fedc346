"""Totals by object over the files of all blocks, in the driver.

What it is: sums that take n log n, and memory that follows the objects. What it is not: files.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from petavox.merging import merged
from petavox.stages.objects import add_totals

Sums = tuple[np.ndarray, np.ndarray]
"""Ids, and an amount of each."""
_FEW = 100_000
"""Rows that are worth waiting for before they are added."""


def totals(parts: Iterable[Sums]) -> Sums:
    """Ids (ascending, uint64) and the sum of each one's amounts (float64), over all parts.

    parts: (ids, amounts) of a block; an id may come many times.
    """

    def added(some: list[Sums]) -> Sums:
        ids = np.concatenate([np.zeros(0, np.uint64), *(i.astype(np.uint64) for i, _ in some[1:])])
        return add_totals(some[0], ids, np.concatenate([np.zeros(0), *(a for _, a in some[1:])]))

    none = (np.zeros(0, np.uint64), np.zeros(0))
    return merged(parts, none, added, rows=lambda part: len(part[0]), least=_FEW)
