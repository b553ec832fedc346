"""Score a volume of objects against a volume of truth, block by block.

What it is: it checks that both volumes speak of the same voxels, walks them in blocks, and adds
up the tables that petavox.score works on. What it is not: a score; those are in petavox.score.

Every block is read with the context that the boundary tolerance needs, so the figures are the
same whatever the blocks, and equal those of the whole volume in one array.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from petavox.errors import BadInput
from petavox.progress import Progress
from petavox.provenance import write_atomically
from petavox.score import errors, reporting, spots, tolerance
from petavox.score.pairs import Adder, PairTable, pair_table
from petavox.score.runs import RunScores, Skeleton, run_scores
from petavox.score.swc import read_swc
from petavox.settings import BoxSetting, Settings, ZyxSetting
from petavox.space import Block, Box, Grid, VoxelSize
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


# ---- skeletons


def skeleton_scores(
    result: Volume, skeletons: Sequence[Skeleton], *, merge_nodes: int = 1
) -> tuple[RunScores, int]:
    """ERL of a volume on truth skeletons, and how many nodes lay outside and were left out.

    A node at p nm lies in the voxel floor(p / voxel size). Edges with a node outside of the
    volume count nowhere.
    """
    inside = [_inside(s, result) for s in skeletons]
    kept = [s for s, _ in inside]
    outside = sum(n for _, n in inside)
    return run_scores(
        kept,
        [objects_at(result, voxels_of(s.nodes, result)) for s in kept],
        merge_nodes=merge_nodes,
    ), outside


def voxels_of(nodes: np.ndarray, volume: Volume) -> np.ndarray:
    """Voxels (n, 3) int64 of positions (n, 3) in nm, zyx."""
    # a node on a voxel's face, such as 3 x 4.6 nm, must not fall back by rounding
    return np.floor(nodes / np.array(tuple(volume.voxel_size)) + 1e-6).astype(np.int64)


def objects_at(volume: Volume, voxels: np.ndarray, block: int = 64) -> np.ndarray:
    """Ids (n,) uint64 at voxels (n, 3) inside the volume; only blocks with a voxel are read."""
    out = np.zeros(len(voxels), np.uint64)
    tile = (voxels - np.array(volume.box.start)) // block
    tiles, inverse = np.unique(tile, axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    cuts = np.searchsorted(inverse.ravel()[order], np.arange(1, len(tiles)))
    for rows in np.split(order, cuts) if len(voxels) else []:
        low, high = voxels[rows].min(axis=0), voxels[rows].max(axis=0) + 1
        at = voxels[rows] - low
        values = volume.read(Box(tuple(low.tolist()), tuple(high.tolist())))
        out[rows] = values[at[:, 0], at[:, 1], at[:, 2]]
    return out


def _inside(skeleton: Skeleton, volume: Volume) -> tuple[Skeleton, int]:
    voxels = voxels_of(skeleton.nodes, volume)
    keep = np.all((voxels >= volume.box.start) & (voxels < volume.box.stop), axis=1)
    new = np.cumsum(keep) - 1
    edges = skeleton.edges[keep[skeleton.edges].all(axis=1)]
    return Skeleton(skeleton.id, skeleton.nodes[keep], new[edges]), int((~keep).sum())


def read_skeletons(path: Path, nm_per_unit: float = 1.0) -> list[Skeleton]:
    """Skeletons of one SWC file, or of all in a folder, in the order of their names.

    A file's number, as in `42.swc`, is the skeleton's id; others are counted from 1.
    """
    files = sorted(path.glob("*.swc")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"there is no .swc file in {path}.")
    return [
        read_swc(f, id=int(f.stem) if f.stem.isdigit() else i, nm_per_unit=nm_per_unit)
        for i, f in enumerate(files, 1)
    ]


# ---- tables on disk


def table_format(path: Path) -> str:
    """ "parquet" or "csv" by the suffix. Raises BadInput for another."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("parquet", "csv"):
        raise BadInput(f"{path} ends in '{path.suffix}': name the table .parquet or .csv.")
    return kind


def write_table(path: Path, columns: errors.Columns) -> None:
    """Write a table as Parquet or CSV, by the suffix, all of it or none."""
    if table_format(path) == "csv":
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(columns)
        values: Iterable[Any] = zip(*(c.tolist() for c in columns.values()), strict=True)
        rows.writerows(values)
        write_atomically(path, text.getvalue())
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(
        pa.table(
            {k: pa.array(v.tolist() if v.dtype.kind == "U" else v) for k, v in columns.items()}
        ),
        buffer,
    )
    write_atomically(path, buffer.getvalue())
