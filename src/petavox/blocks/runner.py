"""The runner: sends a task's blocks to an engine until each is done, or known not to be.

What it is: the loop that keeps an engine busy and knows when to stop. What it is not: science, an
engine, or the parts it is made of: what an earlier run leaves (resume), what a loss means
(trouble), the verdict at the end (outcome). The rules in short:

    error of a block      recorded with its traceback; not tried again in this run
    the same error N x    the run stops, where it is one block in a hundred: more would follow
    all wrong on one node nothing more is sent there, its blocks are tried elsewhere
    worker dies           the block it was in is tried once more; the second time it is quarantined
    block too long        its worker is ended; counts like a death
    node or engine dies   its blocks are sent again, without blame
    time is nearly up     no block is sent that could not end
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from petavox.blocks import showing
from petavox.blocks.beacons import Inside
from petavox.blocks.bundle import BundleSize, order
from petavox.blocks.engines import Engine, Event, InlineEngine
from petavox.blocks.ledger import Ledger, Row
from petavox.blocks.ledger_reading import STATUSES
from petavox.blocks.outcome import Limits, Outcome, listed
from petavox.blocks.plan import memory_available, require_memory
from petavox.blocks.resume import Resume, resume
from petavox.blocks.task import BlockTask, resolve
from petavox.blocks.trouble import Trouble
from petavox.errors import BadInput
from petavox.progress import Progress

log = logging.getLogger("petavox")
_ASK_EVERY = 2.0  # seconds between two looks at how far the blocks under way are


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
    quiet: bool = False,
) -> Outcome:
    """Do every block of a task that is not done yet.

    only: numbers of the blocks to do (probes); the others stay undone and that is no error.
    limits: None: the engine's, if it has some.
    shuffle: seed of a random order (None: in the grid's order).  bundle: fixed blocks a bundle.
    Raises WorkFailed, naming the blocks, if some could not be done; NotComplete if time was up.
    What finished is kept in both cases.
    """
    engine = engine or InlineEngine()
    check(task, engine, only)
    known = resume(task, ledger)
    ledger.begin(
        task.name,
        key=known.key,
        parts=known.parts,
        total=len(task.grid),
        costs=dataclasses.asdict(task.costs),
    )
    limits = limits or engine.limits or Limits()
    return _Run(task, ledger, engine, limits, known, quiet).all(
        only=only,
        shuffle=shuffle,
        bundle=bundle,
        retry_quarantined=retry_quarantined or limits.retry_quarantined,
    )


def check(task: BlockTask, engine: Engine | None, only: Sequence[int] | None = None) -> None:
    """Raise BadInput for what can be known before any work: function, block numbers, memory.

    For callers that make outputs before they call `run`; `run` checks by itself.
    """
    engine = engine or InlineEngine()
    if isinstance(engine, InlineEngine):
        resolve(task.function)
    if only is not None and any(not 0 <= n < len(task.grid) for n in only):
        raise BadInput(
            f"task '{task.name}' has the blocks 0 to {len(task.grid) - 1}; of these one is none: "
            f"{listed(sorted(only))}."
        )
    site = getattr(engine, "site", None)
    if site is None or site.scheduler == "local":
        workers = 1 if site is None else engine.workers
        require_memory(task, workers=workers, available_bytes=memory_available())
    elif site.memory_gb_per_node is not None:
        require_memory(
            task,
            workers=site.workers_per_node,
            available_bytes=int(site.memory_gb_per_node * 1e9),
            where=f"a node of {site.name}",
        )


class _Run:
    """The state of one run."""

    def __init__(
        self,
        task: BlockTask,
        ledger: Ledger,
        engine: Engine,
        limits: Limits,
        known: Resume,
        quiet: bool,
    ) -> None:
        self.task, self.ledger, self.engine, self.limits = task, ledger, engine, limits
        self.quiet, self.job = quiet, task.job()
        self.outcome = Outcome(task.name, len(task.grid), why=known.why)
        self.fresh = known.fresh
        self.flying: dict[int, list[int]] = {}
        self.trouble = Trouble(self.outcome, ledger, limits, engine.avoid)
        self.out_of_time = False
        self.asked, self.inside = time.monotonic(), list[Inside]()

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
        # deaths in blocks of another grid or with other settings say nothing about these
        if isinstance(self.engine, InlineEngine) and not self.fresh:
            for number, trace in left_behind:
                if not done[number]:
                    done[number] = self.trouble.killed(
                        number, "its process was killed", trace, put=False
                    )
        wanted = range(len(done)) if only is None else sorted(set(only))
        left = sum(1 for n in wanted if not done[n])
        if not self.quiet:
            log.info("%s", showing.opening(self.outcome, left, self.engine))
        self.size = BundleSize(1 if isinstance(self.engine, InlineEngine) else bundle)
        fresh = order(wanted, done, shuffle, last=self.trouble.tried())
        try:
            with Progress(
                self.task.name, total=self.outcome.total, unit="block", quiet=self.quiet
            ) as bar:
                bar.resume_at(self.outcome.kept)
                if isinstance(self.engine, InlineEngine):
                    self.engine.listen = lambda inside: self._show(bar, inside)
                self._loop(fresh, left, bar)
        except BaseException:
            self._close(began, "stopped")
            raise
        stopped = "time was up" if self.out_of_time else self.trouble.stopping
        self._close(began, stopped)
        self.outcome.verdict(
            partial=only is not None,
            first_error=self.trouble.first_error,
            stopped=stopped,
            out_of_time=self.out_of_time,
        )
        if self.outcome.complete:
            self.ledger.complete(self.task.name)
        return self.outcome

    def _kept(self, retry_quarantined: bool) -> bytearray:
        """Marks of the blocks not to do: done before, or quarantined."""
        done = bytearray(self.outcome.total)
        for number in self.ledger.numbers(self.task.name, "done"):
            done[number] = 1
            self.outcome.kept += 1
        for row in itertools.chain(*(self.ledger.rows(self.task.name, s) for s in STATUSES[1:])):
            if self.trouble.remember(row, retry_quarantined=retry_quarantined):
                done[row.number] = 1
        return done

    def _loop(self, fresh: Iterator[int], left: int, bar: Progress) -> None:
        workers = self.engine.workers
        capacity = 1 if isinstance(self.engine, InlineEngine) else 2 * workers + 1
        tickets = itertools.count(1)
        exhausted = False
        again = self.trouble.again
        while True:
            while len(self.flying) < capacity and not (
                self.trouble.stopping or self.out_of_time or (exhausted and not again)
            ):
                if self._time_is_up():
                    self.out_of_time = True
                    break
                if again:
                    numbers = again.popleft()
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
            self.ledger.flush()  # the next block may come back in an hour
            if time.monotonic() - self.asked > _ASK_EVERY and not self.quiet:
                self.asked = time.monotonic()
                self.inside = self.engine.inside()
            self._show(bar, self.inside)

    def _show(self, bar: Progress, inside: Sequence[Inside]) -> None:
        """What is done, with the shares of the blocks under way, and what these tell."""
        o = self.outcome
        under_way = sum(share for _, share, _ in inside)
        bar.to(o.kept + o.done + under_way, **showing.facts(o, self.size.mean_s, inside))

    def _submit(self, ticket: int, numbers: list[int]) -> None:
        self.flying[ticket] = numbers
        attempts = self.trouble.attempts(numbers)
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
        self.inside = [i for i in self.inside if i[0] not in numbers]
        if event.results is not None:
            for result in event.results:
                self._finished(result)
            return
        self.trouble.lost(numbers, event)

    def _finished(self, result: dict[str, Any]) -> None:
        number = result["number"]
        if "error" in result:
            error = result["error"]
            said = f"{error['type']}: {error['message']}"
            self.trouble.failed(number, said, error["trace"], result)
            return
        self.size.saw(result["seconds"])
        self.outcome.done += 1
        self.outcome.block_seconds += result["seconds"]
        attempts, kills = self.trouble.overcome(number, result["host"])
        self.ledger.record(
            self.task.name,
            Row(
                number,
                "done",
                attempts=attempts,
                kills=kills,
                seconds=result["seconds"],
                host=result["host"],
                device=result["device"],
                counters=result["counters"],
            ),
        )

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
