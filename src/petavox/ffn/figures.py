"""The figures of a training: what is counted in a step, and what is said of the sums.

What it is: names, and ratios of sums. What it is not: the counting (petavox.ffn.patches).
"""

from __future__ import annotations

COUNTS = (
    "loss", "steps", "fovs", "patches", "voxels_right", "voxels_spurious", "voxels_missed",
    "moves_right", "moves_missed", "moves_spurious",
)  # fmt: skip
"""Figures of a step that are summed."""


def shown(sums: dict[str, float]) -> dict[str, float]:
    """Loss, and of ended patches precision, recall and F1 of voxels, and moves per patch."""
    right, spurious = sums["voxels_right"], sums["voxels_spurious"]
    patches = max(sums["patches"], 1)
    precision = right / max(right + spurious, 1)
    recall = right / max(right + sums["voxels_missed"], 1)
    return {
        "loss": sums["loss"] / max(sums["steps"], 1),
        "f1": 2 * precision * recall / max(precision + recall, 1e-9),
        "precision": precision,
        "recall": recall,
        "moves_right": sums["moves_right"] / patches,
        "moves_missed": sums["moves_missed"] / patches,
        "moves_spurious": sums["moves_spurious"] / patches,
    }
