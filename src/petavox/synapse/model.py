"""Model files of synapse networks: weights with the geometry and classes they were trained for.

What it is: the spec of a network, and its model file. What it is not: the layers
(petavox.synapse.network), or how model files are read and written (petavox.learn.model_file).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor

from petavox.learn.model_file import ModelFormat
from petavox.settings import NmSetting, Settings, ZyxSetting
from petavox.space import Zyx
from petavox.synapse import network

FORMAT = "petavox-synapse-1"

ClassName = Literal["cleft", "pre", "post", "mitochondria"]
CLASSES: tuple[ClassName, ...] = ("cleft", "pre", "post", "mitochondria")


class SynapseSpec(Settings):
    """Everything about a network but its weights; voxels, zyx."""

    classes: tuple[ClassName, ...] = CLASSES
    """What is predicted, each with a probability of its own; cleft must be among them."""
    features: tuple[int, ...] = (12, 24, 48)
    """Channels of each level, finest first."""
    kernels: tuple[ZyxSetting, ...] = ((3, 3, 3), (3, 3, 3), (3, 3, 3))
    """Of each level, odd; 1 along z keeps sections apart."""
    steps: tuple[ZyxSetting, ...] = ((2, 2, 2), (2, 2, 2))
    """How much each level but the coarsest is coarsened; 1 keeps an axis as it is."""
    image_mean: float = 128.0
    """Greys of 0 to 255; those of 16-bit images are scaled to that first."""
    image_std: float = Field(33.0, gt=0)
    voxel_size: NmSetting | None = None
    """nm, zyx, of the images it was trained on."""
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _geometry(self) -> SynapseSpec:
        n = len(self.features)
        if n < 1 or len(self.kernels) != n or len(self.steps) != n - 1:
            raise ValueError(
                f"{n} levels of features need {n} kernels and {n - 1} steps; there are "
                f"{len(self.kernels)} and {len(self.steps)}"
            )
        if any(f < 1 for f in self.features):
            raise ValueError(f"features are {self.features}: each level needs at least one")
        if any(k < 1 or k % 2 == 0 for kernel in self.kernels for k in kernel):
            raise ValueError(f"kernels are {self.kernels}: each side must be odd")
        if any(s < 1 for step in self.steps for s in step):
            raise ValueError(f"steps are {self.steps}: each must be at least 1")
        if "cleft" not in self.classes or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes are {self.classes}: name cleft, and each one once")
        if ("pre" in self.classes) != ("post" in self.classes):
            raise ValueError("classes pre and post go together: name both, or neither")
        return self

    @property
    def stride(self) -> Zyx:
        """Voxels in one voxel of the coarsest level."""
        return network.stride(self.steps)

    @property
    def reach(self) -> Zyx:
        """Voxels on each side that an answer depends on, in whole strides."""
        near = network.reach(self.kernels, self.steps)
        z, y, x = (-(-r // s) * s for r, s in zip(near, self.stride, strict=True))
        return (z, y, x)

    def fresh(self) -> network.UNet:
        """The network, weights as torch makes them."""
        return network.UNet(self.features, self.kernels, self.steps, len(self.classes))


@dataclass(frozen=True)
class SynapseModel:
    """A network with its spec; `digest` names the exact file it came from."""

    spec: SynapseSpec
    network: network.UNet
    digest: str = ""


_FILE = ModelFormat(
    FORMAT,
    SynapseSpec,
    SynapseSpec.fresh,
    what="synapses",
    fix="train one by `petavox train` with `kind: synapses`",
)


def save_model(path: str | Path, spec: SynapseSpec, weights: Mapping[str, Tensor]) -> None:
    """Write a model file, atomically."""
    _FILE.write(path, spec, weights)


def load_spec(path: str | Path) -> SynapseSpec:
    """The spec of a model file, without its weights."""
    return _FILE.read_spec(path)


def load_model(path: str | Path) -> SynapseModel:
    """Read a model file. Raises BadInput if it is not one, or is truncated or inconsistent."""
    return SynapseModel(*_FILE.read(path))
