"""What of an earlier run still counts.

What it is: the comparison of what decides a task's result now with what the ledger says decided it
then. What it is not: the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from petavox.blocks.ledger import Ledger
from petavox.blocks.task import BlockTask
from petavox.provenance import digest


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


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "..."
