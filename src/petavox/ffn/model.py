"""Model files: weights with the geometry they were trained for.

What it is: the geometry of a flood-filling network, and its model file.
What it is not: the network's layers (petavox.ffn.network), how model files are read and written
(petavox.learn.model_file), or foreign checkpoints (petavox.ffn.released).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from torch import Tensor

from petavox.errors import BadInput
from petavox.ffn.network import ConvStack, Norm
from petavox.learn.model_file import ModelFormat
from petavox.settings import Settings, ZyxSetting
from petavox.space import Zyx

FORMAT = "petavox-ffn-1"


def check_deltas(deltas: Zyx, fov: Zyx) -> None:
    """Raise ValueError for a step with which a field of view could not move, or would jump."""
    for axis, view, delta in zip("zyx", fov, deltas, strict=True):
        if not 0 <= delta <= view // 2:
            raise ValueError(
                f"deltas along {axis} is {delta}: a step must stay inside the field of view "
                f"(0 to {view // 2})"
            )
    if max(deltas) == 0:
        raise ValueError("deltas are all 0: the field of view could never move")


class ModelSpec(Settings):
    """Everything about a network but its weights. Probabilities, not logits; voxels, zyx."""

    fov: ZyxSetting
    """Field of view: what the network sees and predicts in one step."""
    deltas: ZyxSetting
    """Step of the field of view along each axis."""
    depth: int = Field(ge=2, le=64)
    features: int = Field(ge=1, le=1024)
    norm: Norm = "none"
    image_mean: float
    image_std: float = Field(gt=0)
    seed_pad: float = Field(0.05, gt=0, lt=1)
    """Object probability assumed where nothing was predicted yet."""
    seed_init: float = Field(0.95, gt=0, lt=1)
    """Object probability at the voxel where an object starts."""
    move_threshold: float = Field(0.9, gt=0, lt=1)
    segment_threshold: float = Field(0.6, gt=0, lt=1)
    voxel_size: tuple[float, float, float] | None = None
    """nm, zyx, of the image it was trained on; None if unknown."""
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _geometry(self) -> ModelSpec:
        for axis, fov in zip("zyx", self.fov, strict=True):
            if fov < 1 or fov % 2 == 0:
                raise ValueError(f"fov along {axis} is {fov}: it must be odd, to have a centre")
        check_deltas(self.deltas, self.fov)
        return self

    def stepping(self, deltas: Zyx | None) -> ModelSpec:
        """The same with another step; None: its own. Raises BadInput if it cannot be."""
        if deltas is None:
            return self
        try:
            check_deltas(deltas, self.fov)
        except ValueError as e:
            raise BadInput(f"flood.deltas cannot be {deltas}: {e}.") from None
        return self.model_copy(update={"deltas": deltas})

    @property
    def margin(self) -> tuple[int, int, int]:
        """Voxels between a field of view's centre and its rim."""
        return (self.fov[0] // 2, self.fov[1] // 2, self.fov[2] // 2)


@dataclass(frozen=True)
class Model:
    """A network with its spec; `digest` names the exact file it came from."""

    spec: ModelSpec
    network: ConvStack
    digest: str = ""


def logit(probability: float) -> float:
    """log(p / (1 - p))"""
    return math.log(probability / (1.0 - probability))


def _network(spec: ModelSpec) -> ConvStack:
    return ConvStack(spec.depth, spec.features, spec.norm)


_FILE = ModelFormat(
    FORMAT,
    ModelSpec,
    _network,
    what="a flood-filling network",
    fix="bring foreign checkpoints in with `petavox model import`",
)


def save_model(path: str | Path, spec: ModelSpec, weights: Mapping[str, Tensor]) -> None:
    """Write a model file, atomically."""
    _FILE.write(path, spec, weights)


def load_spec(path: str | Path) -> ModelSpec:
    """The spec of a model file, without its weights."""
    return _FILE.read_spec(path)


def load_model(path: str | Path) -> Model:
    """Read a model file. Raises BadInput if it is not one, or is truncated or inconsistent."""
    return Model(*_FILE.read(path))
