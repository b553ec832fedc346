"""What consensus runs on blocks: count parts, write objects, or agree on subvolumes one by one.

What it is: the stages and block functions, the settings, and how parts become objects. What it is
not: their driver (petavox.stages.consensus), or the science.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from petavox import volume
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.task import Context, Costs, Counters
from petavox.errors import BadInput
from petavox.segment.consensus import MIN_SIZE, consensus_ids
from petavox.segment.ensemble import clustered
from petavox.segment.links import LOCAL_BITS
from petavox.segment.parts import Parts, parts_of, relabelled
from petavox.settings import Settings, ZyxSetting
from petavox.space import Block, Grid
from petavox.stages import tables
from petavox.stages.block_labels import BlockLabels
from petavox.stages.levels import empty, fill_levels
from petavox.stages.stage import Stage
from petavox.stages.stamps import stamp
from petavox.volume import pyramid
from petavox.volume.formats.facts import same_size

IDS = "ids.parquet"
CODE = (
    "petavox.segment.consensus",
    "petavox.segment.ensemble",
    "petavox.segment.linkage",
    "petavox.segment.parts",
    "petavox.cooccurrence",
)
"""What decides the objects."""


class ConsensusSettings(Settings):
    """Which parts, combinations of objects that occur, become objects."""

    min_size: int = Field(MIN_SIZE, ge=1)
    """Voxels; where the objects of a part share fewer, there is nothing."""
    share: float | None = Field(None, ge=0, lt=1)
    """None: the published consensus of two, where every part is an object. Else parts are joined
    while, on average over the segmentations that label both, more than this share of their voxels
    have one label. Of three or four: 0.34 joins what two of them did, 0.1 what any did, so that one
    bad pass spoils it."""
    least: int = Field(1, ge=1)
    """With a share: segmentations that must label a part, else it is nothing."""
    block: ZyxSetting = (256, 256, 256)
    """Voxels of one piece of work."""
    max_parts: int = Field(50_000_000, ge=1)
    """Parts that may be in memory, about 100 bytes each (2 KiB with a share)."""
    pyramid: bool = True
    ids_key: str = ""
    """Digest of the ids that are applied; set by the driver."""


def decided(parts: Parts, settings: ConsensusSettings) -> np.ndarray:
    """The object of each part, (n,) uint64, 0 = nothing; of a volume or of one subvolume."""
    if settings.share is None:
        return consensus_ids(parts, settings.min_size)
    return clustered(parts, share=settings.share, least=settings.least, min_size=settings.min_size)


class CountParts(Stage):
    """reads: pass1, pass2, ...  writes: parts (a table of blocks)."""

    name = "consensus-parts"
    function = "petavox.stages.consensus_stages:parts_block"
    code = ("petavox.segment.parts", "petavox.cooccurrence")
    settings: ConsensusSettings

    def grid(self) -> Grid:
        """Blocks of the volumes. Raises BadInput if they are not of the same voxels."""
        return Grid(_of_same_voxels(_passes(self.reads))[0].box, self.settings.block)

    def create(self) -> None:
        """The empty table."""
        tables.create(self.writes["parts"])

    def costs(self) -> Costs:
        """Blocks of labels, their runs, and the sorting of these."""
        n, k = math.prod(self.settings.block), len(_passes(self.reads))
        return Costs(
            memory_bytes=40 * k * n + (96 << 20),
            read_bytes=8 * k * n,
            write_bytes=1 << 20,
            files=1,
        )


def parts_block(block: Block, context: Context) -> Counters:
    """Count one block's parts."""
    passes = [volume.open(path).read(block.write) for path in _passes(context.reads)]
    parts = parts_of(passes)
    columns = {f"pass{i}": ids for i, ids in enumerate(parts.labels.T, 1)}
    path = tables.part(context.writes["parts"], block.number)
    tables.write(path, columns | {"voxels": parts.voxels})
    return {"voxels": block.write.size, "labelled_voxels": int(parts.voxels.sum())}


def _passes(reads: Mapping[str, Any]) -> list[Any]:
    """The paths of the segmentations, in their order."""
    return [reads[k] for k in sorted((k for k in reads if k.startswith("pass")), key=_number)]


def _number(name: str) -> int:
    return int(name.removeprefix("pass"))


def parts_in(columns: Mapping[str, np.ndarray]) -> Parts:
    """The parts that a table of columns pass1, pass2, ... and voxels holds."""
    names = sorted((k for k in columns if k.startswith("pass")), key=_number)
    return Parts(np.stack([columns[k] for k in names], 1), columns["voxels"])


class WriteConsensus(Stage):
    """reads: pass1, pass2, ..., ids.  writes: labels."""

    name = "consensus"
    function = "petavox.stages.consensus_stages:consensus_block"
    code = CODE
    settings: ConsensusSettings

    def grid(self) -> Grid:
        """The blocks of the parts."""
        return Grid(_of_same_voxels(_passes(self.reads))[0].box, self.settings.block)

    def inputs(self) -> dict[str, str]:
        """The ids stand for all segmentations."""
        return {"ids": self.settings.ids_key}

    def create(self) -> None:
        """The empty volume and its levels."""
        path = self.writes["labels"]
        empty(path, self.grid(), volume.open(self.reads["pass1"]).voxel_size)
        if self.settings.pyramid:
            pyramid.prepare(path)

    def costs(self) -> Costs:
        """Labels in, labels out, the ids, and the sorting between."""
        n, k = math.prod(self.settings.block), len(_passes(self.reads))
        return Costs(
            memory_bytes=(40 * k + 20) * n + (128 << 20),
            read_bytes=8 * k * n,
            write_bytes=8 * n,
            files=1,
        )

    def after(self, ledger: Ledger, engine: Engine | None, **options: Any) -> None:
        """Fill the coarser levels, each from the one before."""
        key = self.settings.ids_key
        fill_levels(self.name, self.writes, key, ledger, engine, **options)


def consensus_block(block: Block, context: Context) -> Counters:
    """Write one block's consensus."""
    passes = [volume.open(path).read(block.write) for path in _passes(context.reads)]
    labels = relabelled(passes, *ids_of(str(Path(context.reads["ids"]) / IDS)))
    out = volume.open(context.writes["labels"], writable=True, incomplete=True)
    out.write(block.write, labels)
    return {"voxels": block.write.size, "labelled_voxels": int(np.count_nonzero(labels))}


def ids_of(path: str) -> tuple[Parts, np.ndarray]:
    """The parts of a volume and their objects, from the file `path`."""
    return _ids(path, stamp(path))


@lru_cache(maxsize=2)
def _ids(path: str, _stamp: tuple[int, ...]) -> tuple[Parts, np.ndarray]:
    table = tables.read(Path(path))
    return parts_in(table), table["id"]


class ConsensusOfBlocks(Stage):
    """reads: pass1, ... (labels of blocks).  writes: labels (the same); each block by itself."""

    name = "consensus-blocks"
    function = "petavox.stages.consensus_stages:subvolume_block"
    code = (*CODE, "petavox.stages.block_labels")
    settings: ConsensusSettings

    def grid(self) -> Grid:
        """The grid that all were made in."""
        paths = _passes(self.reads)
        first = BlockLabels.open(paths[0]).grid
        for path in paths[1:]:
            other = BlockLabels.open(path).grid
            if other != first:
                raise BadInput(
                    f"{paths[0]} was made in blocks of {first.block} with context {first.context} "
                    f"in box {first.total}, {path} in blocks of {other.block} with "
                    f"{other.context} in {other.total}: a consensus needs the same subvolumes."
                )
        return first

    def create(self) -> None:
        """The empty labels of blocks."""
        size = BlockLabels.open(self.reads["pass1"]).voxel_size
        BlockLabels.create(self.writes["labels"], self.grid(), size)

    def costs(self) -> Costs:
        """Subvolumes of labels and the sorting of their runs."""
        n = max(block.read.size for block in (self.grid()[0], self.grid()[len(self.grid()) // 2]))
        k = len(_passes(self.reads))
        return Costs(
            memory_bytes=(40 * k + 20) * n + (96 << 20),
            read_bytes=4 * k * n,
            write_bytes=4 * n,
            files=1,
        )


def subvolume_block(block: Block, context: Context) -> Counters:
    """The consensus of one subvolume, context included."""
    paths = _passes(context.reads)
    passes = [BlockLabels.open(path).read(block, block.read) for path in paths]
    parts = parts_of(passes)
    labels = relabelled(passes, parts, decided(parts, context.parsed(ConsensusSettings)))
    if int(labels.max(initial=0)) >= 1 << LOCAL_BITS:
        raise BadInput(f"block {block.number} has too many objects for its ids; use smaller blocks")
    BlockLabels.open(context.writes["labels"], writable=True, incomplete=True).write(block, labels)
    return counts_of(parts) | {
        "objects": len(np.unique(labels[labels > 0])),
        "labelled_voxels": int(np.count_nonzero(labels)),
    }


def counts_of(parts: Parts) -> dict[str, int]:
    """How many objects each segmentation has, and how many voxels any of them labels."""
    found = {
        f"objects_{i}": len(np.unique(ids[ids > 0])) for i, ids in enumerate(parts.labels.T, 1)
    }
    return found | {"voxels_labelled_in_any": int(parts.voxels.sum())}


def _of_same_voxels(paths: Sequence[str | Path]) -> list[volume.Volume]:
    """The volumes. Raises BadInput if they are not labels of the same voxels."""
    found = [volume.open(path) for path in paths]
    for v in found:
        if v.dtype.kind != "u":
            raise BadInput(f"{v.path} holds {v.dtype}: labels are unsigned integers.")
        if v.box != found[0].box or not same_size(v.voxel_size, found[0].voxel_size):
            raise BadInput(
                f"{found[0].path} has the box {found[0].box} and voxels of "
                f"{found[0].voxel_size}, {v.path} has {v.box} and {v.voxel_size}: a consensus "
                "needs segmentations of the same voxels."
            )
    return found
