"""The runner: sends a task's blocks to an engine until each is done, or known not to be.

What it is: which blocks are kept from an earlier run and why, what a loss means, when to stop.
What it is not: science, or an engine.

    error of a block      recorded with its traceback; not tried again in this run
    the same error N x    the run stops: N blocks with one cause will be followed by more
    worker dies           the block it was in is tried once more; the second time it is quarantined
    block too long        its worker is ended; counts like a death
    node or engine dies   its blocks are sent again, without blame
    time is nearly up     no block is sent that could not end
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import logging
import random
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from petavox.blocks.bundle import BundleSize
from petavox.blocks.engines import Engine, Event, InlineEngine
from petavox.blocks.ledger import Ledger, Row
from petavox.blocks.plan import memory_available, require_memory
from petavox.blocks.task import BlockTask, resolve
from petavox.errors import NotComplete, WorkFailed
from petavox.progress import Progress
from petavox.provenance import digest

log = logging.getLogger("petavox")


@dataclass(frozen=True)
class Limits:
    """When to give up.

    timeout_s: a block may take this long.  same_error: blocks with one error that stop the run.
    kills: workers one block may kill.  node_losses: times one block may lose its node.
    until: time (time.time()) at which everything must have ended.
    """

    timeout_s: float | None = None
    same_error: int = 5
    kills: int = 2
    node_losses: int = 10
    until: float | None = None


@dataclass
class Outcome:
    """What a run did."""

    task: str
    total: int
    kept: int = 0
    done: int = 0
    failed: list[int] = field(default_factory=list)
    quarantined: list[int] = field(default_factory=list)
    missing: int = 0
    seconds: float = 0.0
    block_seconds: float = 0.0
    losses: int = 0
    why: str = ""

    @property
    def complete(self) -> bool:
        """Is every block done, now or earlier?"""
        return self.kept + self.done == self.total

    def figures(self) -> dict[str, Any]:
        """For showing."""
        return {
            "blocks": self.total,
            "kept": self.kept,
            "done": self.done,
            "failed": len(self.failed),
            "quarantined": len(self.quarantined),
            "seconds": round(self.seconds, 2),
            "block_seconds": round(self.block_seconds, 2),
            "losses": self.losses,
            "resumed": self.why,
        }


@dataclass(frozen=True)
class Resume:
    """What of an earlier run can be kept, and why."""

    key: str
    parts: dict[str, Any]
    fresh: bool
    why: str


def resume(task: BlockTask, ledger: Ledger) -> Resume:
    """Compare what decides a task's result with what the ledger knows of it."""
    parts = task.parts()
    key = digest(parts)
    old = ledger.parts(task.name)
    if old is None:
        return Resume(key, parts, True, "nothing was done before")
    if digest(old) == key:
        return Resume(key, parts, False, "same code, settings and inputs")
    changed = dict.fromkeys(k for k in [*parts, *old] if old.get(k) != parts.get(k))
    said = [
        k if k.startswith("code") else f"{k} ({_brief(old.get(k))} -> {_brief(parts.get(k))})"
        for k in changed
    ]
    return Resume(key, parts, True, "all is done again, for these changed: " + ", ".join(said[:6]))


def run(
    task: BlockTask,
    *,
    ledger: Ledger,
    engine: Engine | None = None,
    limits: Limits | None = None,
    only: Sequence[int] | None = None,
    shuffle: int | None = None,
    bundle: int | None = None,
    retry_quarantined: bool = False,
    again: bool = False,
    quiet: bool = False,
) -> Outcome:
    """Do every block of a task that is not done yet.

    only: numbers of the blocks to do (probes); the others stay undone and that is no error.
    shuffle: seed of a random order (None: in the grid's order).  bundle: fixed blocks a bundle.
    again: forget what was done (the caller made the outputs anew).
    Raises WorkFailed, naming the blocks, if some could not be done; NotComplete if time was up.
    What finished is kept in both cases.
    """
    engine = engine or InlineEngine()
    if isinstance(engine, InlineEngine):
        resolve(task.function)
    require_memory(task, workers=_here(engine), available_bytes=memory_available())
    known = resume(task, ledger)
    if again:
        ledger.forget(task.name)
    ledger.begin(
        task.name,
        key=known.key,
        parts=known.parts,
        total=len(task.grid),
        costs=dataclasses.asdict(task.costs),
    )
    return _Run(task, ledger, engine, limits or Limits(), known.why, quiet).all(
        only=only, shuffle=shuffle, bundle=bundle, retry_quarantined=retry_quarantined
    )


def require_complete(task: BlockTask, ledger: Ledger) -> None:
    """Raise NotComplete, naming blocks, unless every block of a task is done with this content."""
    known = resume(task, ledger)
    if known.fresh:
        raise NotComplete(f"task '{task.name}' is not done: {known.why}. Run it first.")
    done = set(ledger.numbers(task.name, "done"))
    missing = [n for n in range(len(task.grid)) if n not in done]
    if missing:
        raise NotComplete(
            f"task '{task.name}' is not complete: {len(missing)} of {len(task.grid)} blocks are "
            f"not done: {_listed(missing)}. Run it again."
        )


class _Run:
    """The state of one run."""

    def __init__(
        self,
        task: BlockTask,
        ledger: Ledger,
        engine: Engine,
        limits: Limits,
        why: str,
        quiet: bool,
    ) -> None:
        self.task, self.ledger, self.engine, self.limits = task, ledger, engine, limits
        self.quiet, self.job = quiet, task.job()
        self.outcome = Outcome(task.name, len(task.grid), why=why)
        self.flying: dict[int, list[int]] = {}
        self.again: collections.deque[list[int]] = collections.deque()
        # only blocks in trouble have entries here: memory does not grow with the task
        self.attempts: dict[int, int] = {}
        self.kills: dict[int, int] = {}
        self.node_losses: dict[int, int] = {}
        self.errors: collections.Counter[str] = collections.Counter()
        self.first_error = ""
        self.stopping = ""
        self.out_of_time = False

    def all(
        self,
        *,
        only: Sequence[int] | None,
        shuffle: int | None,
        bundle: int | None,
        retry_quarantined: bool,
    ) -> Outcome:
        """Run to the end."""
        began = time.monotonic()
        done = self._kept(retry_quarantined)
        beacons = Path(self.ledger.path).parent / "workers" / self.task.name
        left_behind = self.engine.begin(timeout_s=self.limits.timeout_s, beacons=beacons)
        if isinstance(self.engine, InlineEngine):
            for number, trace in left_behind:
                if not done[number]:
                    done[number] = self._killed(number, "its process was killed", trace, put=False)
        wanted = range(len(done)) if only is None else sorted(set(only))
        left = sum(1 for n in wanted if not done[n])
        if not self.quiet:
            log.info("%s", self._opening(left))
        self.size = BundleSize(1 if isinstance(self.engine, InlineEngine) else bundle)
        fresh = _order(wanted, done, shuffle)
        try:
            with Progress(
                self.task.name, total=self.outcome.total, unit="block", quiet=self.quiet
            ) as bar:
                bar.resume_at(self.outcome.kept)
                self._loop(fresh, left, bar)
        except BaseException:
            self._close(began, "stopped")
            raise
        self._close(began, self.stopping)
        return self._verdict(left, partial=only is not None)

    def _opening(self, left: int) -> str:
        o = self.outcome
        line = f"{o.task}: {o.total:,} blocks, {left:,} to do"
        if o.kept:
            line += f", {o.kept:,} kept"
        return f"{line} ({o.why}); {self.engine.name}, {self.engine.workers} workers"

    def _kept(self, retry_quarantined: bool) -> bytearray:
        """Marks of the blocks not to do: done before, or quarantined."""
        done = bytearray(self.outcome.total)
        for row in self.ledger.rows(self.task.name):
            if row.status == "done":
                done[row.number] = 1
                self.outcome.kept += 1
                continue
            self.attempts[row.number] = row.attempts
            if row.status == "quarantined" and not retry_quarantined:
                done[row.number] = 1
                self.outcome.quarantined.append(row.number)
                self.first_error = self.first_error or row.error
            elif row.status == "lost":
                self.kills[row.number] = row.kills
        return done

    def _loop(self, fresh: Iterator[int], left: int, bar: Progress) -> None:
        workers = self.engine.workers
        capacity = 1 if isinstance(self.engine, InlineEngine) else 2 * workers + 1
        tickets = itertools.count(1)
        exhausted = False
        while True:
            while len(self.flying) < capacity and not (
                self.stopping or (exhausted and not self.again)
            ):
                if self._time_is_up():
                    self.stopping, self.out_of_time = "time was up", True
                    break
                if self.again:
                    numbers = self.again.popleft()
                else:
                    size = self.size.next(left=left, workers=workers)
                    numbers = list(itertools.islice(fresh, size))
                    left -= len(numbers)
                    if not numbers:
                        exhausted = True
                        continue
                self._submit(next(tickets), numbers)
                if isinstance(self.engine, InlineEngine):
                    break
            if not self.flying:
                return
            for event in self.engine.events(0.5):
                self._take(event)
            bar.to(self.outcome.kept + self.outcome.done, **self._facts())

    def _facts(self) -> dict[str, float | str]:
        facts: dict[str, float | str] = {}
        bad = len(self.outcome.failed) + len(self.outcome.quarantined)
        if bad:
            facts["failed"] = str(bad)
        if self.size.mean_s is not None:
            facts["s_a_block"] = float(self.size.mean_s)
        return facts

    def _submit(self, ticket: int, numbers: list[int]) -> None:
        self.flying[ticket] = numbers
        attempts = [self.attempts.get(n, 0) + 1 for n in numbers]
        self.engine.submit(ticket, {**self.job, "numbers": numbers, "attempts": attempts})

    def _time_is_up(self) -> bool:
        if self.limits.until is None:
            return False
        # twice the longest block so far: queues are two deep
        return time.time() + 2.0 * self.size.longest_s > self.limits.until

    def _take(self, event: Event) -> None:
        numbers = self.flying.pop(event.ticket, None)
        if numbers is None:
            return
        if event.results is not None:
            for result in event.results:
                self._finished(result)
            return
        self.outcome.losses += 1
        if event.lost == "error":
            for n in numbers:
                self._failed(n, event.reason, "", None)
        elif event.lost == "worker":
            self._worker_lost(numbers, event)
        else:
            self._sent_again(numbers, event)

    def _finished(self, result: dict[str, Any]) -> None:
        number = result["number"]
        if "error" in result:
            error = result["error"]
            self._failed(number, f"{error['type']}: {error['message']}", error["trace"], result)
            return
        self.size.saw(result["seconds"])
        self.outcome.done += 1
        self.outcome.block_seconds += result["seconds"]
        self.ledger.record(
            self.task.name,
            Row(
                number,
                "done",
                attempts=self.attempts.pop(number, 0) + 1,
                kills=self.kills.pop(number, 0),
                seconds=result["seconds"],
                host=result["host"],
                device=result["device"],
                counters=result["counters"],
            ),
        )

    def _failed(self, number: int, error: str, trace: str, result: dict[str, Any] | None) -> None:
        self.attempts[number] = self.attempts.get(number, 0) + 1
        self.outcome.failed.append(number)
        self.first_error = self.first_error or f"block {number}: {error}"
        seen = result or {}
        self.ledger.record(
            self.task.name,
            Row(
                number,
                "failed",
                attempts=self.attempts[number],
                seconds=seen.get("seconds"),
                host=seen.get("host", ""),
                device=seen.get("device", ""),
                error=error,
                trace=trace,
            ),
        )
        signature = re.sub(r"\d+", "#", error)[:200]
        self.errors[signature] += 1
        if self.errors[signature] >= self.limits.same_error and not self.stopping:
            self.stopping = f"{self.errors[signature]} blocks failed with the same error ({error})"
            log.error("%s: stopping, %s", self.task.name, self.stopping)

    def _worker_lost(self, numbers: list[int], event: Event) -> None:
        """Blame the block that the worker was in; where that is unknown, send each one alone."""
        culprit = event.culprit
        if culprit is None and len(numbers) == 1:
            culprit = numbers[0]
        for n in numbers:
            if n == culprit:
                self._killed(n, event.reason, event.trace)
            else:
                self.again.append([n])

    def _killed(self, number: int, reason: str, trace: str, *, put: bool = True) -> bool:
        """Count a death against a block; True if it is quarantined now."""
        self.kills[number] = self.kills.get(number, 0) + 1
        self.attempts[number] = self.attempts.get(number, 0) + 1
        limit = self.limits.timeout_s
        error = (
            f"BlockTimeout: ran longer than its limit of {limit:g} s"
            if trace and limit
            else f"WorkerLost: killed its worker ({reason})"
        )
        bad = self.kills[number] >= self.limits.kills
        self.ledger.record(
            self.task.name,
            Row(
                number,
                "quarantined" if bad else "lost",
                attempts=self.attempts[number],
                kills=self.kills[number],
                error=error,
                trace=trace,
            ),
        )
        self.ledger.save()  # a death that is forgotten would be died again
        if bad:
            self.outcome.quarantined.append(number)
            self.first_error = self.first_error or f"block {number}: {error}"
            log.error("%s: block %d is quarantined: %s", self.task.name, number, error)
        elif put:
            log.warning("%s: block %d is tried again: %s", self.task.name, number, error)
            self.again.append([number])
        return bad

    def _sent_again(self, numbers: list[int], event: Event) -> None:
        keep = []
        for n in numbers:
            self.node_losses[n] = self.node_losses.get(n, 0) + 1
            if self.node_losses[n] > self.limits.node_losses:
                self._failed(
                    n, f"lost its node {self.node_losses[n]} times: {event.reason}", "", None
                )
            else:
                keep.append(n)
        if keep:
            self.again.append(keep)

    def _close(self, began: float, note: str) -> None:
        o = self.outcome
        o.seconds = time.monotonic() - began
        o.failed.sort()
        o.quarantined.sort()
        self.ledger.run_finished(
            o.task,
            engine=self.engine.name,
            workers=self.engine.workers,
            seconds=o.seconds,
            done=o.done,
            kept=o.kept,
            failed=len(o.failed) + len(o.quarantined),
            note=note,
        )

    def _verdict(self, left: int, *, partial: bool) -> Outcome:
        o = self.outcome
        bad = len(o.failed) + len(o.quarantined)
        o.missing = max(0, o.total - o.kept - o.done - bad)
        if o.complete:
            self.ledger.complete(o.task)
            return o
        if bad == 0 and partial and not self.stopping:
            return o
        if bad == 0 and self.out_of_time:
            raise NotComplete(
                f"{o.task}: time was up with {o.missing:,} of {o.total:,} blocks to do; the "
                f"{o.kept + o.done:,} finished ones are kept. Run again to go on."
            )
        parts = []
        if o.failed:
            parts.append(f"{len(o.failed)} failed ({_listed(o.failed)})")
        if o.quarantined:
            parts.append(f"{len(o.quarantined)} quarantined ({_listed(o.quarantined)})")
        if o.missing:
            parts.append(f"{o.missing:,} not tried")
        stop = f" The run was stopped: {self.stopping}." if self.stopping else ""
        raise WorkFailed(
            f"{o.task}: of {o.total:,} blocks {o.kept + o.done:,} are done, {', '.join(parts)}."
            f"{stop} First error: {self.first_error.rstrip('.')}. What finished is kept; "
            "`petavox status` shows the tracebacks; run again to try the failed blocks again."
        )


def _order(wanted: Iterable[int], done: bytearray, seed: int | None) -> Iterator[int]:
    """The blocks to do, in order or shuffled."""
    if seed is None:
        return (n for n in wanted if not done[n])
    todo = [n for n in wanted if not done[n]]
    random.Random(seed).shuffle(todo)
    return iter(todo)


def _here(engine: Engine) -> int:
    """Workers of the engine on this machine, for the check of memory."""
    site = getattr(engine, "site", None)
    if site is None:
        return 1
    return engine.workers if site.scheduler == "local" else 0


def _listed(numbers: Sequence[int], most: int = 12) -> str:
    shown = ", ".join(str(n) for n in numbers[:most])
    return shown + (f" and {len(numbers) - most:,} more" if len(numbers) > most else "")


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
