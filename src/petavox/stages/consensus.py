"""Consensus of two segmentations of the same voxels, block by block.

    petavox consensus forward.zarr reverse.zarr agreed.zarr

    pairs    each block counts the voxels of every pair of objects: a table of blocks
    ids      the sum of the tables, and each pair's id, in the driver
    write    each block looks its pairs up

What it is: the join of petavox.segment.consensus to volumes, with a proof of counts. What it is
not: that science. Subvolumes of blocks that were not reconciled yet can be agreed on one by one:
both inputs are then labels of blocks, and so is the output.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from petavox import volume
from petavox.blocks.content import made_by
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.outcome import Limits
from petavox.blocks.plan import require_aligned
from petavox.blocks.runner import run
from petavox.blocks.task import BlockTask, Context, Costs, Counters
from petavox.errors import BadInput, WorkFailed
from petavox.provenance import digest
from petavox.segment.consensus import (
    MIN_SIZE,
    NO_PAIRS,
    Pairs,
    added,
    consensus,
    consensus_ids,
    pairs_of,
    relabelled,
)
from petavox.segment.links import LOCAL_BITS
from petavox.settings import Settings, ZyxSetting
from petavox.space import Block, Grid, zyx
from petavox.stages import tables
from petavox.stages.block_labels import BlockLabels, chunk_of, is_block_labels
from petavox.stages.stage import Stage, run_stage
from petavox.volume import pyramid, state
from petavox.volume.opening import create

IDS = "ids.parquet"


class ConsensusSettings(Settings):
    """Which pairs of objects become objects."""

    min_size: int = Field(MIN_SIZE, ge=1)
    """Voxels; where the two objects of a pair share fewer, there is nothing."""
    block: ZyxSetting = (256, 256, 256)
    """Voxels of one piece of work."""
    max_pairs: int = Field(50_000_000, ge=1)
    """Pairs that may be in memory, about 100 bytes each."""
    pyramid: bool = True
    ids_key: str = ""
    """Digest of the ids that are applied; set by the driver."""


class CountPairs(Stage):
    """reads: a, b.  writes: pairs (a table of blocks)."""

    name = "consensus-pairs"
    function = "petavox.stages.consensus:pairs_block"
    code = ("petavox.segment.consensus", "petavox.cooccurrence")
    settings: ConsensusSettings

    def grid(self) -> Grid:
        """Blocks of the two volumes. Raises BadInput if they are not of the same voxels."""
        return Grid(_both(self.reads["a"], self.reads["b"])[0].box, self.settings.block)

    def create(self) -> None:
        """The empty table."""
        tables.create(self.writes["pairs"])

    def costs(self) -> Costs:
        """Two blocks of labels and their sorting."""
        n = math.prod(self.settings.block)
        return Costs(
            memory_bytes=80 * n + (96 << 20), read_bytes=16 * n, write_bytes=1 << 20, files=1
        )


def pairs_block(block: Block, context: Context) -> Counters:
    """Count one block's pairs."""
    a, b = (volume.open(context.reads[k]).read(block.write) for k in "ab")
    pairs = pairs_of(a, b)
    path = tables.part(context.writes["pairs"], block.number)
    tables.write(path, {"a": pairs.a, "b": pairs.b, "voxels": pairs.voxels})
    return {"voxels": block.write.size, "labelled_voxels": int(np.count_nonzero(a))}


class WriteConsensus(Stage):
    """reads: a, b, ids.  writes: labels."""

    name = "consensus"
    function = "petavox.stages.consensus:consensus_block"
    code = ("petavox.segment.consensus", "petavox.cooccurrence")
    settings: ConsensusSettings

    def grid(self) -> Grid:
        """The blocks of the pairs."""
        return Grid(_both(self.reads["a"], self.reads["b"])[0].box, self.settings.block)

    def inputs(self) -> dict[str, str]:
        """The ids stand for both segmentations."""
        return {"ids": self.settings.ids_key}

    def create(self) -> None:
        """The empty volume and its levels."""
        grid, path = self.grid(), self.writes["labels"]
        shard = zyx([chunk_of(n, 512) for n in grid.block])
        made = create(
            path,
            box=grid.total,
            voxel_size=volume.open(self.reads["a"]).voxel_size,
            dtype=np.uint64,
            kind="labels",
            chunk=zyx([chunk_of(n, 64) for n in shard]),
            shard=shard,
            overwrite=True,
        )
        require_aligned(grid, volume=made.box, shard=made.write_shape, name=path)
        if self.settings.pyramid:
            pyramid.prepare(path)

    def costs(self) -> Costs:
        """Labels in, labels out, the ids, and the sorting between."""
        n = math.prod(self.settings.block)
        return Costs(
            memory_bytes=100 * n + (128 << 20), read_bytes=16 * n, write_bytes=8 * n, files=1
        )

    def after(self, ledger: Ledger, engine: Engine | None, **options: Any) -> None:
        """Fill the coarser levels, each from the one before."""
        path = self.writes["labels"]
        options.pop("only", None)
        for n, level in enumerate(volume.open(path, incomplete=True).levels[1:], 1):
            task = BlockTask(
                name=f"consensus-level-{n}",
                function="petavox.stages.relabel:level_block",
                grid=pyramid.grid(path, level),
                settings={"level": n},
                writes=self.writes,
                inputs={"finest": self.settings.ids_key},
                code=("petavox.volume.pyramid",),
            )
            run(task, ledger=ledger, engine=engine, **options)


def consensus_block(block: Block, context: Context) -> Counters:
    """Write one block's consensus."""
    a, b = (volume.open(context.reads[k]).read(block.write) for k in "ab")
    labels = relabelled(a, b, *_ids(str(Path(context.reads["ids"]) / IDS)))
    out = volume.open(context.writes["labels"], writable=True, incomplete=True)
    out.write(block.write, labels)
    return {"voxels": block.write.size, "labelled_voxels": int(np.count_nonzero(labels))}


@lru_cache(maxsize=2)
def _ids(path: str) -> tuple[Pairs, np.ndarray]:
    table = tables.read(Path(path))
    return Pairs(table["a"], table["b"], table["voxels"]), table["id"]


class ConsensusOfBlocks(Stage):
    """reads: a, b (labels of blocks).  writes: labels (labels of blocks); each block by itself."""

    name = "consensus-blocks"
    function = "petavox.stages.consensus:subvolume_block"
    code = (
        "petavox.segment.consensus",
        "petavox.cooccurrence",
        "petavox.stages.block_labels",
    )
    settings: ConsensusSettings

    def grid(self) -> Grid:
        """The grid that both were made in."""
        grids = [BlockLabels.open(self.reads[k]).grid for k in "ab"]
        if grids[0] != grids[1]:
            raise BadInput(
                f"{self.reads['a']} was made in blocks of {grids[0].block} with context "
                f"{grids[0].context} in box {grids[0].total}, {self.reads['b']} in blocks of "
                f"{grids[1].block} with {grids[1].context} in {grids[1].total}: a consensus needs "
                "the same subvolumes."
            )
        return grids[0]

    def create(self) -> None:
        """The empty labels of blocks."""
        size = BlockLabels.open(self.reads["a"]).voxel_size
        BlockLabels.create(self.writes["labels"], self.grid(), size)

    def costs(self) -> Costs:
        """Two subvolumes of labels and their sorting."""
        n = max(block.read.size for block in (self.grid()[0], self.grid()[len(self.grid()) // 2]))
        return Costs(
            memory_bytes=100 * n + (96 << 20), read_bytes=8 * n, write_bytes=4 * n, files=1
        )


def subvolume_block(block: Block, context: Context) -> Counters:
    """The consensus of one subvolume, context included."""
    settings = context.parsed(ConsensusSettings)
    a, b = (BlockLabels.open(context.reads[k]).read(block, block.read) for k in "ab")
    labels = consensus(a, b, settings.min_size)
    if int(labels.max(initial=0)) >= 1 << LOCAL_BITS:
        raise BadInput(f"block {block.number} has too many objects for its ids; use smaller blocks")
    BlockLabels.open(context.writes["labels"], writable=True, incomplete=True).write(block, labels)
    return {
        "objects_a": len(np.unique(a[a > 0])),
        "objects_b": len(np.unique(b[b > 0])),
        "objects": len(np.unique(labels[labels > 0])),
        "labelled_voxels_a": int(np.count_nonzero(a)),
        "labelled_voxels": int(np.count_nonzero(labels)),
    }


def _both(a: str | Path, b: str | Path) -> tuple[volume.Volume, volume.Volume]:
    """Both volumes. Raises BadInput if they are not labels of the same voxels."""
    first, second = volume.open(a), volume.open(b)
    for v in (first, second):
        if v.dtype.kind != "u":
            raise BadInput(f"{v.path} holds {v.dtype}: labels are unsigned integers.")
    if first.box != second.box or first.voxel_size != second.voxel_size:
        raise BadInput(
            f"{a} has the box {first.box} and voxels of {first.voxel_size}, {b} has {second.box} "
            f"and {second.voxel_size}: a consensus needs two segmentations of the same voxels."
        )
    return first, second


def consensus_of(
    a: str | Path,
    b: str | Path,
    out: str | Path,
    *,
    ledger: Ledger,
    settings: ConsensusSettings | None = None,
    engine: Engine | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Make `out`, the consensus of the labels at `a` and `b`; gives the proof of counts.

    Two volumes give a volume (tables go to `out`.pairs and `out`.ids); labels of blocks give
    labels of blocks. Goes on where an earlier run of the same ended. Raises WorkFailed if the
    counts do not add up; the volume is then not marked complete.
    """
    settings, out = settings or ConsensusSettings(), Path(out)
    how: dict[str, Any] = {
        "ledger": ledger, "engine": engine, "limits": limits, "overwrite": overwrite, **options,
    }  # fmt: skip
    blockwise = [is_block_labels(p) for p in (a, b)]
    if all(blockwise):
        stage = ConsensusOfBlocks(settings, reads={"a": a, "b": b}, writes={"labels": out})
        run_stage(stage, **how)
        return {k: int(v) for k, v in ledger.counters(stage.name).items()}
    if any(blockwise):
        raise BadInput(
            f"{a if blockwise[0] else b} holds labels of blocks, {b if blockwise[0] else a} one "
            "volume: reconcile the first, or give two of one kind."
        )
    count = CountPairs(
        settings,
        reads={"a": a, "b": b},
        writes={"pairs": out.with_name(out.name + ".pairs")},
    )
    run_stage(count, **how)
    place = out.with_name(out.name + ".ids")
    proof = _decide(count, place)
    write = WriteConsensus(
        settings.model_copy(update={"ids_key": str(made_by(place))}),
        reads={"a": a, "b": b, "ids": place},
        writes={"labels": out},
    )
    run_stage(write, **how)
    written = int(ledger.counters(write.name)["labelled_voxels"])
    if written != proof["voxels_kept"]:
        state.begin(out)
        raise WorkFailed(
            f"{out} holds {written:,} labelled voxels, the table of pairs {proof['voxels_kept']:,}."
            " This is a defect of petavox, or the inputs changed meanwhile; make it again."
        )
    said = state.read(out) or {}
    state.finish(out, {**said.get("provenance", {}), "proof": proof})
    return proof


def _decide(count: CountPairs, place: Path) -> dict[str, Any]:
    """The ids of all pairs, written; and what must hold of them, counted."""
    settings = count.settings
    key = digest(made_by(count.writes["pairs"]), settings.min_size)
    said = (state.read(place) if place.exists() else None) or {}
    if said.get("state") == "complete" and said["provenance"].get("key") == key:
        return dict(said["provenance"]["proof"])
    _ids.cache_clear()
    tables.create(place)
    total, waiting = NO_PAIRS, []
    for columns in tables.parts(count.writes["pairs"], len(count.grid())):
        waiting.append(Pairs(columns["a"], columns["b"], columns["voxels"]))
        if sum(map(len, waiting)) > max(1 << 20, len(total)):
            total, waiting = added([total, *waiting]), []
            _require_memory(len(total), settings.max_pairs)
    total = added([total, *waiting])
    _require_memory(len(total), settings.max_pairs)
    ids = consensus_ids(total, settings.min_size)
    columns = {"a": total.a, "b": total.b, "voxels": total.voxels, "id": ids}
    tables.write(place / IDS, columns)
    kept = ids > 0
    proof = {
        "objects_a": len(np.unique(total.a)),
        "objects_b": len(np.unique(total.b[total.b > 0])),
        "pairs": len(total),
        "objects": int(kept.sum()),
        "ids_unique": len(np.unique(ids[kept])) == int(kept.sum()),
        "kept_their_id": int((ids[kept] == total.a[kept]).sum()),
        "new_ids": int((ids[kept] != total.a[kept]).sum()),
        "pairs_too_small": int((~kept).sum()),
        "voxels_labelled_in_a": int(total.voxels.sum()),
        "voxels_kept": int(total.voxels[kept].sum()),
        "voxels_too_small": int(total.voxels[~kept].sum()),
    }
    state.finish(place, {"stage": "consensus-ids", "key": key, "proof": proof})
    return proof


def _require_memory(pairs: int, most: int) -> None:
    if pairs > most:
        raise BadInput(
            f"the two segmentations have over {pairs:,} pairs of objects, more than max_pairs "
            f"{most:,}: raise max_pairs (100 bytes of memory each), or make the consensus of "
            "labels of blocks, before they are reconciled."
        )
