"""The engine that has worker processes: on this machine, or on the nodes of a site.

What it is: bundles of blocks sent through Parsl's HighThroughputExecutor, and an eye on what of it
is still alive. What it is not: a judgement of a lost block (trouble), or the choice of an engine.

The executor is driven directly, without Parsl's DataFlowKernel: blocks have no dependencies between
them, and the kernel would keep a record of every task for ever.
"""

from __future__ import annotations

import logging
import os
import platform
import queue
import shutil
import tempfile
import threading
import time
import uuid
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from petavox.blocks import launching, orphans, parsl_jobs, work
from petavox.blocks.beacons import Beacons, Inside
from petavox.blocks.engines import Event, left_behind
from petavox.blocks.outcome import Limits
from petavox.blocks.sites import Site
from petavox.errors import BadInput, WorkFailed

log = logging.getLogger("petavox")


class ParslEngine:
    """Worker processes through Parsl's HighThroughputExecutor."""

    RESTARTS = 3
    """Starts without any result in between, after which the engine gives up."""
    limits: Limits | None = None

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
        self._mark: orphans.Mark | None = None
        self._run: dict[str, Any] = {}
        self._beacons: Beacons | None = None
        self.started_s = 0.0
        try:
            self._start()
        except BaseException:
            # ended while it started: jobs that were sent already must not wait in a queue for it
            self._stop(kill=True)
            raise

    def begin(self, *, timeout_s: float | None, beacons: Path | None) -> list[tuple[int, str]]:
        """Make ready for one task."""
        if self._flying:
            # a run was broken off (Ctrl-C in a notebook, a full disk) and its bundles are still at
            # work: they would be taken for this run's, and write what the one before asked for
            log.info("%s: ending what the run before left at work", self.name)
            self._flying.clear()
            self._stop(kill=True)
            self._start()
        if self._mark is not None:
            orphans.wait(self._mark.file.parent.parent, self._mark, self.site.lost_after_s)
        left = left_behind(beacons) if self.site.beacons else []
        self._beacons = Beacons(beacons) if beacons and self.site.beacons else None
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
        if self._is_dead():
            return  # `events` finds that and starts anew; the bundle is then reported lost
        message = {**job, "ticket": ticket, "run": self._run}
        generation = self._generation
        try:
            future = self._executor.submit(work.run_bundle, {}, message)
        except Exception:
            if self._is_dead():  # since a moment ago
                return
            raise
        future.add_done_callback(lambda f: self._queue.put((generation, ticket, f)))

    def events(self, wait_s: float) -> list[Event]:
        """What came back; also looks whether the engine itself is alive."""
        found: list[Event] = []
        if self._mark is not None:
            self._mark.renew()
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

    def inside(self) -> list[Inside]:
        """Blocks that workers are in, from their beacons; none where the site has no beacons."""
        return self._beacons.inside(set(self._flying)) if self._beacons else []

    def avoid(self, host: str) -> bool:
        """Send nothing more to a node; False if no other one is at work."""
        if self._local or self._is_dead():
            return False
        try:
            return parsl_jobs.hold_back(self._executor, host)
        except Exception as e:
            log.warning("%s: %s cannot be held back (%s)", self.name, host, e)
            return False

    def _is_dead(self) -> bool:
        """Must all be started anew? What is asked of a dead interchange, or sent, never returns."""
        gone = self._executor.interchange_proc.poll() is not None
        return gone or bool(self._executor.bad_state_is_set)

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
                ticket,
                lost="worker",
                reason=str(error),
                culprit=number,
                trace=_hang(trace),
                host=str(getattr(error, "hostname", "")),
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
        elif not self._executor.command_client.ok:
            why = f"the interchange has not answered for {parsl_jobs.ANSWER_S:.0f} s"
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
        """Seconds without a worker in any block: long until the first result, then short.

        On a machine where many others work, workers have taken more than a minute to start.
        """
        return 240.0 if self._unproven else self.site.lost_after_s + 3.0

    def _start(self) -> None:
        began = time.monotonic()
        logging.getLogger("parsl").addHandler(logging.NullHandler())
        logging.getLogger("parsl").propagate = False
        if self._folder is None:
            self._run_dir = Path(tempfile.mkdtemp(prefix="petavox-parsl-"))
        else:
            self._run_dir = self._folder / "parsl" / uuid.uuid4().hex[:12]
            self._run_dir.mkdir(parents=True)
        # made before any job: the next driver must know of workers that this one has asked for
        self._mark = None if self._local else orphans.Mark(self._run_dir)
        self._generation += 1
        self._unproven = True
        self._moved = time.monotonic()
        self._executor = launching.executor(self.site, run_dir=self._run_dir.absolute())
        provider = self._executor.provider
        provider.script_dir = str(self._run_dir / "submit_scripts")
        Path(provider.script_dir).mkdir()
        with parsl_jobs.interruptions_kept_here():
            self._executor.start()
            parsl_jobs.bound(self._executor)
            # workers join and leave: jobs are added while there is more work than slots
            self._poller = parsl_jobs.poller(
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
        if self._poller is not None:
            parsl_jobs.end_looks(self._poller, executor, self.name)
            self._poller = None
        if self._local:
            parsl_jobs.kill_pools(executor)
        elif parsl_jobs.take_back(executor, self.name) and self._mark is not None:
            self._mark.remove()
        interchange = getattr(executor, "interchange_proc", None)
        if interchange is not None and (kill or self._local):
            interchange.kill()
        # a dead interchange leaves threads of Parsl waiting for its answer: do not wait for them
        ending = threading.Thread(target=parsl_jobs.shut_down, args=(executor,), daemon=True)
        ending.start()
        ending.join(timeout=2)
        if self._local:
            shutil.rmtree(self._run_dir, ignore_errors=True)

    def close(self) -> None:
        """End all workers."""
        self._flying.clear()
        self._stop(kill=False)


def _hang(trace: str) -> str:
    """The trace of a timeout, or "" if the worker died of something else."""
    return trace if trace.startswith("Timeout") else ""
