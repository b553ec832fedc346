"""The ledger's file: its tables, how it is opened, and SQLite's errors as sentences.

What it is: the SQLite that people who run blocks need not know of. What it is not: the ledger's
questions and records (petavox.blocks.ledger).
"""

from __future__ import annotations

import array
import contextlib
import logging
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from petavox.errors import BadInput, WorkFailed

log = logging.getLogger("petavox")

WAIT_S = 600.0
"""How long a driver waits for one who looks at the ledger, before it gives up."""

SCHEMA = """
BEGIN;
CREATE TABLE IF NOT EXISTS tasks (
  name TEXT PRIMARY KEY, key TEXT NOT NULL, parts TEXT NOT NULL, total INTEGER NOT NULL,
  complete INTEGER NOT NULL DEFAULT 0, begun REAL NOT NULL, costs TEXT NOT NULL DEFAULT '{}');
CREATE TABLE IF NOT EXISTS blocks (
  task TEXT NOT NULL, number INTEGER NOT NULL, status TEXT NOT NULL, attempts INTEGER NOT NULL,
  kills INTEGER NOT NULL, seconds REAL, host TEXT, device TEXT, counters TEXT, error TEXT,
  trace TEXT, finished REAL, PRIMARY KEY (task, number)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS blocks_by_status ON blocks (task, status, finished, seconds);
CREATE TABLE IF NOT EXISTS runs (
  id INTEGER PRIMARY KEY, task TEXT NOT NULL, engine TEXT, workers INTEGER, begun REAL,
  seconds REAL, done INTEGER, kept INTEGER, failed INTEGER, note TEXT);
COMMIT;
"""
# the index is written in the order of time, and answers counts, seconds and rates by itself: the
# rows of ten million blocks are gigabytes


def opened(path: Path) -> sqlite3.Connection:
    """The database for its one driver; its tables are made if need be."""
    db = sqlite3.connect(path, timeout=10)
    db.execute("PRAGMA synchronous = NORMAL")
    db.executescript(SCHEMA)
    db.execute("SELECT name, key FROM tasks LIMIT 1").fetchall()
    return db


def seen(path: Path) -> sqlite3.Connection:
    """The database for one who only looks."""
    if not path.is_file():
        raise BadInput(f"there is no ledger at {path}: nothing was run here yet.")
    db = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=10)
    try:
        db.execute("SELECT name, key FROM tasks LIMIT 1").fetchall()
    except sqlite3.OperationalError as e:
        db.close()
        if getattr(e, "sqlite_errorname", "").startswith("SQLITE_READONLY"):
            return _mended_copy(path)
        raise
    return db


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


def commit(db: sqlite3.Connection, path: Path) -> None:
    """Commit; waits for those who look at the ledger, for a `petavox status` must not end a run."""
    until, said = time.monotonic() + WAIT_S, False
    while True:
        try:
            db.commit()
            return
        except sqlite3.OperationalError as e:
            if not is_busy(e) or time.monotonic() > until:
                raise
            if not said:
                log.warning("the ledger %s waits for a program that reads it", path)
                said = True


def is_busy(error: sqlite3.Error) -> bool:
    """Is somebody else at the file just now?"""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def unusable(path: Path, error: sqlite3.Error) -> str:
    """Why a ledger cannot be opened, and what helps: never to lose one that is only busy."""
    if str(error).startswith("no such table"):
        return f"there is nothing in the ledger {path} yet: nothing was run here."
    if isinstance(error, sqlite3.OperationalError):
        return (
            f"the ledger {path} cannot be opened ({error}); free space on its disk, or try again."
        )
    if getattr(error, "sqlite_errorname", "") == "SQLITE_CORRUPT":
        return (
            f"the ledger {path} cannot be used as a ledger ({error}): if a run writes it, try "
            "again; else restore it, or move it away and all blocks are done again."
        )
    return f"{path} cannot be used as a ledger ({error}); move it away."


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """SQLite's errors of a driver as a sentence."""
    try:
        yield
    except sqlite3.Error as e:
        raise WorkFailed(
            f"the ledger {path} cannot be written ({e}). Free space on its disk and run again: "
            "what is in it is kept, the rest is done again."
        ) from e


def asked(db: sqlite3.Connection, path: Path, query: str, values: tuple[Any, ...]) -> list[Any]:
    """The rows that answer a question, all at once: an open question keeps the driver waiting."""
    with _reading(path):
        return db.execute(query, values).fetchall()


def column(
    db: sqlite3.Connection, path: Path, kind: str, query: str, values: tuple[Any, ...]
) -> array.array[Any]:
    """The one column that answers a question, at once, in eight bytes a row: "q" or "d"."""
    with _reading(path):
        return array.array(kind, (row[0] for row in db.execute(query, values)))


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as e:
        raise WorkFailed(
            f"the ledger {path} cannot be read ({e}). If a run is writing it, try again; if that "
            "does not help, its disk has lost something."
        ) from e
