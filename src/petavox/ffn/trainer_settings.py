"""The settings of the trainer: how a flood-filling network is trained, whatever on.

What it is: their keys. What it is not: what they do (petavox.ffn.trainer), or the volumes
(petavox.stages.training_settings).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from petavox.ffn.examples import ExampleSettings
from petavox.ffn.walks import WalkSettings
from petavox.learn.augment import AugmentSettings
from petavox.learn.schedule import OptimiserSettings
from petavox.settings import Settings


class TrainerSettings(Settings):
    """How a network is trained, whatever on."""

    seed: int = Field(0, ge=0)
    batch: int = Field(4, ge=1)
    """Fields of view in one step, for each device (a card, whatever tiles it shows)."""
    live: int = Field(4, ge=1)
    """Live patches for each place in the batch; 1 learns from the same patch step after step."""
    steps: int | None = Field(None, ge=1)
    """Steps of the whole training."""
    minutes: float | None = Field(None, gt=0)
    """Time of the whole training, validation not counted."""
    precision: Literal["f32", "bf16"] = "f32"
    memory_format: Literal["channels_last", "contiguous"] = "channels_last"
    compile: bool = False
    """Let torch.compile fuse the network (needs a C++ compiler on a processor)."""
    ahead: int = Field(8, ge=0)
    """Examples that a thread prepares beforehand."""
    tiles_per_device: int = Field(1, ge=1)
    """Tiles that a card shows as devices of their own, with a rank each."""
    examples: ExampleSettings = ExampleSettings()
    walk: WalkSettings = WalkSettings()
    augment: AugmentSettings = AugmentSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
