"""The run description, petavox.yaml, as settings.

What it is: what a project says: its data, voxel size, models, workers, the settings of its stages.
What it is not: the stages themselves (petavox.project.steps), or the checking of files
(petavox.project.checks).
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from petavox.project.steps import STEPS
from petavox.settings import NmSetting, Settings

VERSION = 1
"""Of the form of petavox.yaml."""
FILE = "petavox.yaml"


class Inputs(Settings):
    """Where the run begins: one of tiles, sections, image. Paths count from petavox.yaml."""

    tiles: str | None = None
    """Tile table (docs/alignment.md)."""
    sections: str | None = None
    """Volume of sections that are not aligned yet."""
    image: str | None = None
    """Volume that is aligned."""
    mask: str | None = None
    """Volume over the image, nonzero where nothing shall be segmented."""
    synapses: str | None = None
    """Table of synapses, where they were found by another program (docs/connectome.md)."""

    @model_validator(mode="after")
    def _one(self) -> Inputs:
        given = [k for k in ("tiles", "sections", "image") if getattr(self, k)]
        if len(given) != 1:
            raise ValueError(
                f"{' and '.join(given) if given else 'nothing'} given: say exactly one of tiles, "
                "sections, image"
            )
        return self


class Models(Settings):
    """Networks: a file (.safetensors) each, or `shipped`."""

    segmentation: str = "shipped"
    synapses: str | None = None
    """Without one, synapses are not detected."""


class Truth(Settings):
    """What is known to be true of the data; each is scored against where it is given."""

    tiles: str | None = None
    """Folder of `petavox phantom --tiles`: the truth of every stage."""
    labels: str | None = None
    """Volume of objects over the image."""
    synapses: str | None = None
    """Table of synapses over the image: id, pre, post, z_nm, y_nm, x_nm."""


class ProjectSettings(Settings):
    """All of petavox.yaml."""

    version: int = VERSION
    name: str = Field(min_length=1)
    voxel_size: NmSetting | None = None
    """nm, z y x: thickness of a section, edge of a pixel. Needed for tiles; else the file says."""
    input: Inputs
    models: Models = Models()
    truth: Truth = Truth()
    workers: int = Field(0, ge=0)
    """Processes on this machine; 0: one, without a pool."""
    site: str | None = None
    """Instead of workers: laptop, slurm, polaris, aurora, ... or a YAML (docs/sites.md)."""
    go_on_with_losses: bool = False
    """Go on when a stage had to leave out tiles or sections; else the run stops there and says."""
    stages: dict[str, bool | dict[str, Any]] = Field(default_factory=dict)
    """Stage -> its settings, or off."""

    @field_validator("version")
    @classmethod
    def _known_version(cls, value: int) -> int:
        if value != VERSION:
            raise ValueError(
                f"this petavox reads version {VERSION}; "
                + (
                    "the file is from a newer petavox, install that"
                    if value > VERSION
                    else "make a new file by `petavox init` and copy your settings into it"
                )
            )
        return value

    @field_validator("stages", mode="before")
    @classmethod
    def _known_stages(cls, value: Any) -> Any:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValueError("give `stage: settings` lines")
        for name, given in value.items():
            if name not in STEPS:
                raise ValueError(f"there is no stage '{name}'; the stages are {', '.join(STEPS)}")
            if not (given is None or isinstance(given, bool | dict)):
                raise ValueError(f"stage '{name}' is {given!r}: give its settings, on, or off")
        return {name: {} if given is None else given for name, given in value.items()}

    @model_validator(mode="after")
    def _whole(self) -> ProjectSettings:
        if self.voxel_size is not None and min(self.voxel_size) <= 0:
            raise ValueError(f"voxel_size {self.voxel_size} nm must be positive")
        if self.input.tiles and self.voxel_size is None:
            raise ValueError(
                "tiles need `voxel_size: [thickness, pixel, pixel]` in nm, such as [40, 4, 4]"
            )
        if self.input.tiles and self.voxel_size and self.voxel_size[1] != self.voxel_size[2]:
            raise ValueError(f"voxel_size is {self.voxel_size}: pixels of tiles must be square")
        if self.site is not None and self.workers:
            raise ValueError("say workers or site, not both: a site says its own workers")
        return self

    def wanted(self, stage: str) -> bool | None:
        """Is a stage asked for (True), switched off (False), or not named (None)?"""
        given = self.stages.get(stage)
        return None if given is None else given is not False
