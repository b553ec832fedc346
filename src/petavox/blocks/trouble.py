"""What a failure or a loss means for a block: tried again, failed, or quarantined.

What it is: the counts of attempts and deaths of the blocks in trouble, and the rows of the ledger
that they leave. What it is not: the loop that sends blocks (runner). The rules are in its table.
"""

from __future__ import annotations

import collections
import logging
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from petavox.blocks.engines import Event
from petavox.blocks.hosts import Hosts
from petavox.blocks.ledger import Ledger, Row
from petavox.blocks.outcome import Limits, Outcome

log = logging.getLogger("petavox")
_SHARE = 0.01  # of the blocks tried that must fail in one way before the run stops


class Trouble:
    """Attempts, deaths and errors of one run.

    avoid: of the engine.  again: bundles to send again.
    stopping: why no more blocks may be sent, or "".
    Only blocks in trouble have entries: memory does not grow with the task.
    """

    def __init__(
        self,
        outcome: Outcome,
        ledger: Ledger,
        limits: Limits,
        avoid: Callable[[str], bool] = lambda _host: False,
    ) -> None:
        self.hosts = Hosts(avoid, limits.same_error)
        self.outcome, self.ledger, self.limits = outcome, ledger, limits
        self.again: collections.deque[list[int]] = collections.deque()
        self.first_error = ""
        self.stopping = ""
        self._attempts: dict[int, int] = {}
        self._kills: dict[int, int] = {}
        self._node_losses: dict[int, int] = {}
        self._losses: collections.Counter[str] = collections.Counter()
        self._before: dict[int, str] = {}
        self._errors: collections.defaultdict[str, set[int]] = collections.defaultdict(set)

    def remember(self, row: Row, *, retry_quarantined: bool) -> bool:
        """Take a block that an earlier run did not finish; True if it must not be tried."""
        self._attempts[row.number] = row.attempts
        if row.status == "quarantined" and not retry_quarantined:
            self.outcome.quarantined.append(row.number)
            self.first_error = self.first_error or row.error
            return True
        if row.status == "lost":
            self._kills[row.number] = row.kills
        else:
            self._before[row.number] = sys.intern(_signature(row.error))
        return False

    def attempts(self, numbers: Sequence[int]) -> list[int]:
        """Which attempt the next one is, of each block."""
        return [self._attempts.get(n, 0) + 1 for n in numbers]

    def overcome(self, number: int, host: str) -> tuple[int, int]:
        """A block is done: (attempts, kills) it took; it is forgotten here."""
        self.hosts.well(host)
        return self._attempts.pop(number, 0) + 1, self._kills.pop(number, 0)

    def failed(self, number: int, error: str, trace: str, result: dict[str, Any] | None) -> None:
        """A block raised an error, or cannot be sent; the same error too often stops the run."""
        self._attempts[number] = self._attempts.get(number, 0) + 1
        self.outcome.failed.append(number)
        self.first_error = self.first_error or f"block {number}: {error}"
        seen = result or {}
        self.ledger.record(
            self.outcome.task,
            Row(
                number,
                "failed",
                attempts=self._attempts[number],
                seconds=seen.get("seconds"),
                host=seen.get("host", ""),
                device=seen.get("device", ""),
                error=error,
                trace=trace,
            ),
        )
        if not self._elsewhere(seen.get("host", ""), number, error):
            self._count(number, error)

    def _elsewhere(self, host: str, number: int, error: str) -> bool:
        """Is a block's machine to blame? Then what went wrong there is sent again."""
        numbers = self.hosts.wrong(host, number)
        if len(numbers) > 1:
            log.warning(
                "%s: nothing more is sent to %s, where %d blocks in a row went wrong (%s); they "
                "are tried elsewhere",
                self.outcome.task, host, len(numbers), error,
            )  # fmt: skip
        for n in numbers:
            self._kills.pop(n, None)
            for told in self._errors.values():
                told.discard(n)
            for given_up in (self.outcome.failed, self.outcome.quarantined):
                if n in given_up:  # else it is under way again
                    given_up.remove(n)
                    self.again.append([n])
        return number in numbers

    def _count(self, number: int, error: str) -> None:
        """Stop the run if its blocks go wrong in one way, and not only here and there."""
        signature = _signature(error)
        if self._before.get(number) == signature:
            # known to be bad, and tried last: five such would end every later run before the
            # others that went wrong, which may be well by now, are tried
            return
        self._errors[signature].add(number)
        seen, limit = len(self._errors[signature]), self.limits.same_error
        # a few bad blocks in ten million must not stop the others, now and in every later run
        if seen >= limit and seen >= _SHARE * (seen + self.outcome.done) and not self.stopping:
            self.stopping = f"{seen} blocks failed with the same error ({error})"
            log.error("%s: stopping, %s", self.outcome.task, self.stopping)

    def lost(self, numbers: list[int], event: Event) -> None:
        """A bundle did not come back."""
        self.outcome.losses += 1
        if event.lost == "error":
            for n in numbers:
                self.failed(n, event.reason, "", None)
        elif event.lost == "worker":
            self._worker_lost(numbers, event)
        else:
            self._sent_again(numbers, event)

    def _worker_lost(self, numbers: list[int], event: Event) -> None:
        """Blame the block that the worker was in; where that is unknown, send each one alone."""
        culprit = event.culprit if event.culprit in numbers else None
        if culprit is None and len(numbers) == 1:
            culprit = numbers[0]
        for n in numbers:
            if n == culprit:
                self.killed(n, event.reason, event.trace, host=event.host)
            else:
                self.again.append([n])

    def killed(
        self, number: int, reason: str, trace: str, *, host: str = "", put: bool = True
    ) -> bool:
        """Count a death against a block; True if it is quarantined now.  put: send it again."""
        self._kills[number] = self._kills.get(number, 0) + 1
        self._attempts[number] = self._attempts.get(number, 0) + 1
        limit = self.limits.timeout_s
        error = (
            f"BlockTimeout: ran longer than its limit of {limit:g} s"
            if trace and limit
            else f"WorkerLost: killed its worker ({reason})"
        )
        bad = self._kills[number] >= self.limits.kills
        self.ledger.record(
            self.outcome.task,
            Row(
                number,
                "quarantined" if bad else "lost",
                attempts=self._attempts[number],
                kills=self._kills[number],
                host=host,
                error=error,
                trace=trace,
            ),
        )
        self.ledger.save()  # a death that is forgotten would be died again
        if bad:
            self.outcome.quarantined.append(number)
            self.first_error = self.first_error or f"block {number}: {error}"
            log.error("%s: block %d is quarantined: %s", self.outcome.task, number, error)
        elif put:
            log.warning("%s: block %d is tried again: %s", self.outcome.task, number, error)
            self.again.append([number])
        if self._elsewhere(host, number, error):
            return False
        if bad:
            self._count(number, error)
        return bad

    def _sent_again(self, numbers: list[int], event: Event) -> None:
        """No block is to blame for its node, until it has lost too many."""
        keep = []
        for n in numbers:
            self._node_losses[n] = self._node_losses.get(n, 0) + 1
            if self._node_losses[n] > self.limits.node_losses:
                why = f"lost its node {self._node_losses[n]} times: {event.reason}"
                self.failed(n, why, "", None)
            else:
                keep.append(n)
        if not keep:
            return
        if max(self._node_losses[n] for n in keep) > 1:
            # one of them may be what its node died of: the others get away from it
            self.again.extend([n] for n in keep)
        else:
            self.again.append(keep)
        # by themselves: a worker that died before must not leave the first lost node unsaid
        kind = event.lost or ""
        self._losses[kind] += 1
        count = self._losses[kind]
        if count in (1, 10, 100) or count % 1000 == 0:
            log.warning(
                "%s: %s; its blocks are sent again (lost in this way: %s)",
                self.outcome.task, event.reason, f"{count:,}",
            )  # fmt: skip

    def tried(self) -> set[int]:
        """Blocks that an earlier run did not finish: what is wrong with them may still be."""
        return set(self._attempts)


def _signature(error: str) -> str:
    """What errors of one kind have in common: all but the numbers."""
    return re.sub(r"\d+", "#", error)[:200]
