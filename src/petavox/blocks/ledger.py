"""The ledger: what was done to each block, in SQLite, written by the driver alone.

What it is: one row per block that was ever tried (status, attempts, seconds, host, device,
counters, first traceback), one per task (the parts that decide its result), one per run.
What it is not: a queue; blocks that were never tried have no row, so a plan of a million blocks
costs nothing here.

Two drivers cannot hold one ledger: the second is told so. Commits are batched; a driver that is
killed loses at most the last second of records, and those blocks run again.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from petavox.blocks import database
from petavox.blocks.holding import Holding
from petavox.blocks.ledger_reading import Reading, Row
from petavox.errors import BadInput

__all__ = ["Ledger", "Row"]

SAVE_EVERY = 1.0
"""Seconds between two commits, while blocks come back."""

_RECORD = (
    "INSERT INTO blocks VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (task, number) "
    "DO UPDATE SET status = excluded.status, attempts = excluded.attempts, "
    "kills = excluded.kills, seconds = excluded.seconds, host = excluded.host, "
    "device = excluded.device, counters = excluded.counters, "
    "error = CASE WHEN excluded.error != '' THEN excluded.error ELSE blocks.error END, "
    "trace = CASE WHEN blocks.trace != '' THEN blocks.trace ELSE excluded.trace END, "
    "finished = excluded.finished"
)


class Ledger(Reading):
    """The ledger file of a project.

    readonly: for `status` and `plan`; takes no lock.
    Raises BadInput if another driver holds it, or it is not a ledger.
    """

    def __init__(self, path: str | Path, *, readonly: bool = False) -> None:
        self.path = Path(path)
        self._held: Holding | None = None
        self._pending: list[tuple[Any, ...]] = []
        self._saved = time.monotonic()
        try:
            self._db = database.seen(self.path) if readonly else self._opened()
        except OSError as e:
            self._let_go()
            raise BadInput(f"{path} cannot be used as a ledger: {e.strerror or e}.") from e
        except sqlite3.Error as e:
            self._let_go()
            raise BadInput(database.unusable(self.path, e)) from e

    def _opened(self) -> sqlite3.Connection:
        """The database of a driver, locked against others."""
        from petavox.volume import places  # of no use to who only reads

        places.named(self.path)  # refuses a URL taken for a path, before a folder is made of it
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._held = Holding(
            self.path.with_suffix(".lock"), said=f"another petavox is running on {self.path}"
        )
        return database.opened(self.path)

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what is pending and let go of the lock."""
        try:
            if self._pending:
                self.save()
        finally:
            self._db.close()
            self._let_go()

    def begin(
        self,
        task: str,
        *,
        key: str,
        parts: Mapping[str, Any],
        total: int,
        costs: Mapping[str, int] | None = None,
    ) -> None:
        """Record a task; if its key changed, what was known of its blocks is forgotten."""
        with database.writing(self.path):
            old = self._db.execute("SELECT key FROM tasks WHERE name = ?", (task,)).fetchone()
            if old is not None and old[0] != key:
                self.forget(task)
            self._db.execute(
                "INSERT INTO tasks VALUES (?, ?, ?, ?, 0, ?, ?) ON CONFLICT (name) DO UPDATE SET "
                "key = excluded.key, parts = excluded.parts, total = excluded.total, complete = 0, "
                "costs = excluded.costs",
                (
                    task,
                    key,
                    json.dumps(parts, sort_keys=True),
                    total,
                    time.time(),
                    json.dumps(dict(costs or {})),
                ),
            )
            database.commit(self._db, self.path)

    def forget(self, task: str) -> None:
        """Remove all rows of a task's blocks."""
        with database.writing(self.path):
            self._db.execute("DELETE FROM blocks WHERE task = ?", (task,))

    def complete(self, task: str) -> None:
        """Mark a task as having every block done."""
        with database.writing(self.path):
            self.save()
            self._db.execute("UPDATE tasks SET complete = 1 WHERE name = ?", (task,))
            database.commit(self._db, self.path)

    def record(self, task: str, row: Row) -> None:
        """Add or replace the row of a block; the first traceback is kept."""
        self._pending.append(
            (
                task,
                row.number,
                row.status,
                row.attempts,
                row.kills,
                row.seconds,
                row.host,
                row.device,
                json.dumps(dict(row.counters)) if row.counters is not None else None,
                row.error,
                row.trace,
                time.time(),
            )
        )
        self.flush()

    def flush(self) -> None:
        """Commit what is pending if the last time is a second ago; ask often, it costs nothing.

        While somebody reads the ledger, what is pending waits here, and blocks go on.
        """
        if self._pending and time.monotonic() - self._saved > SAVE_EVERY:
            self._save(wait=False)

    def save(self) -> None:
        """Commit what is pending, now."""
        self._save(wait=True)

    def _save(self, *, wait: bool) -> None:
        with database.writing(self.path):
            # no longer than this may a reader keep the driver from its workers
            self._db.execute(f"PRAGMA busy_timeout = {10_000 if wait else 200}")
            try:
                self._db.executemany(_RECORD, self._pending)
                if wait:
                    database.commit(self._db, self.path)
                else:
                    self._db.commit()
                self._pending.clear()
            except sqlite3.OperationalError as e:
                if wait or not database.is_busy(e):
                    raise
                self._db.rollback()
            finally:
                self._db.execute("PRAGMA busy_timeout = 10000")
            self._saved = time.monotonic()

    def run_finished(
        self,
        task: str,
        *,
        engine: str,
        workers: int,
        seconds: float,
        done: int,
        kept: int,
        failed: int,
        note: str = "",
    ) -> None:
        """Record one run of a task."""
        with database.writing(self.path):
            self.save()
            self._db.execute(
                "INSERT INTO runs (task, engine, workers, begun, seconds, done, kept, failed, note)"
                " VALUES (?,?,?,?,?,?,?,?,?)",
                (task, engine, workers, time.time() - seconds, seconds, done, kept, failed, note),
            )
            database.commit(self._db, self.path)
