"""What a run may do and what it did: its limits, its counts, and the verdict on them.

What it is: plain data, and the sentence with which a run that is not complete ends. What it is
not: the loop that fills it (runner), or what one loss means (trouble).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from petavox.errors import NotComplete, WorkFailed


@dataclass(frozen=True)
class Limits:
    """When to give up.

    timeout_s: a block may take this long.  same_error: blocks with one error that stop the run.
    kills: workers one block may kill.  node_losses: times one block may lose its node.
    until: time (time.time()) at which everything must have ended.
    retry_quarantined: try blocks again that killed their workers in an earlier run.
    """

    timeout_s: float | None = None
    same_error: int = 5
    kills: int = 2
    node_losses: int = 10
    until: float | None = None
    retry_quarantined: bool = False


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

    def verdict(self, *, partial: bool, first_error: str, stopped: str, out_of_time: bool) -> None:
        """Return if all that was asked for is done; else raise WorkFailed or NotComplete.

        partial: only some blocks were asked for.  stopped: why the run stopped early, or "".
        """
        bad = len(self.failed) + len(self.quarantined)
        self.missing = max(0, self.total - self.kept - self.done - bad)
        if self.complete or (bad == 0 and partial and not stopped):
            return
        if bad == 0 and out_of_time:
            raise NotComplete(
                f"{self.task}: time was up with {self.missing:,} of {self.total:,} blocks to do; "
                f"the {self.kept + self.done:,} finished ones are kept. Run again to go on."
            )
        parts = []
        if self.failed:
            parts.append(f"{len(self.failed)} failed ({listed(self.failed)})")
        if self.quarantined:
            parts.append(f"{len(self.quarantined)} quarantined ({listed(self.quarantined)})")
        if self.missing:
            parts.append(f"{self.missing:,} not tried")
        stop = f" The run was stopped: {stopped}." if stopped else ""
        raise WorkFailed(
            f"{self.task}: of {self.total:,} blocks {self.kept + self.done:,} are done, "
            f"{', '.join(parts)}.{stop} First error: {first_error.rstrip('.')}. What finished is "
            "kept; `petavox status` shows the tracebacks; run again to try the failed blocks again."
        )


def listed(numbers: Sequence[int], most: int = 12) -> str:
    """The first numbers, and how many more."""
    shown = ", ".join(str(n) for n in numbers[:most])
    return shown + (f" and {len(numbers) - most:,} more" if len(numbers) > most else "")
