"""How work is cut up and run: tasks of blocks, their plan, the ledger, engines and sites.

What it is: the public names of the package, each loaded on first use: interchange and workers are
started many at a time, and need few of them. What it is not: code, or anything that knows what a
block computes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from petavox.blocks.engines import Engine, open_engine
    from petavox.blocks.ledger import Ledger
    from petavox.blocks.outcome import Limits, Outcome
    from petavox.blocks.plan import Plan
    from petavox.blocks.runner import run
    from petavox.blocks.task import BlockTask, Context, Costs, Counters

# public name -> the module that owns it
_HOMES = {
    "BlockTask": "task",
    "Context": "task",
    "Costs": "task",
    "Counters": "task",
    "Engine": "engines",
    "Ledger": "ledger",
    "Limits": "outcome",
    "Outcome": "outcome",
    "Plan": "plan",
    "open_engine": "engines",
    "run": "runner",
}
__all__ = [
    "BlockTask",
    "Context",
    "Costs",
    "Counters",
    "Engine",
    "Ledger",
    "Limits",
    "Outcome",
    "Plan",
    "open_engine",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'petavox.blocks' has no attribute '{name}'")
    found = getattr(importlib.import_module(f"petavox.blocks.{_HOMES[name]}"), name)
    globals()[name] = found  # the next use asks no more
    return found
