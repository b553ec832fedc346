"""Totals by object over the files of all blocks, in the driver.

What it is: sums that take n log n, and memory that follows the objects. What it is not: files.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from petavox.stages.objects import add_totals

_FEW = 100_000
"""Rows that are worth waiting for before they are added."""


def totals(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids (ascending, uint64) and the sum of each one's amounts (float64), over all parts.

    parts: (ids, amounts) of a block; an id may come many times.
    Adding sorts all ids found so far, so it waits until as many new rows are there: each row is
    sorted about as often as the number of rows doubles, not once for every later block.
    """
    sums = (np.zeros(0, np.uint64), np.zeros(0))
    ids: list[np.ndarray] = []
    amounts: list[np.ndarray] = []
    waiting = 0

    def added() -> tuple[np.ndarray, np.ndarray]:
        return add_totals(
            sums,
            np.concatenate([np.zeros(0, np.uint64), *ids]),
            np.concatenate([np.zeros(0), *amounts]),
        )

    for names, values in parts:
        ids.append(names.astype(np.uint64))
        amounts.append(values.astype(np.float64))
        waiting += len(names)
        if waiting >= max(_FEW, len(sums[0])):
            sums = added()
            ids, amounts, waiting = [], [], 0
    return added()
