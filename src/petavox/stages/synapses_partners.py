"""Partners of synapses, block by block: each block takes the clefts that begin in it.

What it is: the joint of petavox.synapse.partners to volumes and tables. What it is not: the
decision at one cleft.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np

from petavox import volume
from petavox.blocks.content import content_digest
from petavox.blocks.task import Context, Costs, Counters
from petavox.errors import BadInput
from petavox.settings import Settings, ZyxSetting
from petavox.space import Block, Box, Grid, VoxelSize, Zyx, zyx
from petavox.stages import tables
from petavox.stages.stage import Stage
from petavox.stages.stamps import stamp
from petavox.stages.synapses_objects import COMPONENTS, components
from petavox.synapse import clefts
from petavox.synapse.partners import Partners, PartnerSettings, evidence, partners, tally
from petavox.volume.formats.facts import same_size

SOURCES = ("clefts", "pre", "post", "segmentation")
NOBODY = Partners(0, 0.0, ())


class AssignSettings(Settings):
    """Of the stage."""

    block: ZyxSetting
    partners: PartnerSettings = PartnerSettings()
    key: str = ""
    """Digest of the clefts; set by the driver."""


class AssignPartners(Stage):
    """reads: clefts, whole, pre, post, segmentation.  writes: rows (table)."""

    name = "synapses-partners"
    function = "petavox.stages.synapses_partners:partners_block"
    code = ("petavox.synapse.partners", "petavox.synapse.clefts")
    settings: AssignSettings

    def grid(self) -> Grid:
        """The blocks; each takes the clefts whose first voxel lies in it."""
        cleft = volume.open(self.reads["clefts"])
        if "segmentation" in self.reads:
            require_fitting(volume.open(self.reads["segmentation"]), cleft.box, cleft.voxel_size)
        return Grid(cleft.box, self.settings.block)

    def inputs(self) -> dict[str, str]:
        """The components stand for clefts, the key for what they and the sides were made of."""
        named = [k for k in ("segmentation",) if k in self.reads]
        return {"whole": self.settings.key} | {k: content_digest(self.reads[k]) for k in named}

    def create(self) -> None:
        """The empty table."""
        tables.create(self.writes["rows"])

    def costs(self) -> Costs:
        """Arrays of a block, and of what a cleft reaches around it."""
        around = _around(self.settings, volume.open(self.reads["clefts"]).voxel_size)
        n = math.prod(b + 2 * a for b, a in zip(self.settings.block, around, strict=True))
        return Costs(memory_bytes=80 * n + (128 << 20), read_bytes=20 * n, write_bytes=1 << 20)


def require_fitting(labels: volume.Volume, box: Box, voxel_size: VoxelSize) -> None:
    """Raise BadInput if a segmentation cannot tell the partners of synapses in an image's box."""
    if not same_size(labels.voxel_size, voxel_size):
        raise BadInput(
            f"the image has voxels of {voxel_size}, {labels.path} of {labels.voxel_size}: "
            "give the segmentation at the image's resolution."
        )
    if labels.dtype.kind != "u":
        raise BadInput(f"{labels.path} holds {labels.dtype}: a segmentation is whole numbers.")
    if labels.box.intersection(box).is_empty:
        raise BadInput(
            f"{labels.path} has the box {labels.box}, the synapses {box}: they share no voxel."
        )


def partners_block(block: Block, context: Context) -> Counters:
    """Partners of the clefts that begin in one block."""
    settings = context.parsed(AssignSettings)
    whole = context.reads["whole"]
    parts, begins = _by_block(
        whole, settings.key, stamp(Path(whole) / COMPONENTS), Grid(block.total, settings.block)
    )
    mine = parts[slice(*np.searchsorted(begins, [block.number, block.number + 1]))]
    opened = {k: volume.open(context.reads[k]) for k in SOURCES if k in context.reads}
    size = opened["clefts"].voxel_size
    large = _box_voxels(mine) * size.volume > settings.partners.max_box_nm3
    large &= "segmentation" in opened
    at, score = clefts.positions_nm(mine, size), clefts.scores(mine)
    rows: list[tuple[Any, ...]] = []
    for k, part in enumerate(mine):
        found = NOBODY if large[k] else _partners(part, block.total, opened, settings)
        base = (
            int(part["id"]), *map(float, at[k]), float(part["voxels"] * size.volume),
            float(score[k]), found.pre, found.pre_score,
        )  # fmt: skip
        rows += [(*base, post, said) for post, said in found.posts or [(0, 0.0)]]
    names = (
        "id", "z_nm", "y_nm", "x_nm", "size", "cleft_score", "pre", "pre_score", "post",
        "post_score",
    )  # fmt: skip
    kinds = {"id": np.uint64, "pre": np.uint64, "post": np.uint64}
    columns = {
        n: np.array([r[i] for r in rows], kinds.get(n, np.float64)) for i, n in enumerate(names)
    }
    tables.write(tables.part(context.writes["rows"], block.number), columns)
    return {
        "synapses": len(mine),
        "partners": int(np.count_nonzero(columns["post"])),
        "without_pre": len(np.unique(columns["id"][columns["pre"] == 0])),
        "without_post": len(np.unique(columns["id"][columns["post"] == 0])),
        "too_large": int(large.sum()),
    }


def _partners(
    part: np.ndarray, total: Box, opened: dict[str, volume.Volume], settings: AssignSettings
) -> Partners:
    """Partners of one cleft; what lies around it is read in pieces no larger than a block."""
    if "segmentation" not in opened:
        return NOBODY
    cleft = opened["clefts"]
    around = _around(settings, cleft.voxel_size)
    near = Box(zyx(part["low"].tolist()), zyx(part["high"].tolist())).grown(around)
    found = []
    for piece in Grid(near.intersection(total), settings.block):
        read = piece.write.grown(around).intersection(total)
        ids = cleft.read(read)
        own = ids == part["id"]
        if own.any():
            found.append(
                tally(
                    own, (ids != 0) & ~own, opened["pre"].read(piece.write),
                    opened["post"].read(piece.write),
                    _filled(opened["segmentation"], piece.write), tuple(cleft.voxel_size),
                    settings.partners.reach_nm, piece.write.slices(read.start),
                )
            )  # fmt: skip
    return partners(evidence(found, tuple(cleft.voxel_size)), settings.partners)


def _around(settings: AssignSettings, voxel_size: VoxelSize) -> Zyx:
    """Voxels that the reach covers along z, y, x."""
    return zyx([math.ceil(settings.partners.reach_nm / v) + 1 for v in voxel_size])


def _box_voxels(parts: np.ndarray) -> np.ndarray:
    """Voxels of the box of each component, (n,) float64."""
    return np.asarray((parts["high"] - parts["low"]).astype(np.float64).prod(axis=1))


def _filled(labels: volume.Volume, box: Box) -> np.ndarray:
    """Labels of a box; 0 where the segmentation does not reach."""
    inside = box.intersection(labels.box)
    if inside == box:
        return np.asarray(labels.read(box))
    out = np.zeros(box.shape, np.uint64)
    if not inside.is_empty:
        out[inside.slices(box.start)] = labels.read(inside)
    return out


@functools.lru_cache(maxsize=1)
def _by_block(
    whole: str, _key: str, _stamp: tuple[int, ...], grid: Grid
) -> tuple[np.ndarray, np.ndarray]:
    """PARTS of all clefts in the order of the blocks they begin in, and the numbers of those.

    Made once in a process, and again for another run's file: no block looks through the clefts of
    all others.
    """
    parts = components(whole)
    offset = _first_voxel(parts["id"], grid.total) - np.array(grid.total.start)
    number = np.ravel_multi_index(tuple((offset // np.array(grid.block)).T), grid.shape)
    order = np.argsort(number, kind="stable")
    return parts[order], number[order]


def _first_voxel(ids: np.ndarray, total: Box) -> np.ndarray:
    """(n, 3) volume coordinates of the voxel that gives a component its id."""
    flat = np.unravel_index(ids.astype(np.int64) - 1, total.shape)
    return np.stack(flat, 1) + np.array(total.start)
