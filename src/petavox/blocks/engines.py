"""Engines: who calls the block function.

    with open_engine(workers=2) as engine:       # started once, for several tasks
        run(first, engine=engine, ...)
        run(second, engine=engine, ...)

What it is: the two engines behind one small interface. `InlineEngine` calls the function in this
process; `ParslEngine` sends bundles of blocks to worker processes on this machine or on a site,
and says which of them were lost. What it is not: the runner, which decides what to send and what a
loss means.

Parsl's HighThroughputExecutor is driven directly, without its DataFlowKernel: blocks have no
dependencies between them, and the kernel would keep a record of every task for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import queue
import shutil
import signal
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from petavox.blocks import sites, work
from petavox.blocks.sites import Site
from petavox.errors import BadInput, WorkFailed

log = logging.getLogger("petavox")


@dataclass(frozen=True)
class Event:
    """What came back for one bundle: its results, or how it was lost.

    lost: "worker" (the process died), "node" (a pool of workers died or fell silent), "engine"
    (all was started anew), or None.
    culprit: the block that the lost worker was in, where known; trace: where it hung, if it did.
    """

    ticket: int
    results: list[work.Result] | None = None
    lost: str | None = None
    reason: str = ""
    culprit: int | None = None
    trace: str = ""


class Engine(Protocol):
    """Takes bundles of blocks and gives events back."""

    workers: int
    name: str

    def begin(self, *, timeout_s: float | None, beacons: Path | None) -> list[tuple[int, str]]:
        """Make ready for one task; gives (block, trace) of beacons left by a killed driver."""
        ...

    def submit(self, ticket: int, job: dict[str, Any]) -> None:
        """Take one bundle. `ticket` names it in the event."""
        ...

    def events(self, wait_s: float) -> list[Event]:
        """What came back; waits up to `wait_s` for the first."""
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
        engine = ParslEngine(site or sites.local(workers or 1), folder=folder)
    try:
        yield engine
    finally:
        engine.close()


class BlockTimeout(Exception):
    """A block ran longer than its limit."""


class InlineEngine:
    """Blocks one after another in this process: the default for small work.

    A block that kills its process kills the run; the next run finds the beacon and counts it.
    """

    workers = 1
    name = "inline"

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._run: dict[str, Any] = {}
        self._timeout_s: float | None = None

    def begin(self, *, timeout_s: float | None, beacons: Path | None) -> list[tuple[int, str]]:
        """Make ready for one task."""
        self._events.clear()
        left = _left_behind(beacons)
        self._run = {
            "token": uuid.uuid4().hex,
            "beacons": str(beacons) if beacons else None,
            "timeout_s": None,
        }
        self._timeout_s = timeout_s
        return left

    def submit(self, ticket: int, job: dict[str, Any]) -> None:
        """Call the function on the bundle's blocks, now."""
        with _alarm(self._timeout_s):
            results = work.run_bundle({**job, "ticket": ticket, "run": self._run})
        self._events.append(Event(ticket, results))

    def events(self, wait_s: float) -> list[Event]:
        """What was done since the last call."""
        done, self._events = self._events, []
        return done

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


def _left_behind(beacons: Path | None) -> list[tuple[int, str]]:
    """Blocks that workers of an earlier run were in when they ended, and their traces."""
    if beacons is None:
        return []
    watch = work.Beacons(beacons)
    left = []
    for path, state, _, number in watch.all():
        if state == "running":
            trace = path.with_name(path.name + ".trace")
            left.append((number, trace.read_text(errors="replace") if trace.exists() else ""))
    watch.clear()
    return left


class ParslEngine:
    """Worker processes through Parsl's HighThroughputExecutor."""

    RESTARTS = 3
    """Starts without any result in between, after which the engine gives up."""

    def __init__(self, site: Site, *, folder: Path | None = None) -> None:
        if site.scheduler != "local" and folder is None:
            raise BadInput(
                f"site {site.name} needs a folder that this host and the nodes share: give the "
                "project's folder."
            )
        self.site, self.workers = site, site.workers
        self.name = f"parsl {site.name}"
        self._local = site.scheduler == "local"
        self._folder, self._given = None if self._local else folder, folder
        self._queue: queue.SimpleQueue[tuple[int, int, Future[Any]]] = queue.SimpleQueue()
        self._flying: dict[int, dict[str, Any]] = {}
        self._generation = 0
        self._fruitless = 0
        self._executor: Any = None
        self._poller: Any = None
        self._run: dict[str, Any] = {}
        self._beacons: work.Beacons | None = None
        self.started_s = 0.0
        self._start()

    def begin(self, *, timeout_s: float | None, beacons: Path | None) -> list[tuple[int, str]]:
        """Make ready for one task."""
        left = _left_behind(beacons) if self.site.beacons else []
        self._beacons = work.Beacons(beacons) if beacons and self.site.beacons else None
        self._run = {
            "token": uuid.uuid4().hex,
            "beacons": str(beacons.absolute()) if self._beacons and beacons else None,
            "timeout_s": timeout_s,
            "pin": self.site.pin(),
            "scratch": self.site.scratch,
            "driver": [os.getpid(), platform.node()],
        }
        self._moved = time.monotonic()
        return left

    def submit(self, ticket: int, job: dict[str, Any]) -> None:
        """Send one bundle."""
        self._flying[ticket] = job
        if self._executor.bad_state_is_set:
            return  # `events` finds the state and starts anew; the bundle is then reported lost
        message = {**job, "ticket": ticket, "run": self._run}
        generation = self._generation
        future = self._executor.submit(work.run_bundle, {}, message)
        future.add_done_callback(lambda f: self._queue.put((generation, ticket, f)))

    def events(self, wait_s: float) -> list[Event]:
        """What came back; also looks whether the engine itself is alive."""
        found: list[Event] = []
        try:
            item = self._queue.get(timeout=wait_s)
            while True:
                event = self._event(*item)
                if event is not None:
                    found.append(event)
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        if found:
            self._moved = time.monotonic()
            if any(e.results is not None for e in found):
                self._fruitless, self._unproven = 0, False
            return found
        return self._look()

    def _event(self, generation: int, ticket: int, future: Future[Any]) -> Event | None:
        if generation != self._generation or ticket not in self._flying:
            return None
        error = future.exception()
        kind = type(error).__name__
        if kind == "BadStateException":
            return None  # the whole engine is bad: `_look` reports every bundle at once
        del self._flying[ticket]
        if error is None:
            return Event(ticket, future.result())
        if kind == "WorkerLost":
            known = self._beacons.culprit(ticket) if self._beacons else None
            number, trace = known or (None, "")
            return Event(
                ticket, lost="worker", reason=str(error), culprit=number, trace=_hang(trace)
            )
        if kind == "ManagerLost":
            return Event(ticket, lost="node", reason=str(error))
        # not a loss and not an error of the block (those are results): what was sent is wrong
        return Event(ticket, lost="error", reason=f"{kind}: {error}")

    def _look(self) -> list[Event]:
        """Is the engine alive? If not, start it anew and give all bundles back as lost."""
        why = ""
        if self._executor.interchange_proc.poll() is not None:
            why = "the interchange has died"
        elif self._executor.bad_state_is_set:
            why = f"workers cannot be started: {self._executor.executor_exception}".strip()
        elif self._flying and self._local and self._beacons is not None:
            # a worker killed with -9 between blocks can take the lock of its pool's queues with
            # it: bundles then wait for ever although processes live. Nobody in a block for long
            # means just that.
            if self._beacons.busy(set(self._flying)):
                self._moved = time.monotonic()
            elif time.monotonic() - self._moved > self._patience():
                why = f"no worker has taken a block for {self._patience():.0f} s"
        if not why:
            return []
        self._fruitless += 1
        lost = [Event(t, lost="engine", reason=why) for t in self._flying]
        self._flying.clear()
        if self._fruitless > self.RESTARTS:
            raise WorkFailed(
                f"the engine was started {self.RESTARTS} times without any result: {why}. What "
                f"finished is kept. Look at the logs in {self._run_dir}."
            )
        log.warning("%s: %s; starting it anew", self.name, why)
        self._stop(kill=True)
        self._start()
        return lost

    def _patience(self) -> float:
        """Seconds without a worker in any block: long until the first result, then short."""
        return 60.0 if self._unproven else self.site.lost_after_s + 3.0

    def _start(self) -> None:
        began = time.monotonic()
        logging.getLogger("parsl").addHandler(logging.NullHandler())
        logging.getLogger("parsl").propagate = False
        from parsl.jobs.job_status_poller import JobStatusPoller

        if self._folder is None:
            self._run_dir = Path(tempfile.mkdtemp(prefix="petavox-parsl-"))
        else:
            self._run_dir = self._folder / "parsl" / uuid.uuid4().hex[:12]
            self._run_dir.mkdir(parents=True)
        self._generation += 1
        self._unproven = True
        self._moved = time.monotonic()
        self._executor = sites.executor(self.site, run_dir=self._run_dir.absolute())
        provider = self._executor.provider
        provider.script_dir = str(self._run_dir / "submit_scripts")
        Path(provider.script_dir).mkdir()
        with _interruptions_kept_here():
            self._executor.start()
            # workers join and leave: jobs are added while there is more work than slots
            self._poller = JobStatusPoller(
                strategy="simple" if self._local else "htex_auto_scale",
                max_idletime=120,
                strategy_period=1 if self._local else 15,
            )
            self._poller.add_executors([self._executor])
            self._poller.poll()
        self.started_s = time.monotonic() - began

    def _stop(self, *, kill: bool) -> None:
        if self._executor is None:
            return
        executor, self._executor = self._executor, None
        alive = executor.interchange_proc.poll() is None
        self._poller._kill_event.set()
        if self._local:
            _kill_jobs(executor)
        if alive and not self._local:
            with contextlib.suppress(Exception):
                executor.scale_in_facade(len(executor.status_facade))
        elif not self._local:
            with contextlib.suppress(Exception):
                executor.provider.cancel(list(executor.blocks_to_job_id.values()))
        if kill or self._local:
            executor.interchange_proc.kill()
        # a dead interchange leaves threads of Parsl waiting for its answer: do not wait for them
        ending = threading.Thread(target=executor.shutdown, daemon=True)
        ending.start()
        ending.join(timeout=2)
        if self._local:
            shutil.rmtree(self._run_dir, ignore_errors=True)

    def close(self) -> None:
        """End all workers."""
        self._flying.clear()
        self._stop(kill=False)


def _kill_jobs(executor: Any) -> None:
    """End the pools of this machine and their workers, at once."""
    for job in list(executor.provider.resources.values()):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            group = os.getpgid(job["remote_pid"])
            if group != os.getpgid(0):
                os.killpg(group, signal.SIGKILL)


@contextlib.contextmanager
def _interruptions_kept_here() -> Iterator[None]:
    """Children started inside ignore Ctrl-C: the driver decides when they end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _hang(trace: str) -> str:
    """The trace of a timeout, or "" if the worker died of something else."""
    return trace if trace.startswith("Timeout") else ""
