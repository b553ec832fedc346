"""The ledger: what was done to each block, in SQLite, written by the driver alone.

What it is: one row per block that was ever tried (status, attempts, seconds, host, device,
counters, first traceback), one per task (the parts that decide its result), one per run.
What it is not: a queue; blocks that were never tried have no row, so a plan of a million blocks
costs nothing here.

Two drivers cannot hold one ledger: the second is told so. Commits are batched; a driver that is
killed loses at most the last second of records, and those blocks run again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from petavox.errors import BadInput, WorkFailed

STATUSES = ("done", "failed", "quarantined", "lost")

_SCHEMA = """
BEGIN;
CREATE TABLE IF NOT EXISTS tasks (
  name TEXT PRIMARY KEY, key TEXT NOT NULL, parts TEXT NOT NULL, total INTEGER NOT NULL,
  complete INTEGER NOT NULL DEFAULT 0, begun REAL NOT NULL, costs TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS blocks (
  task TEXT NOT NULL, number INTEGER NOT NULL, status TEXT NOT NULL, attempts INTEGER NOT NULL,
  kills INTEGER NOT NULL, seconds REAL, host TEXT, device TEXT, counters TEXT, error TEXT,
  trace TEXT, finished REAL, PRIMARY KEY (task, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
  id INTEGER PRIMARY KEY, task TEXT NOT NULL, engine TEXT, workers INTEGER, begun REAL,
  seconds REAL, done INTEGER, kept INTEGER, failed INTEGER, note TEXT);
COMMIT;
"""


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


class Ledger:
    """The ledger file of a project.

    readonly: for `status` and `plan`; takes no lock.
    Raises BadInput if another driver holds it, or it is not a ledger.
    """

    def __init__(self, path: str | Path, *, readonly: bool = False) -> None:
        self.path = Path(path)
        self._lock: int | None = None
        self._pending: list[tuple[Any, ...]] = []
        self._saved = time.monotonic()
        try:
            self._db = self._read() if readonly else self._written()
        except OSError as e:
            self._let_go()
            raise BadInput(f"{path} cannot be used as a ledger: {e.strerror or e}.") from e
        except sqlite3.Error as e:
            self._let_go()
            raise BadInput(_unusable(self.path, e)) from e

    def _written(self) -> sqlite3.Connection:
        """The database of a driver, locked against others; its tables are made if need be."""
        from petavox.volume import places  # of no use to who only reads

        places.named(self.path)  # refuses a URL taken for a path, before a folder is made of it
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        db = sqlite3.connect(self.path, timeout=10)
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
        db.execute("SELECT name, key FROM tasks LIMIT 1").fetchall()
        return db

    def _read(self) -> sqlite3.Connection:
        """The database for one who only looks."""
        if not self.path.is_file():
            raise BadInput(f"there is no ledger at {self.path}: nothing was run here yet.")
        db = sqlite3.connect(f"file:{quote(str(self.path))}?mode=ro", uri=True, timeout=10)
        try:
            db.execute("SELECT name, key FROM tasks LIMIT 1").fetchall()
        except sqlite3.OperationalError as e:
            db.close()
            if getattr(e, "sqlite_errorname", "").startswith("SQLITE_READONLY"):
                return _mended_copy(self.path)
            raise
        return db

    def _take_lock(self) -> None:
        lock = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise BadInput(
                f"another petavox is running on {self.path}: wait for it, or stop it."
            ) from None
        except OSError as e:
            os.close(lock)
            raise BadInput(
                f"{self.path} cannot be locked against a second petavox ({e.strerror}): its file "
                "system has no locks. Keep the run's folder on another one (--run)."
            ) from None
        self._lock = lock

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

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

    def parts(self, task: str) -> dict[str, Any] | None:
        """What decided the result of a task when it last ran; None if it never did."""
        row = self._db.execute("SELECT parts FROM tasks WHERE name = ?", (task,)).fetchone()
        return None if row is None else dict(json.loads(row[0]))

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
        with self._guarded():
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
            self._db.commit()

    def costs(self, task: str) -> dict[str, int]:
        """What one block of a task needs at most (memory_bytes, write_bytes, files, ...)."""
        row = self._db.execute("SELECT costs FROM tasks WHERE name = ?", (task,)).fetchone()
        return {} if row is None else dict(json.loads(row[0]))

    def forget(self, task: str) -> None:
        """Remove all rows of a task's blocks."""
        with self._guarded():
            self._db.execute("DELETE FROM blocks WHERE task = ?", (task,))

    def complete(self, task: str) -> None:
        """Mark a task as having every block done."""
        with self._guarded():
            self.save()
            self._db.execute("UPDATE tasks SET complete = 1 WHERE name = ?", (task,))
            self._db.commit()

    def is_complete(self, task: str) -> bool:
        """Was the task finished, all of it?"""
        row = self._db.execute("SELECT complete FROM tasks WHERE name = ?", (task,)).fetchone()
        return row is not None and bool(row[0])

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
        if len(self._pending) >= 500 or time.monotonic() - self._saved > 1.0:
            self.save()

    def save(self) -> None:
        """Commit what is pending."""
        with self._guarded():
            self._db.executemany(
                "INSERT INTO blocks VALUES (?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (task, number) "
                "DO UPDATE SET status = excluded.status, attempts = excluded.attempts, "
                "kills = excluded.kills, seconds = excluded.seconds, host = excluded.host, "
                "device = excluded.device, counters = excluded.counters, "
                "error = CASE WHEN excluded.error != '' THEN excluded.error ELSE blocks.error END, "
                "trace = CASE WHEN blocks.trace != '' THEN blocks.trace ELSE excluded.trace END, "
                "finished = excluded.finished",
                self._pending,
            )
            self._db.commit()
            self._pending.clear()
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
        with self._guarded():
            self.save()
            self._db.execute(
                "INSERT INTO runs (task, engine, workers, begun, seconds, done, kept, failed, note)"
                " VALUES (?,?,?,?,?,?,?,?,?)",
                (task, engine, workers, time.time() - seconds, seconds, done, kept, failed, note),
            )
            self._db.commit()

    def rows(self, task: str, status: str | None = None) -> Iterator[Row]:
        """The rows of a task, by block number."""
        query = (
            "SELECT number, status, attempts, kills, seconds, host, device, counters, error, "
            "trace, finished FROM blocks WHERE task = ?"
        )
        values: list[Any] = [task]
        if status is not None:
            query, values = query + " AND status = ?", [task, status]
        for r in self._db.execute(query + " ORDER BY number", values):
            number, status, attempts, kills, seconds, host, device, counters, *rest = r
            known = json.loads(counters) if counters else None
            yield Row(number, status, attempts, kills, seconds, host, device, known, *rest)

    def numbers(self, task: str, status: str) -> Iterable[int]:
        """Numbers of the blocks with a status, without loading their rows."""
        query = "SELECT number FROM blocks WHERE task = ? AND status = ? ORDER BY number"
        return (int(r[0]) for r in self._db.execute(query, (task, status)))

    def tasks(self) -> list[dict[str, Any]]:
        """Every task: name, total, complete, count of blocks by status, seconds."""
        found = []
        for name, total, complete in self._db.execute(
            "SELECT name, total, complete FROM tasks ORDER BY begun"
        ).fetchall():
            by_status = dict(
                self._db.execute(
                    "SELECT status, COUNT(*) FROM blocks WHERE task = ? GROUP BY status", (name,)
                ).fetchall()
            )
            seconds = self._db.execute(
                "SELECT SUM(seconds), MAX(finished) FROM blocks WHERE task = ?", (name,)
            ).fetchone()
            found.append(
                {
                    "name": name,
                    "total": total,
                    "complete": bool(complete),
                    **{s: by_status.get(s, 0) for s in STATUSES},
                    "block_seconds": seconds[0] or 0.0,
                    "last": seconds[1],
                }
            )
        return found

    def runs(self, task: str) -> list[dict[str, Any]]:
        """Runs of a task, oldest first."""
        names = ("engine", "workers", "begun", "seconds", "done", "kept", "failed", "note")
        query = f"SELECT {', '.join(names)} FROM runs WHERE task = ? ORDER BY id"
        return [dict(zip(names, r, strict=True)) for r in self._db.execute(query, (task,))]

    def seconds(self, task: str) -> list[float]:
        """Measured seconds of the finished blocks of a task."""
        query = "SELECT seconds FROM blocks WHERE task = ? AND status = 'done'"
        return [float(r[0]) for r in self._db.execute(query, (task,)) if r[0] is not None]

    def counters(self, task: str) -> dict[str, Any]:
        """Sums of the numeric counters over the finished blocks."""
        sums: dict[str, Any] = {}
        query = "SELECT counters FROM blocks WHERE task = ? AND status = 'done'"
        for (text,) in self._db.execute(query, (task,)):
            for name, value in (json.loads(text) if text else {}).items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    sums[name] = sums.get(name, 0) + value
        return sums

    def _guarded(self) -> _Guard:
        return _Guard(self.path)


def _mended_copy(path: Path) -> sqlite3.Connection:
    """In memory: a ledger whose driver was killed while it saved, as it was before that.

    Who only looks does not mend the file itself: where locks do not reach across nodes, a driver
    that is saving just now looks the same. The next driver mends it.
    """
    made = sqlite3.connect(":memory:")
    with tempfile.TemporaryDirectory() as folder:
        for name in (path.name, f"{path.name}-journal"):
            shutil.copy(path.with_name(name), folder)
        mended = sqlite3.connect(Path(folder) / path.name)
        try:
            mended.backup(made)
        finally:
            mended.close()
    return made


def _unusable(path: Path, error: sqlite3.Error) -> str:
    """Why a ledger cannot be opened, and what helps: never to lose one that is only busy."""
    if str(error).startswith("no such table"):
        return f"there is nothing in the ledger {path} yet: nothing was run here."
    if isinstance(error, sqlite3.OperationalError):
        return (
            f"the ledger {path} cannot be opened ({error}); free space on its disk, or try again."
        )
    return f"{path} cannot be used as a ledger ({error}); move it away."


class _Guard:
    """SQLite's errors as a sentence."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(value, sqlite3.Error):
            raise WorkFailed(
                f"the ledger {self.path} cannot be written ({value}). Free space on its disk and "
                "run again: what is in it is kept, the rest is done again."
            ) from value
