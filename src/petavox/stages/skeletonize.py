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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from petavox import provenance
from petavox.blocks import Context, Costs, Counters, Engine, Ledger
from petavox.errors import BadInput
from petavox.neuron import skeleton as trees
from petavox.neuron.sharding import ShardWriter
from petavox.neuron.skeleton_files import INFO, precomputed, swc
from petavox.neuron.teasar import TeasarSettings, block_pieces, require
from petavox.settings import ZyxSetting
from petavox.space import Block
from petavox.stages import objects
from petavox.stages.tables import write_arrow
from petavox.stages.totals import totals

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

_PIECES = pa.schema(
    [
        ("id", pa.uint64()),
        ("voxels", pa.uint64()),
        ("vertices", pa.list_(pa.int64())),
        ("edges", pa.list_(pa.int64())),
        ("radii", pa.list_(pa.float64())),
    ]
)
_CODE = tuple(f"petavox.neuron.{m}" for m in ("skeleton", "teasar", "skeleton_files", "sharding"))


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
    source, total = objects.labels_of(labels, settings)
    _check_only(settings, source.dtype)
    with objects.work_folder(out, overwrite=overwrite, ledger=ledger) as (work, ledger):
        first = SkeletonPieces(
            settings, reads={"labels": labels}, writes={"fragments": work / "fragments"}
        )

        def second() -> SkeletonShards:
            values = objects.shared(source, total, settings)
            files = (work / "fragments" / str(n) for n in range(values["files"]))
            sums = totals(_sizes(file) for file in files)
            values |= objects.weighed(*sums, bytes_each=24)
            return SkeletonShards(
                objects.ShardSettings(**values),
                reads={"fragments": work / "fragments"},
                writes={"out": out},
            )

        objects.run_both(first, second, ledger=ledger, engine=engine)
    table = pq.read_table(out / "skeletons.parquet")
    return {
        "objects": table.num_rows,
        "cable_mm": float(np.sum(table["cable_nm"].to_numpy())) / 1e6,
        "branch_points": int(np.sum(table["branch_points"].to_numpy())),
        "end_points": int(np.sum(table["end_points"].to_numpy())),
        "trees": int(np.sum(table["trees"].to_numpy())),
        "seconds": round(time.monotonic() - began, 2),
    }


def _sizes(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids of the pieces in a file, and their vertices."""
    table = pq.read_table(file, columns=["id", "radii"], partitioning=None)
    return table["id"].to_numpy(), pc.list_value_length(table["radii"]).to_numpy()


def _check_only(settings: SkeletonSettings, dtype: np.dtype) -> None:
    """Raise BadInput for an id that labels of this type cannot hold."""
    most = int(np.iinfo(dtype).max)
    for label in settings.only or ():
        if not 0 < label <= most:
            raise BadInput(
                f"only names id {label}, which no object can have: the labels are {dtype}, "
                f"so ids go from 1 to {most}."
            )


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
    rows = [
        {
            "id": p.label,
            "voxels": p.voxels,
            "vertices": p.vertices.reshape(-1),
            "edges": p.edges.reshape(-1),
            "radii": p.radii,
        }
        for p in pieces
    ]
    file = Path(context.writes["fragments"]) / str(block.number)
    write_arrow(file, pa.Table.from_pylist(rows, _PIECES), compression="zstd")
    return {"pieces": len(pieces), "vertices": sum(len(p.radii) for p in pieces)}


def skeleton_shard(block: Block, context: Context) -> Counters:
    """Join, clean and write the skeletons of one shard, one object at a time."""
    shards = context.parsed(objects.ShardSettings)
    settings, out = SkeletonSettings(**shards.user), Path(context.writes["out"])
    if not shards.order:
        return {"objects": 0}
    rows: list[dict[str, Any]] = []
    with ShardWriter(out, shards.sharding, shards.order[block.number]) as writer:
        for label, pieces in _objects(block.number, context, shards).items():
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
    name = f"{shards.order[block.number]}.parquet"
    pq.write_table(pa.Table.from_pylist(rows, TABLE), out / ".rows" / name)
    return {"objects": len(rows)}


def _objects(
    number: int, context: Context, shards: objects.ShardSettings
) -> dict[int, list[trees.Piece]]:
    """The pieces of the objects of a shard, by id."""
    found: dict[int, list[trees.Piece]] = {}
    order = shards.order[number]
    for n in range(shards.files):
        file = Path(context.reads["fragments"]) / str(n)
        for piece in _pieces(file, lambda ids: shards.sharding.places(ids)[0] == order):
            found.setdefault(piece.label, []).append(piece)
    return dict(sorted(found.items()))


def _pieces(file: Path, wanted: Callable[[np.ndarray], np.ndarray]) -> Iterator[trees.Piece]:
    """The pieces in one file whose ids are wanted, in the file's order.

    wanted: ids -> mask. Every shard asks every file, and most hold nothing of it: so only the
    ids are read until one is wanted.
    """
    mine = wanted(pq.read_table(file, columns=["id"], partitioning=None)["id"].to_numpy())
    if not mine.any():
        return
    table = pq.read_table(file, partitioning=None).filter(pa.array(mine))
    lists = zip(*(_lists(table[k]) for k in ("vertices", "edges", "radii")), strict=True)
    names = zip(table["id"].to_pylist(), table["voxels"].to_pylist(), strict=True)
    for (label, voxels), (vertices, edges, radii) in zip(names, lists, strict=True):
        yield trees.Piece(label, voxels, vertices.reshape(-1, 3), edges.reshape(-1, 2), radii)


def _lists(column: pa.ChunkedArray) -> list[np.ndarray]:
    """The rows of a column of lists as arrays, without a Python object for every number."""
    size = pc.list_value_length(column).to_numpy()
    flat = pc.list_flatten(column).to_numpy()
    return np.split(flat, np.cumsum(size)[:-1])
