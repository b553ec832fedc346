"""What a person asks of quality control. What it is not: the stage (petavox.stages.qc)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PlainSerializer

from petavox.align import quality
from petavox.align.correlation import SuspectSettings
from petavox.align.damage_view import DamageSettings
from petavox.align.shift import ShiftSettings
from petavox.settings import BoxSetting, NmSetting, Settings


class QcSettings(Settings):
    """A request to look at a stack.

    aligned: neighbours lie on one another, so compare them.  pair_nm: resolution at which pairs
    are compared.  correlation_patch: side of a correlated patch, in pixels of that resolution.
    worst: pairs drawn as overlays.  memory_mb: of one process.
    """

    box: Annotated[BoxSetting, PlainSerializer(str)] | None = None
    voxel_size: NmSetting | None = None
    aligned: bool = False
    pair_nm: float = Field(10.0, gt=0)
    correlation_patch: int = Field(96, ge=8)
    worst: int = Field(5, ge=0)
    damage: DamageSettings = DamageSettings()
    outliers: quality.OutlierSettings = quality.OutlierSettings()
    shift: ShiftSettings = ShiftSettings()
    suspects: SuspectSettings = SuspectSettings()
    memory_mb: int = Field(1024, ge=64)
