"""Who holds a run: a lock file, so that two drivers never write one ledger or one project.

What it is: a lock that the system takes back when its process ends, however it ends; and in the
file the holder's name, which is said to the one who comes second. What it is not: a queue.

Some parallel file systems keep such locks within one machine. So a holder renews its file, and who
finds a file that a process of another machine has not closed looks for a while whether it still
does: no clocks are compared. The while is longer than some missed beats, for a file system that
is busy delays them; a process that was once found gone is not waited for at its other files.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import platform
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Self

from petavox.errors import BadInput

log = logging.getLogger("petavox")

BEAT_S = 10.0
"""Seconds between two renewals."""
WATCH_S = 45.0
"""Seconds that a file of another machine is looked at."""
_RUN = uuid.uuid4().hex[:12]
"""Tells this process from a later one of the same number; containers have few."""
_GONE: set[tuple[str, int, str]] = set()
"""Processes of other machines that were found gone."""


class Holding:
    """A lock file that is held, until `close`.

    said: what the second one is told, such as "another petavox is running on X".
    Raises BadInput if another holds it, or the file system has no locks; OSError as it comes.
    """

    def __init__(self, file: Path, *, said: str) -> None:
        self.file = file
        self._ended, self._writing = threading.Event(), threading.Lock()
        me = {"host": platform.node(), "pid": os.getpid(), "run": _RUN}
        self._line = json.dumps(me).encode()
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                free = _taken(self._fd)
            except OSError as e:
                raise BadInput(
                    f"{file} cannot be locked against a second petavox ({e.strerror}): its file "
                    "system has no locks. Keep the run's folder (--run) or the project on another "
                    "one."
                ) from None
            if not free or _lives_elsewhere(file):
                raise BadInput(f"{said}{_named(_holder(file))}: wait for it, or stop it.")
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, self._line, 0)
        except BaseException:
            os.close(self._fd)  # else the lock would stay until this process ends
            raise
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self) -> None:
        while not self._ended.wait(BEAT_S):
            with self._writing:
                if self._ended.is_set():
                    return
                # a disk that is full or away just now must not end the run
                with contextlib.suppress(OSError):
                    os.pwrite(self._fd, self._line, 0)

    def close(self) -> None:
        """Let go."""
        with self._writing:
            if self._ended.is_set():
                return
            self._ended.set()
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _taken(fd: int) -> bool:
    """Take the lock, if nobody has it; who only asks (`is_held`) has it for a moment."""
    for wait_s in (0.05, 0.2, None):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if wait_s is not None:
                time.sleep(wait_s)
    return False


def is_held(file: Path) -> bool:
    """Does a living process hold the file just now? For showing: it may be a few beats late.

    Where locks do not reach, the file of another machine's process tells by its age.
    """
    try:
        fd = os.open(file, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # no locks here, so that no process of this machine can have one
    finally:
        os.close(fd)
    if not _is_of_another(_holder(file)):
        return False
    with contextlib.suppress(FileNotFoundError):
        return _now(file.parent) - _changed(file) / 1e9 < 4 * BEAT_S
    return False


def _now(folder: Path) -> float:
    """The time by the clock that dates the folder's files; this machine's, if none may be made."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(b"?")
            return os.fstat(probe.fileno()).st_mtime
    except OSError:
        return time.time()


def _holder(file: Path) -> dict[str, Any]:
    """What the holder has written; empty if it closed the file, or an older petavox made it."""
    try:
        said = json.loads(file.read_text())
        return {
            "host": str(said["host"]),
            "pid": int(said["pid"]),
            "run": str(said.get("run", "")),
        }
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _is_of_another(holder: dict[str, Any]) -> bool:
    return bool(holder) and holder["host"] != platform.node()


def _named(holder: dict[str, Any]) -> str:
    return f" (process {holder['pid']} on {holder['host']})" if holder else ""


def _lives_elsewhere(file: Path) -> bool:
    """Is the file, whose lock is free here, being renewed by a process of another machine?"""
    holder = _holder(file)
    if not _is_of_another(holder):
        return False
    # who lives renews or closes each file that it holds: gone at one, gone at all
    who = (holder["host"], holder["pid"], holder["run"])
    if who in _GONE:
        return False
    log.warning(
        "%s was not closed by process %s on %s; looking for %.0f s whether that still runs",
        file, holder["pid"], holder["host"], WATCH_S,
    )  # fmt: skip
    first, until = _changed(file), time.monotonic() + WATCH_S
    while time.monotonic() < until:
        time.sleep(min(1.0, WATCH_S / 10))
        if _changed(file) != first:
            return True
    if holder["run"]:
        _GONE.add(who)
    return False


def _changed(file: Path) -> int:
    """Time of change, asked of a file opened anew: what a network file system remembers is old."""
    fd = os.open(file, os.O_RDONLY)
    try:
        return os.fstat(fd).st_mtime_ns
    finally:
        os.close(fd)
