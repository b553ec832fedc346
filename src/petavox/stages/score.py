"""Score a volume of objects against a volume of truth, block by block.

What it is: it checks that both volumes speak of the same voxels, walks them in blocks, and adds
up the tables that petavox.score works on. What it is not: a score; those are in petavox.score.

Every block is read with the context that the boundary tolerance needs, so the figures are the
same whatever the blocks, and equal those of the whole volume in one array.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from petavox.errors import BadInput
from petavox.progress import Progress
from petavox.score import errors, reporting, spots, tolerance
from petavox.score.pairs import Adder, PairTable, pair_table
from petavox.settings import BoxSetting, Settings, ZyxSetting
from petavox.space import Block, Box, Grid, VoxelSize
from petavox.stages.labels import require_one_volume
from petavox.volume import Volume


class ScoreSettings(Settings):
    """What to score and how."""

    box: BoxSetting | None = None
    """Only these voxels (default: all of both volumes, which must have the same box)."""
    intersect: bool = False
    """Score where both volumes are, if their boxes differ."""
    tolerance: float = Field(default=2.0, ge=0, le=tolerance.MOST)
    """Radius around truth boundaries that the tolerant scores ignore, in voxels of the sharpest
    axis; 0 leaves the tolerant scores out."""
    large: int = Field(default=1000, ge=1)
    """Voxels from which an object is counted as large, and an overlap as a split or merger."""
    places: bool = False
    """Also find where the splits and mergers are."""
    block: ZyxSetting = (128, 256, 256)
    """Voxels held in memory at a time, zyx."""


@dataclass
class Tables:
    """What is known of a result and a truth after walking all blocks.

    every: all voxels.  tolerant: without those near a truth boundary (None if not asked).
    overlaps, mergers, splits: places (empty if not asked).
    """

    every: PairTable
    tolerant: PairTable | None
    voxel_size: tuple[float, float, float]
    settings: ScoreSettings
    box: Box
    masked: bool = False
    overlaps: spots.Spots = field(default_factory=lambda: spots.empty(2))
    mergers: spots.Spots = field(default_factory=lambda: spots.empty(3))
    splits: spots.Spots = field(default_factory=lambda: spots.empty(3))

    @property
    def judged(self) -> PairTable:
        """The table that decides what is a split or merger: the tolerant one where there is one."""
        return self.every if self.tolerant is None else self.tolerant

    def objects(self) -> errors.Columns:
        """A row per object; see petavox.score.errors.objects_table."""
        return errors.objects_table(self.judged)

    def report(self, *, oracle: bool = False) -> reporting.Report:
        """All figures with their conventions; see petavox.score.reporting.report."""
        return reporting.report(
            self.every,
            self.tolerant,
            radius=self.settings.tolerance,
            large=self.settings.large,
            oracle=oracle,
            where=f"in box {self.box}" + (", where the mask is above 0" if self.masked else ""),
        )

    def errors(self) -> errors.Columns:
        """A row per split and merger; see petavox.score.errors.errors_table."""
        return errors.errors_table(
            self.judged,
            least=self.settings.large,
            overlaps=self.overlaps,
            mergers=self.mergers,
            splits=self.splits,
            voxel_size=self.voxel_size,
        )


def tables(
    result: Volume,
    truth: Volume,
    settings: ScoreSettings | None = None,
    *,
    where: Volume | None = None,
    quiet: bool = False,
) -> Tables:
    """Walk both volumes and add up what the scores need.

    where: count only voxels at which this volume is above 0.
    Raises BadInput, before any voxel is read, if the volumes do not speak of the same voxels.
    """
    settings = settings or ScoreSettings()
    box = scored_box(result, truth, settings, where)
    size = tuple(truth.voxel_size)
    nm = (size[0], size[1], size[2])
    reach = tolerance.context(settings.tolerance, nm)
    if settings.places:
        reach = (max(reach[0], 1), max(reach[1], 1), max(reach[2], 1))
    grid = Grid(box, settings.block, reach)
    every, tolerant = Adder(), Adder()
    found: list[list[spots.Spots]] = [[], [], []]
    with Progress("score", total=box.size, unit="voxel", quiet=quiet) as progress:
        for block in grid:
            raw, far, places = _block(result, truth, where, block, settings, nm)
            every.add(raw)
            tolerant.add(far)
            for kept, new in zip(found, places, strict=False):
                kept.append(new)
                if len(kept) > 32:
                    kept[:] = [spots.added(kept, new.keys.shape[1])]
            progress.advance(block.write.size)
    return Tables(
        every.sum(),
        tolerant.sum() if settings.tolerance > 0 else None,
        nm,
        settings,
        box,
        where is not None,
        *(spots.added(kept, k) for kept, k in zip(found, (2, 3, 3), strict=True)),
    )


def scored_box(
    result: Volume, truth: Volume, settings: ScoreSettings, where: Volume | None = None
) -> Box:
    """The voxels to score. Raises BadInput if the volumes cannot be compared."""
    others = [("result", result)] + ([] if where is None else [("mask", where)])
    for name, volume in [*others, ("truth", truth)]:
        require_one_volume(volume.path)
        if volume.dtype.kind not in "uib":
            raise BadInput(
                f"the {name} {volume.path} holds {volume.dtype}: objects are whole numbers."
            )
    for name, volume in others:
        if not _same(volume.voxel_size, truth.voxel_size):
            raise BadInput(
                f"the {name} {volume.path} has voxels of {volume.voxel_size}, the truth "
                f"{truth.path} of {truth.voxel_size}: bring both to one voxel size."
            )
    if settings.box is not None:
        for volume in (result, truth, *(v for _, v in others)):
            if not volume.box.contains(settings.box):
                raise BadInput(
                    f"box {settings.box} leaves {volume.path}, whose box is {volume.box}."
                )
        box = settings.box
    else:
        box = truth.box
        for name, volume in others:
            if volume.box != truth.box and not settings.intersect:
                raise BadInput(
                    f"the {name} {volume.path} has the box {volume.box}, the truth {truth.path} "
                    f"{truth.box}: pass --box, or --intersect to score where both are."
                )
            box = box.intersection(volume.box)
    if box.is_empty:
        raise BadInput(f"{result.path} and {truth.path} share no voxel.")
    return box


def _same(a: VoxelSize, b: VoxelSize) -> bool:
    return all(math.isclose(p, q, rel_tol=1e-6) for p, q in zip(a, b, strict=True))


def _block(
    result: Volume,
    truth: Volume,
    where: Volume | None,
    block: Block,
    settings: ScoreSettings,
    nm: tuple[float, float, float],
) -> tuple[PairTable, PairTable, list[spots.Spots]]:
    """Tables of one block's write box, and its spots if asked: overlaps, mergers, splits."""
    own = block.write.slices(block.read.start)
    t = truth.read(block.read)
    a = result.read(block.read if settings.places else block.write)
    here = a[own] if settings.places else a
    counts = None if where is None else where.read(block.write) > 0
    every = pair_table(here, t[own], counts)
    if settings.tolerance > 0:
        far = ~tolerance.near_boundary(t, settings.tolerance, nm)[own]
        if counts is not None:
            far &= counts
        tolerant = pair_table(here, t[own], far)
    else:
        far = np.ones(block.write.shape, bool) if counts is None else counts
        tolerant = every
    if not settings.places:
        return every, tolerant, []
    places = [
        spots.overlaps(here, t[own], far, block.write.start, nm),
        spots.contacts(a, t, own, block.read.start, nm),
        spots.contacts(t, a, own, block.read.start, nm),
    ]
    return every, tolerant, places
