"""Labels to skeletons: every object's centre lines, with radius.

What it is: settings, the block function (TEASAR pieces, each block by itself), the shard function
(join, clean, encode). What it is not: TEASAR or geometry; those are petavox.neuron. The two steps
are those of petavox.stages.objects.

    OUT/info, OUT/*.shard    Neuroglancer precomputed, with radius
    OUT/skeletons.parquet    one row an object
    OUT/swc/ID.swc           if asked for
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from petavox import provenance
from petavox.blocks import Context, Costs, Counters, Engine, Ledger
from petavox.neuron import packing
from petavox.neuron import skeleton as trees
from petavox.neuron.sharding import ShardWriter
from petavox.neuron.skeleton_files import INFO, precomputed, swc
from petavox.neuron.teasar import TeasarSettings, block_pieces, require
from petavox.settings import ZyxSetting
from petavox.space import Block
from petavox.stages import fragment_index, object_steps, objects
from petavox.stages.tables import write_arrow

TABLE = pa.schema(
    [
        ("id", pa.uint64()),
        ("cable_nm", pa.float64()),
        ("branch_points", pa.uint32()),
        ("end_points", pa.uint32()),
        ("vertices", pa.uint32()),
        ("trees", pa.uint32()),
        ("max_radius_nm", pa.float64()),
        ("z_nm", pa.float64()),
        ("y_nm", pa.float64()),
        ("x_nm", pa.float64()),
    ]
)
"""skeletons.parquet: z, y, x are of the thickest vertex. Objects left out as dust have no row."""

_CODE = tuple(
    f"petavox.neuron.{m}" for m in ("skeleton", "teasar", "skeleton_files", "sharding", "packing")
)


class SkeletonSettings(objects.ObjectSettings):
    """How skeletons are made; all lengths in nm, whatever the block."""

    block: ZyxSetting = (128, 256, 256)
    teasar: TeasarSettings = TeasarSettings()
    context_nm: float = Field(600.0, ge=0)
    """Radii are exact up to this much; more context costs time."""
    dust_nm3: float = Field(1e7, ge=0)
    tick_nm: float = Field(0.0, ge=0)
    swc: bool = False


class SkeletonPieces(objects.FragmentStage):
    """Skeleton pieces of every block."""

    name = "skeleton pieces"
    function = "petavox.stages.skeletonize:skeleton_block"
    code = _CODE
    settings: SkeletonSettings

    def costs(self) -> Costs:
        """About 100 bytes a voxel of the block (measured: 70 on tissue), and the libraries."""
        return Costs(memory_bytes=400_000_000 + 100 * objects.largest_block(self.grid()))


class SkeletonShards(objects.ShardStage):
    """Skeletons of the objects of every shard."""

    name = "skeleton objects"
    function = "petavox.stages.skeletonize:skeleton_shard"
    code = _CODE
    table, schema = "skeletons.parquet", TABLE
    bytes_each = 24

    def after(self, ledger: Ledger, engine: Engine | None, **options: Any) -> None:
        """The table and the info file."""
        self.rows()
        info = {**INFO, "sharding": self.settings.sharding.spec()}
        provenance.write_json(Path(self.writes["out"]) / "info", info)


def run(
    labels: str,
    out: Path,
    settings: SkeletonSettings,
    *,
    engine: Engine | None = None,
    ledger: Ledger | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Skeletonize every object of a label volume into a folder; returns figures.

    Raises MissingExtra without kimimaro, BadInput if the labels or settings cannot be used.
    """
    began = time.monotonic()
    require()
    table = object_steps.made(
        labels, out, settings, SkeletonPieces, SkeletonShards, engine=engine, ledger=ledger,
        overwrite=overwrite,
    )  # fmt: skip
    objects.tell_absent(settings, table, "without a skeleton (not there, or dust)")
    return {
        "objects": table.num_rows,
        "cable_mm": float(np.sum(table["cable_nm"].to_numpy())) / 1e6,
        "branch_points": int(np.sum(table["branch_points"].to_numpy())),
        "end_points": int(np.sum(table["end_points"].to_numpy())),
        "trees": int(np.sum(table["trees"].to_numpy())),
        "seconds": round(time.monotonic() - began, 2),
    }


def skeleton_block(block: Block, context: Context) -> Counters:
    """Write the skeleton pieces of one block."""
    settings = context.parsed(SkeletonSettings)
    source, total = objects.labels_of(context.reads["labels"], settings)
    around = [max(1, math.ceil(settings.context_nm / n)) for n in source.voxel_size]
    read = block.write.grown(around).intersection(total)
    labels = source.read(read)
    if settings.only is not None:
        labels[~np.isin(labels, np.array(settings.only, labels.dtype))] = 0
    pieces = block_pieces(
        labels,
        read,
        block.write,
        total,
        source.voxel_size,
        settings.teasar,
        dust=settings.dust_nm3,
    )
    rows = ((p.label, packing.packed_piece(p), len(p.vertices)) for p in pieces)
    packing.write(objects.file_of(context.writes["fragments"], block.number), rows)
    return {"pieces": len(pieces), "vertices": sum(len(p.radii) for p in pieces)}


def skeleton_shard(block: Block, context: Context) -> Counters:
    """Join, clean and write the skeletons of one shard, one object at a time."""
    shards = context.parsed(objects.ShardSettings)
    settings, out = SkeletonSettings(**shards.user), Path(context.writes["out"])
    if not shards.order:
        return {"objects": 0}
    rows: list[dict[str, Any]] = []
    shard, index = shards.order[block.number], Path(context.reads["index"])
    with ShardWriter(out, shards.sharding, shard) as writer:
        for label, places in fragment_index.of_shard(index, shard):
            values = fragment_index.values(context.reads["fragments"], places)
            pieces = [packing.unpacked_piece(label, v) for v in values]
            skeleton = trees.join(
                pieces,
                objects.size_of(shards),
                scale=settings.teasar.scale,
                const=settings.teasar.const_nm,
                dust=settings.dust_nm3,
                tick=settings.tick_nm,
            )
            if not len(skeleton.vertices):
                continue
            writer.add(label, precomputed(skeleton))
            if settings.swc:
                provenance.write_atomically(out / "swc" / f"{label}.swc", swc(skeleton, label))
            measures = trees.measure(skeleton)
            thick = int(skeleton.radii.argmax())
            z, y, x = skeleton.vertices[thick].tolist()
            rows.append(
                {
                    "id": label,
                    "cable_nm": measures.cable,
                    "branch_points": measures.branch_points,
                    "end_points": measures.end_points,
                    "vertices": len(skeleton.vertices),
                    "trees": measures.trees,
                    "max_radius_nm": float(skeleton.radii[thick]),
                    "z_nm": z,
                    "y_nm": y,
                    "x_nm": x,
                }
            )
    write_arrow(out / ".rows" / f"{shard}.parquet", pa.Table.from_pylist(rows, TABLE))
    return {"objects": len(rows)}
