"""Engines: who calls the block function.

    with open_engine(workers=2) as engine:       # started once, for several tasks
        run(first, engine=engine, ...)
        run(second, engine=engine, ...)

What it is: the small interface of an engine, the choice of one, and `InlineEngine`, which calls the
function in this process. What it is not: worker processes (parsl_engine), or the runner, which
decides what to send and what a loss means.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from petavox.blocks import sites, work
from petavox.blocks.beacons import ALONE, Beacons, Inside
from petavox.blocks.outcome import Limits
from petavox.blocks.sites import Site


@dataclass(frozen=True)
class Event:
    """What came back for one bundle: its results, or how it was lost.

    lost: "worker" (the process died), "node" (a pool of workers died or fell silent), "engine"
    (all was started anew), or None.
    host: where the lost worker was, where known.
    culprit: the block that the lost worker was in, where known; trace: where it hung, if it did.
    """

    ticket: int
    results: list[work.Result] | None = None
    lost: str | None = None
    reason: str = ""
    culprit: int | None = None
    trace: str = ""
    host: str = ""


class Engine(Protocol):
    """Takes bundles of blocks and gives events back."""

    workers: int
    name: str
    limits: Limits | None
    """Of every task, unless the call says others."""

    def begin(self, *, timeout_s: float | None, beacons: Path | None) -> list[tuple[int, str]]:
        """Make ready for one task; gives (block, trace) that a killed driver was itself in."""
        ...

    def submit(self, ticket: int, job: dict[str, Any]) -> None:
        """Take one bundle. `ticket` names it in the event."""
        ...

    def events(self, wait_s: float) -> list[Event]:
        """What came back; waits up to `wait_s` for the first."""
        ...

    def inside(self) -> list[Inside]:
        """Blocks that workers are in just now, and how far they are; cheap enough to ask often."""
        ...

    def avoid(self, host: str) -> bool:
        """Send nothing more to a machine; False if that cannot be, or no other one is there."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@contextlib.contextmanager
def open_engine(
    *, workers: int | None = None, site: Site | str | None = None, folder: Path | None = None
) -> Iterator[Engine]:
    """The engine for a number of workers, or for a site.

    workers: 0 or None without a site: inline, in this process.
    folder: shared with the nodes; where Parsl keeps its logs (needed by sites with a scheduler).
    """
    engine: Engine
    if site is None and not workers:
        engine = InlineEngine()
    else:
        if isinstance(site, str):
            changes = {"workers_per_node": workers} if workers else {}
            site = sites.load(site, **changes)
        from petavox.blocks.parsl_engine import ParslEngine

        engine = ParslEngine(site or sites.local(workers or 1), folder=folder)
    try:
        yield engine
    finally:
        engine.close()


_LEAVE_S = 5.0
"""Workers look twice a second whether their driver lives; one in a long computation is slower."""


class BlockTimeout(Exception):
    """A block ran longer than its limit."""


class InlineEngine:
    """Blocks one after another in this process: the default for small work.

    A block that kills its process kills the run; the next run finds the beacon and counts it.
    """

    workers = 1
    name = "inline"
    limits: Limits | None = None

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._run: dict[str, Any] = {}
        self._timeout_s: float | None = None
        self.listen: Callable[[list[Inside]], None] | None = None
        """Told how far the block is, while `submit` runs it."""

    def begin(self, *, timeout_s: float | None, beacons: Path | None) -> list[tuple[int, str]]:
        """Make ready for one task."""
        self._events.clear()
        left = left_behind(beacons)
        self._run = {
            "token": uuid.uuid4().hex,
            "beacons": str(beacons) if beacons else None,
            "alone": True,
            "timeout_s": None,
        }
        self._timeout_s = timeout_s
        return left

    def submit(self, ticket: int, job: dict[str, Any]) -> None:
        """Call the function on the bundle's blocks, now."""
        with _alarm(self._timeout_s), _ended_politely():
            results = work.run_bundle({**job, "ticket": ticket, "run": self._run}, self.listen)
        self._events.append(Event(ticket, results))

    def events(self, wait_s: float) -> list[Event]:
        """What was done since the last call."""
        done, self._events = self._events, []
        return done

    def inside(self) -> list[Inside]:
        """None: while a block runs, nobody can ask; `listen` is told."""
        return []

    def avoid(self, host: str) -> bool:
        """There is only this machine."""
        return False

    def close(self) -> None:
        """Nothing to end."""


@contextlib.contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """Raise BlockTimeout in this thread after `seconds`; only where signals can be had."""
    if not seconds or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise BlockTimeout(f"the block ran longer than its limit of {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Ended(KeyboardInterrupt):
    """SIGTERM came while a block ran in this process."""


@contextlib.contextmanager
def _ended_politely() -> Iterator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, where nobody else has seen to that.

    Without, a script that a scheduler ends at its time limit would look like a block that kills.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    ):
        yield
        return

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Ended("ended from outside (SIGTERM)")

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def left_behind(beacons: Path | None) -> list[tuple[int, str]]:
    """Blocks that a driver was in, running them itself, when it was killed; and their traces.

    What workers were in says nothing: they end with their driver, whatever it died of.
    """
    if beacons is None:
        return []
    watch = Beacons(beacons)
    watch.wait_for_living(_LEAVE_S)
    left = []
    for path, state, _, number in watch.all():
        if state == "running" and path.name.startswith(ALONE):
            trace = path.with_name(path.name + ".trace")
            left.append((number, trace.read_text(errors="replace") if trace.exists() else ""))
    watch.clear()
    return left
