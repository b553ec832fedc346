"""What the ledger can be asked: of tasks, of blocks, of runs.

What it is: one method a question. Each reads a page at a time and lets go in between: an open
question would keep the driver from writing. What it is not: the records (petavox.blocks.ledger).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petavox.blocks import database

STATUSES = ("done", "failed", "quarantined", "lost")
_PAGE = 1000
"""Rows read at once."""


@dataclass
class Row:
    """One block in the ledger."""

    number: int
    status: str
    attempts: int = 0
    kills: int = 0
    seconds: float | None = None
    host: str = ""
    device: str = ""
    counters: Mapping[str, Any] | None = None
    error: str = ""
    trace: str = ""
    finished: float | None = None


class Reading:
    """The questions; `path` and `_db` are of the ledger."""

    path: Path
    _db: sqlite3.Connection

    def parts(self, task: str) -> dict[str, Any] | None:
        """What decided the result of a task when it last ran; None if it never did."""
        rows = self._asked("SELECT parts FROM tasks WHERE name = ?", task)
        return dict(json.loads(rows[0][0])) if rows else None

    def costs(self, task: str) -> dict[str, int]:
        """What one block of a task needs at most (memory_bytes, write_bytes, files, ...)."""
        rows = self._asked("SELECT costs FROM tasks WHERE name = ?", task)
        return dict(json.loads(rows[0][0])) if rows else {}

    def is_complete(self, task: str) -> bool:
        """Was the task finished, all of it?"""
        rows = self._asked("SELECT complete FROM tasks WHERE name = ?", task)
        return bool(rows and rows[0][0])

    def rows(self, task: str, status: str | None = None) -> Iterator[Row]:
        """The rows of a task, by block number."""
        query = (
            "SELECT number, status, attempts, kills, seconds, host, device, counters, error, "
            "trace, finished FROM blocks WHERE task = ? AND number > ?"
            # finished blocks are most: in the order of their numbers; the others by their index
            + {None: "", "done": " AND +status = ?"}.get(status, " AND status = ?")
            + f" ORDER BY number LIMIT {_PAGE}"
        )
        last = -1
        while page := self._asked(query, task, last, *([] if status is None else [status])):
            for r in page:
                number, said, attempts, kills, seconds, host, device, counters, *rest = r
                known = json.loads(counters) if counters else None
                yield Row(number, said, attempts, kills, seconds, host, device, known, *rest)
            last = page[-1][0]

    def numbers(self, task: str, status: str) -> Iterable[int]:
        """Numbers of the blocks with a status, in no order, without loading their rows."""
        query = "SELECT number FROM blocks WHERE task = ? AND status = ?"
        return database.column(self._db, self.path, "q", query, (task, status))

    def tasks(self) -> list[dict[str, Any]]:
        """Every task: name, total, complete, count of blocks by status, seconds."""
        found = []
        known = "SELECT name, total, complete FROM tasks ORDER BY begun"
        for name, total, complete in self._asked(known):
            states = self._asked(
                "SELECT status, COUNT(*), SUM(seconds), MAX(finished) FROM blocks WHERE task = ? "
                "GROUP BY status",
                name,
            )
            counts = {status: n for status, n, _, _ in states}
            found.append(
                {
                    "name": name,
                    "total": total,
                    "complete": bool(complete),
                    **{s: counts.get(s, 0) for s in STATUSES},
                    "block_seconds": float(sum(s or 0.0 for _, _, s, _ in states)),
                    "last": max((f for _, _, _, f in states if f is not None), default=None),
                }
            )
        return found

    def done_since(self, task: str, moment: float) -> int:
        """Blocks of a task that were finished at this time (unix, s) or later."""
        query = "SELECT COUNT(*) FROM blocks WHERE task = ? AND status = 'done' AND finished >= ?"
        return int(self._asked(query, task, moment)[0][0])

    def runs(self, task: str) -> list[dict[str, Any]]:
        """Runs of a task, oldest first."""
        names = ("engine", "workers", "begun", "seconds", "done", "kept", "failed", "note")
        query = f"SELECT {', '.join(names)} FROM runs WHERE task = ? ORDER BY id"
        return [dict(zip(names, r, strict=True)) for r in self._asked(query, task)]

    def seconds(self, task: str) -> list[float]:
        """Measured seconds of the finished blocks of a task."""
        query = (
            "SELECT seconds FROM blocks WHERE task = ? AND status = 'done' AND seconds IS NOT NULL"
        )
        return database.column(self._db, self.path, "d", query, (task,)).tolist()

    def counters(self, task: str) -> dict[str, Any]:
        """Sums of the numeric counters over the finished blocks."""
        sums: dict[str, Any] = {}
        query = (
            "SELECT number, counters FROM blocks WHERE task = ? AND +status = 'done' AND number > ?"
            f" ORDER BY number LIMIT {_PAGE}"
        )
        last = -1
        while page := self._asked(query, task, last):
            for _, text in page:
                for name, value in (json.loads(text) if text else {}).items():
                    if isinstance(value, (int, float)) and not isinstance(value, bool):
                        sums[name] = sums.get(name, 0) + value
            last = page[-1][0]
        return sums

    def _asked(self, query: str, *values: Any) -> list[Any]:
        return database.asked(self._db, self.path, query, values)
