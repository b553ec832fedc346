"""The blocks of a run as boxes, coloured by how they ended.

What it is: rows of the ledger with the grid they belong to, and their annotations. What it is not:
the ledger, or a judgement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from petavox.blocks.ledger import Ledger, Row
from petavox.space import Box, Grid, VoxelSize
from petavox.view.annotations import BOX, Annotations, Property

STATUSES = ("todo", "done", "failed", "quarantined", "lost")
COLOURS = {
    "todo": (150, 150, 150),
    "done": (80, 170, 90),
    "failed": (214, 64, 58),
    "quarantined": (150, 70, 180),
    "lost": (230, 150, 40),
}
MOST = 100_000
"""Blocks shown; of more, those that are not done come first."""


@dataclass(frozen=True)
class Blocks:
    """The blocks of one task.

    states: (blocks,) uint8, indices into STATUSES.  rows: of those that were tried, by number; of
    more than MOST those that are in trouble come first.
    """

    task: str
    grid: Grid
    states: np.ndarray
    rows: dict[int, Row]

    def status(self, number: int) -> str:
        """Of one block: a status of the ledger, or "todo"."""
        return STATUSES[self.states[number]]


def of_task(ledger: Ledger, task: str) -> Blocks | None:
    """The blocks of a task; None where the ledger does not say how they were cut.

    Takes a byte a block, and the rows of MOST of them.
    """
    try:
        start, stop, block, context = (ledger.parts(task) or {})["grid"]
    except (KeyError, ValueError, TypeError):
        return None
    grid = Grid(Box(tuple(start), tuple(stop)), tuple(block), tuple(context))
    states = np.zeros(len(grid), np.uint8)
    for value, status in enumerate(STATUSES[1:], 1):
        numbers = np.fromiter(ledger.numbers(task, status), np.int64)
        states[numbers[numbers < len(grid)]] = value
    rows: dict[int, Row] = {}
    for status in STATUSES[:0:-1]:  # trouble before what is done
        for row in ledger.rows(task, status):
            if len(rows) >= MOST:
                break
            rows[row.number] = row
    return Blocks(task, grid, states, rows)


def boxes(blocks: Blocks, voxel_size: VoxelSize) -> Annotations:
    """The blocks as boxes in nm, with number, status, seconds and colour."""
    count = len(blocks.grid)
    shown = range(count) if count <= MOST else sorted(blocks.rows)
    size = np.array(tuple(voxel_size))
    places = np.zeros((len(shown), 2, 3))
    said: Sequence[str] = [blocks.status(n) for n in shown]
    for i, number in enumerate(shown):
        write = blocks.grid[number].write
        places[i] = np.array([write.start, write.stop]) * size
    seconds = [getattr(blocks.rows.get(n), "seconds", None) or 0.0 for n in shown]
    return Annotations(
        BOX,
        places,
        {
            "number": Property(np.array(list(shown), np.uint32)),
            "seconds": Property(np.array(seconds, np.float32)),
            "status": Property(np.array([STATUSES.index(s) for s in said], np.uint8), STATUSES),
            "colour": Property(np.array([COLOURS[s] for s in said], np.uint8).reshape(-1, 3)),
        },
    )
