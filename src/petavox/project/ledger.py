"""The project's ledger, as one step sees it: its tasks are named STEP/TASK in the one file.

What it is: a Ledger with a prefix, so that two steps that run a task of one name (both reconcile
and agglomerate relabel) do not forget each other's blocks. What it is not: another file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from petavox.blocks import database
from petavox.blocks.ledger import Ledger, Row


class StepLedger(Ledger):
    """The tasks of one step; every method is that of Ledger, with the task's full name."""

    def __init__(self, path: str | Path, step: str) -> None:
        self._prefix = f"{step}/"
        super().__init__(path)

    def _full(self, task: str) -> str:
        # also of a name that is full already: methods of Ledger call one another
        return task if task.startswith(self._prefix) else self._prefix + task

    def forget_step(self) -> None:
        """Forget all that is known of the step's blocks: they are done again."""
        with database.writing(self.path):
            self.save()
            for table, column in (("tasks", "name"), ("blocks", "task")):
                query = f"DELETE FROM {table} WHERE substr({column}, 1, ?) = ?"
                self._db.execute(query, (len(self._prefix), self._prefix))
            database.commit(self._db, self.path)

    def parts(self, task: str) -> dict[str, Any] | None:
        """What decided the result of a task."""
        return super().parts(self._full(task))

    def begin(
        self,
        task: str,
        *,
        key: str,
        parts: Mapping[str, Any],
        total: int,
        costs: Mapping[str, int] | None = None,
    ) -> None:
        """Record a task."""
        super().begin(self._full(task), key=key, parts=parts, total=total, costs=costs)

    def costs(self, task: str) -> dict[str, int]:
        """What one block needs at most."""
        return super().costs(self._full(task))

    def forget(self, task: str) -> None:
        """Remove all rows of a task's blocks."""
        super().forget(self._full(task))

    def complete(self, task: str) -> None:
        """Mark a task as having every block done."""
        super().complete(self._full(task))

    def is_complete(self, task: str) -> bool:
        """Was the task finished, all of it?"""
        return super().is_complete(self._full(task))

    def record(self, task: str, row: Row) -> None:
        """Add or replace the row of a block."""
        super().record(self._full(task), row)

    def run_finished(self, task: str, **figures: Any) -> None:
        """Record one run of a task."""
        super().run_finished(self._full(task), **figures)

    def rows(self, task: str, status: str | None = None) -> Iterator[Row]:
        """The rows of a task."""
        return super().rows(self._full(task), status)

    def numbers(self, task: str, status: str) -> Iterable[int]:
        """Numbers of the blocks with a status."""
        return super().numbers(self._full(task), status)

    def done_since(self, task: str, moment: float) -> int:
        """Blocks that were finished at this time or later."""
        return super().done_since(self._full(task), moment)

    def runs(self, task: str) -> list[dict[str, Any]]:
        """Runs of a task."""
        return super().runs(self._full(task))

    def seconds(self, task: str) -> list[float]:
        """Measured seconds of the finished blocks."""
        return super().seconds(self._full(task))

    def counters(self, task: str) -> dict[str, Any]:
        """Sums of the numeric counters."""
        return super().counters(self._full(task))
