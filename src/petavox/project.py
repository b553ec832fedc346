"""The run description: the stages in their order, and where a project keeps what.

What it is: names and order. What it is not: the stages, or a runner.
"""

from __future__ import annotations

STAGES = (
    "stitch",
    "align",
    "segment",
    "reconcile",
    "agglomerate",
    "synapses",
    "neurons",
    "connectome",
)
"""The arrows of the pipeline, in order; each only reads what earlier ones wrote."""
