"""Model files: weights with the geometry they were trained for.

What it is: a network and all that must be known to use it, in one safetensors file whose header
holds the geometry and the provenance as JSON. No pickle is ever loaded.
What it is not: the network's layers (petavox.ffn.network), or foreign checkpoints
(petavox.ffn.released).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from petavox.errors import BadInput
from petavox.ffn.network import ConvStack, Norm
from petavox.provenance import file_digest, write_atomically
from petavox.settings import Settings, ZyxSetting, parse, sentence
from petavox.space import Zyx

FORMAT = "petavox-ffn-1"


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
        for axis, fov, delta in zip("zyx", self.fov, self.deltas, strict=True):
            if fov < 1 or fov % 2 == 0:
                raise ValueError(f"fov along {axis} is {fov}: it must be odd, to have a centre")
            if not 0 <= delta <= fov // 2:
                raise ValueError(
                    f"deltas along {axis} is {delta}: a step must stay inside the field of view "
                    f"(0 to {fov // 2})"
                )
        if max(self.deltas) == 0:
            raise ValueError("deltas are all 0: the field of view could never move")
        return self

    def stepping(self, deltas: Zyx | None) -> ModelSpec:
        """The same with another step; None: its own. Raises BadInput if it cannot be."""
        if deltas is None:
            return self
        return parse(ModelSpec, self.model_dump() | {"deltas": deltas}, "flood.deltas")

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


def save_model(path: str | Path, spec: ModelSpec, weights: Mapping[str, Tensor]) -> None:
    """Write a model file, atomically."""
    header = {"format": FORMAT, "spec": spec.model_dump_json()}
    tensors = {k: v.detach().to("cpu", torch.float32).contiguous() for k, v in weights.items()}
    try:
        write_atomically(path, save(tensors, metadata=header))
    except OSError as e:
        raise BadInput(f"cannot write the model {path}: {e.strerror}.") from None


def load_spec(path: str | Path) -> ModelSpec:
    """The spec of a model file, without its weights."""
    with _opened(path) as f:
        return _spec(f.metadata() or {}, path)


def load_model(path: str | Path) -> Model:
    """Read a model file. Raises BadInput if it is not one, or is truncated or inconsistent."""
    with _opened(path) as f:
        spec = _spec(f.metadata() or {}, path)
        weights = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 (not a dict)
    network = ConvStack(spec.depth, spec.features, spec.norm)
    expected = network.state_dict()
    for name, tensor in expected.items():
        if name not in weights:
            raise BadInput(f"model {path} lacks the weights '{name}' that its depth asks for.")
        if weights[name].shape != tensor.shape:
            raise BadInput(
                f"model {path}: weights '{name}' have shape {tuple(weights[name].shape)}, "
                f"expected {tuple(tensor.shape)} for depth {spec.depth}, {spec.features} features."
            )
        if not torch.isfinite(weights[name]).all():
            raise BadInput(f"model {path}: weights '{name}' hold NaN or infinity.")
    surplus = sorted(set(weights) - set(expected))
    if surplus:
        raise BadInput(f"model {path} holds weights its depth has no place for: {surplus[:3]}.")
    network.load_state_dict(weights)
    return Model(spec, network.eval().requires_grad_(False), file_digest(path))


def _opened(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise BadInput(f"there is no model file {path}.")
    try:
        return safe_open(str(path), framework="pt", device="cpu")
    except (SafetensorError, OSError) as e:
        raise BadInput(
            f"{path} is not a whole petavox model ({e}); bring foreign checkpoints in with "
            "`petavox model import`."
        ) from None


def _spec(header: Mapping[str, str], path: str | Path) -> ModelSpec:
    if header.get("format") != FORMAT:
        raise BadInput(
            f"{path} is a safetensors file but no petavox model (format "
            f"{header.get('format')!r}, expected {FORMAT!r})."
        )
    try:
        return ModelSpec.model_validate(json.loads(header["spec"]))
    except (KeyError, ValueError) as e:
        said = sentence(e, str(path), ModelSpec) if isinstance(e, ValidationError) else str(e)
        raise BadInput(f"the header of model {path} is not valid: {said}") from None
