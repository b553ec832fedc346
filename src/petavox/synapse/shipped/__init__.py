"""The synapse model that comes with petavox, for the demo and as a start for fine-tuning.

What it is: where its file lies. What it is not: a model for real tissue: it has seen phantom tissue
only, of 10 nm voxels (docs/synapses.md). To make it again: recipes/synapses.yaml.
"""

from __future__ import annotations

from pathlib import Path

MODEL = Path(__file__).parent / "small.safetensors"
