"""The settings of a training of a synapse network.

What it is: the keys of a settings file with `kind: synapses`. What it is not: how it is read
(petavox.stages.training_settings), or the training (petavox.stages.synapses_train).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from petavox.learn.training_run import RunSettings
from petavox.settings import BoxSetting, NmSetting, Settings
from petavox.stages import phantom as tissue_stage
from petavox.synapse.model import SynapseSpec
from petavox.synapse.trainer import SynapseTrainerSettings


class SynapseVolume(Settings):
    """An annotated volume: an image with masks, an image with a table, or phantom tissue."""

    image: str | None = None
    cleft: str | None = None
    """Volumes, nonzero where the class is. What is not given is not learned from this volume."""
    pre: str | None = None
    post: str | None = None
    mitochondria: str | None = None
    labels: str | None = None
    """With `table`: the segmentation whose ids the table holds."""
    table: str | None = None
    """Synapses (id, z_nm, y_nm, x_nm, pre, post; Parquet or CSV): the sides are drawn from it."""
    phantom: tissue_stage.PhantomSettings | None = None
    """Instead: tissue made once, in OUT/phantoms."""
    box: BoxSetting | None = None
    """Voxels to use; None: all of the image."""
    voxel_size: NmSetting | None = None
    """nm, zyx; only for files that do not say."""

    @model_validator(mode="after")
    def _one_kind(self) -> SynapseVolume:
        files = (self.image, self.cleft, self.pre, self.post, self.mitochondria, self.labels)
        if self.phantom is not None:
            if any(f is not None for f in (*files, self.table, self.voxel_size)):
                raise ValueError("`phantom` stands alone: leave out files and voxel_size")
        elif self.image is None or (self.cleft is None and self.table is None):
            raise ValueError(
                "give `image` with `cleft` or with `labels` and `table`, or give `phantom`"
            )
        elif (self.labels is None) != (self.table is None):
            raise ValueError("`labels` and `table` go together: give both, or neither")
        return self


class SynapseTrainingVolume(SynapseVolume):
    """A volume to learn from."""

    weight: float = Field(1.0, gt=0)
    """Share of the examples, relative to the other volumes'."""


class SynapseValidation(SynapseVolume):
    """A box in which synapses are detected and matched; keep it apart from what is learned from."""

    within_nm: float = Field(200.0, gt=0)
    """A detected synapse is right if a true one lies so near; one to one."""
    threshold: float = Field(0.5, gt=0, lt=1)
    min_size_nm3: float = Field(0.0, ge=0)
    """Smaller clefts do not count."""
    precision: Literal["f32", "bf16"] = "f32"


class SynapseTrainSettings(Settings):
    """A training of a synapse network."""

    kind: Literal["synapses"]
    model: SynapseSpec | None = None
    """Left out with --init, which brings its own."""
    volumes: list[SynapseTrainingVolume] = Field(min_length=1)
    validation: SynapseValidation | None = None
    """Without it the last model is taken for the best."""
    any_voxel_size: bool = False
    """Learn also from voxels unlike those of the model (more than a quarter off)."""
    device: str = "cpu"
    threads: int | None = Field(None, ge=1)
    memory_mb: int = Field(8192, ge=16)
    """Bound of the annotated voxels of all volumes together, which are held in memory."""
    trainer: SynapseTrainerSettings = Field(default_factory=SynapseTrainerSettings)
    run: RunSettings = Field(default_factory=RunSettings)
