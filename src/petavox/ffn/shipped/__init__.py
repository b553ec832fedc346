"""The model that comes with petavox, for the demo and as a start for fine-tuning.

What it is: where its file lies. What it is not: a model good enough for science; docs/training.md
says what it was trained on and how it scores. To make it again: recipes/shipped.yaml.

The real tissue it has seen is the low-z part of training_sample2 of neuroproof_examples (FIB-SEM of
the Drosophila medulla, Janelia FlyEM, CC BY).
"""

from __future__ import annotations

from pathlib import Path

MODEL = Path(__file__).parent / "small.safetensors"
