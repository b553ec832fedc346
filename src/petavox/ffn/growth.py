"""What a flood is told and what it keeps: settings, the object under way, where objects came from.

What it is: plain data, and the protocol by which others follow a flood.
What it is not: the algorithm (petavox.ffn.canvas).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import AfterValidator, Field

from petavox.settings import Settings, ZyxSetting
from petavox.space import Zyx

if TYPE_CHECKING:
    from petavox.ffn.canvas import Canvas


def _axes(text: str) -> str:
    if text not in ("", "z", "y", "x", "zy", "zx", "yx", "zyx"):
        raise ValueError("give axes in the order z y x, each at most once, such as zx")
    return text


class FloodSettings(Settings):
    """How a subvolume is flooded. Probabilities, not logits; what is None comes from the model."""

    move_threshold: float | None = Field(None, gt=0, lt=1)
    segment_threshold: float | None = Field(None, gt=0, lt=1)
    seed_pad: float | None = Field(None, gt=0, lt=1)
    seed_init: float | None = Field(None, gt=0, lt=1)
    deltas: ZyxSetting | None = None
    """Step of the field of view, voxels zyx. A longer one than the network was trained with needs
    fewer steps, with less overlap between them."""
    flip: Annotated[str, AfterValidator(_axes)] = ""
    """Axes along which the image is mirrored while it is flooded, such as zx: another pass for a
    consensus. The labels come out the right way round."""
    disco_threshold: float = Field(0.0, lt=1)
    """Share of a field of view above the move threshold from which voxels once below 0.5 stay
    there; negative: never."""
    min_segment_size: int = Field(1000, ge=1)
    """Voxels; smaller objects are dropped."""
    min_boundary_dist: ZyxSetting = (1, 1, 1)
    """No object starts this near (voxels, zyx) to another object."""
    max_object_share: float = Field(1.0, gt=0, le=1)
    """Leak guard: an object over this share of the subvolume's voxels is stopped and left out. Off
    at 1: a soma, a vessel or a glial cell may well fill a whole block."""
    max_box_share: float = Field(1.0, gt=0, le=1)
    """Leak guard: the same for the share of its bounding box."""
    keep_probability: bool = False
    """Also keep the object probability of every labelled voxel, in 255 steps."""


@dataclass
class Growth:
    """One object while it grows; all that is needed to go on with it."""

    start: Zyx
    queue: deque[Zyx]
    visited: set[Zyx]
    low: Zyx
    high: Zyx
    """Bounds (inclusive) of the centres of the fields of view so far."""
    fovs: int = 0
    voxels: int = 0
    """Voxels of the map at or above the segment threshold."""
    deleted: int = 0
    """Voxels that fell from a probability of at least 0.8 to below 0.5."""
    seconds: float = 0.0
    stopped: str | None = None
    """Why it was stopped before the queue ran empty."""


@dataclass(frozen=True)
class Origin:
    """Where an object came from, kept beside the labels."""

    seed: Zyx
    fovs: int
    voxels: int
    deleted: int
    seconds: float
    overlaps: dict[int, int] = field(default_factory=dict)
    """Objects there before it, with the voxels it would have taken from them."""


class Watcher(Protocol):
    """Told after every step; may save the canvas's state, show it, or stop by raising."""

    def stepped(self, canvas: Canvas, growth: Growth) -> None:
        """A field of view was predicted."""
        ...
