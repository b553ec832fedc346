"""The settings of a training of a flood-filling network, and how they are read.

What it is: the keys of train.yaml. What it is not: those of a synapse network
(petavox.stages.synapses_train), or the training (petavox.stages.train).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from petavox.errors import BadInput
from petavox.ffn.devices import Precision
from petavox.ffn.flood import SeedSettings
from petavox.ffn.growth import FloodSettings
from petavox.ffn.model import ModelSpec
from petavox.ffn.trainer_settings import TrainerSettings
from petavox.learn.training_run import RunSettings
from petavox.settings import BoxSetting, NmSetting, Settings, parse, read_yaml_mapping
from petavox.stages import phantom as tissue_stage


class VolumeSettings(Settings):
    """An annotated volume: image and labels, or phantom tissue to be made."""

    image: str | None = None
    labels: str | None = None
    mask: str | None = None
    """Volume, 0 where the annotation says nothing: no loss, no example, no score."""
    phantom: tissue_stage.PhantomSettings | None = None
    """Instead of image and labels: tissue made once, in OUT/phantoms."""
    box: BoxSetting | None = None
    """Voxels to use; None: all that image and labels share."""
    voxel_size: NmSetting | None = None
    """nm, zyx; only for files that do not say."""

    @model_validator(mode="after")
    def _one_kind(self) -> VolumeSettings:
        files = (self.image, self.labels, self.mask, self.voxel_size)
        if self.phantom is not None:
            if any(f is not None for f in files):
                raise ValueError("`phantom` stands alone: leave out files and voxel_size")
        elif self.image is None or self.labels is None:
            raise ValueError("give `image` and `labels`, or `phantom`")
        return self


class TrainingVolume(VolumeSettings):
    """A volume to learn from."""

    weight: float = Field(1.0, gt=0)
    """Share of the examples, relative to the other volumes'."""


class ValidationSettings(VolumeSettings):
    """A box that is flooded and scored; keep it apart from what is learned from."""

    flood: FloodSettings = Field(default_factory=FloodSettings)
    seeds: SeedSettings = Field(default_factory=SeedSettings)
    evaluations: float = Field(100.0, gt=0)
    """Evaluations of each voxel after which a flood is stopped and scored as it is: an early
    network would flood without end. A good one needs about 60."""
    precision: Precision = "f32"

    @model_validator(mode="after")
    def _seeds_of_its_own(self) -> ValidationSettings:
        if self.seeds.policy == "points":
            raise ValueError("seeds.policy points needs points, which a validation has not")
        return self


class GreySettings(Settings):
    """Grey values of raw images; the network sees (raw - mean) / std."""

    mean: float
    std: float = Field(gt=0)


class TrainSettings(Settings):
    """A training."""

    kind: Literal["ffn"] = "ffn"
    """`synapses` is another training: petavox.stages.synapses_train."""
    model: ModelSpec | None = None
    """Geometry and normalisation; left out with --init, which brings its own."""
    grey: GreySettings | None = None
    """With --init: mean and deviation of the new images' grey values, instead of the model's."""
    volumes: list[TrainingVolume] = Field(min_length=1)
    validation: ValidationSettings | None = None
    """Without it the last model is taken for the best."""
    any_voxel_size: bool = False
    """Learn also from voxels unlike those of the model (more than a quarter off)."""
    device: str = "cpu"
    threads: int | None = Field(None, ge=1)
    """Of the processor, for each rank; None: as torch finds fit."""
    trainer: TrainerSettings = Field(default_factory=TrainerSettings)
    run: RunSettings = Field(default_factory=RunSettings)


def read_settings(path: str | Path, changes: dict[str, Any] | None = None) -> TrainSettings:
    """The settings in a file; `changes` replace keys, dotted (None: leave as it is)."""
    return parse(TrainSettings, changed(path, changes), str(path))


def changed(path: str | Path, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The values in a file of settings, with some replaced; see `read_settings`."""
    values = read_yaml_mapping(path)
    for key, value in (changes or {}).items():
        if value is not None:
            *above, name = key.split(".")
            here = values
            for part in above:
                if here.get(part) is None:  # also a key with nothing under it
                    here[part] = {}
                here = here[part]
                if not isinstance(here, dict):
                    raise BadInput(f"{part} in {path} is {here!r}, not `key: value` lines.")
            here[name] = value
    return values


def kind_of(path: str | Path) -> str:
    """Which network a file of settings is for: "synapses", or "ffn" where it does not say.

    Raises BadInput for another kind.
    """
    kind = read_yaml_mapping(path).get("kind", "ffn")
    if kind not in ("ffn", "synapses"):
        raise BadInput(f"kind in {path} is '{kind}': it must be ffn or synapses.")
    return str(kind)
