"""Labels at a path, or a sentence on why they are none.

What it is: the check that what a stage takes for objects are objects, in one volume. What it is
not: labels of blocks (petavox.stages.block_labels), which look like a volume and are none.
"""

from __future__ import annotations

from petavox import volume
from petavox.errors import BadInput
from petavox.stages.block_labels import is_block_labels


def labels_of(path: str) -> volume.Volume:
    """The labels at a path. Raises BadInput if they are none, or labels of blocks."""
    require_one_volume(path)
    labels = volume.open(path)
    if labels.dtype.kind != "u":
        raise BadInput(f"{path} holds {labels.dtype}: labels are unsigned integers.")
    return labels


def require_one_volume(path: str) -> None:
    """Raise BadInput if a path holds labels of blocks, kept side by side."""
    if is_block_labels(path):
        raise BadInput(f"{path} holds labels of blocks: reconcile them first.")
