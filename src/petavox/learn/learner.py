"""What a trainer must offer so that petavox.learn.training_run can run it.

What it is: the protocols. What it is not: a trainer (petavox.ffn.trainer,
petavox.synapse.trainer).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch

from petavox.learn.distributed import Place

Validate = Callable[[Any], dict[str, float]]
"""Applies a model to a box and scores it; `error` is what is to be small."""


class Limited(Protocol):
    """Settings that say when a training ends: so many steps, or so many minutes."""

    steps: int | None
    minutes: float | None


class Learner(Protocol):
    """What a trainer must offer to be run: steps, figures, and its whole state."""

    place: Place
    device: torch.device
    counts: tuple[str, ...]
    """Names of the figures of a step, to be summed over steps and ranks."""
    step_number: int
    fovs: int
    """Fields of view seen by all ranks."""
    all_feeders: int

    @property
    def settings(self) -> Any:
        """Its settings: at least those of Limited."""

    @property
    def fovs_a_step(self) -> int:
        """Fields of view that all ranks see in a step."""

    def step(self) -> Counter[str]:
        """Learn from one batch; this rank's figures."""

    def shown(self, sums: dict[str, float]) -> dict[str, float]:
        """What is said of summed figures."""

    def annotated_voxels(self) -> int:
        """Voxels that examples may be drawn from."""

    def model(self) -> Any:
        """The network as it is now, to be validated."""

    def export(self, path: Path, provenance: dict[str, Any]) -> None:
        """Write the network as a model file."""

    def save(self, root: Path, facts: dict[str, Any] | None = None, keep: int = 2) -> Path | None:
        """Write a checkpoint."""

    def restore(self, folder: Path) -> dict[str, Any]:
        """Take up a checkpoint; its facts."""

    def close(self) -> None:
        """End its threads."""
