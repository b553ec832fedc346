"""How work is cut up and run: tasks of blocks, their plan, the ledger, engines and sites.

What it is: the public names of the package. What it is not: code, or anything that knows what a
block computes.
"""

from petavox.blocks.engines import Engine, open_engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.outcome import Limits, Outcome
from petavox.blocks.plan import Plan
from petavox.blocks.runner import run
from petavox.blocks.task import BlockTask, Context, Costs, Counters

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
