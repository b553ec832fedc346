"""What a person is told of a run under way.

What it is: the opening line, and the facts beside the bar. What it is not: the bar
(petavox.progress), or the verdict at the end (petavox.blocks.outcome).
"""

from __future__ import annotations

from collections.abc import Sequence

from petavox.blocks.beacons import Inside
from petavox.blocks.engines import Engine
from petavox.blocks.outcome import Outcome

_TOLD = 3  # blocks under way that are named beside the bar


def opening(outcome: Outcome, left: int, engine: Engine) -> str:
    """The line with which a run begins.  left: blocks to do."""
    line = f"{outcome.task}: {outcome.total:,} blocks, {left:,} to do"
    if outcome.kept:
        line += f", {outcome.kept:,} kept"
    return f"{line} ({outcome.why}); {engine.name}, {engine.workers} workers"


def facts(
    outcome: Outcome, mean_s: float | None, inside: Sequence[Inside]
) -> dict[str, float | str]:
    """Facts beside the bar: trouble, seconds a block, and how far some blocks under way are."""
    found: dict[str, float | str] = {}
    bad = len(outcome.failed) + len(outcome.quarantined)
    if bad:
        found["failed"] = str(bad)
    if outcome.losses:
        found["losses"] = str(outcome.losses)
    if mean_s is not None:
        found["s_a_block"] = float(mean_s)
    told = [f"{n}: {100 * share:.0f} % {words}".rstrip() for n, share, words in inside if share]
    if told:
        more = f" and {len(told) - _TOLD} more" if len(told) > _TOLD else ""
        found["in_block"] = ", ".join(told[:_TOLD]) + more
    return found
