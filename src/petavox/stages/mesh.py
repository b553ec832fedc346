"""Labels to meshes: every object's surface, at several levels of detail.

What it is: settings, the block function (fragments of surface, each block by itself), the shard
function (join, simplify, encode, object by object). What it is not: geometry; that is
petavox.neuron. The two steps are those of petavox.stages.objects.

    OUT/info, OUT/*.shard   Neuroglancer precomputed, multi-resolution, Draco
    OUT/meshes.parquet      one row an object
    OUT/export/ID.ply       if asked for
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from petavox import provenance
from petavox.blocks import Context, Costs, Counters, Engine, Ledger
from petavox.neuron import mesh as surfaces
from petavox.neuron import packing
from petavox.neuron.mesh_files import WRITERS
from petavox.neuron.octree import INFO, encoded
from petavox.neuron.sharding import ShardWriter
from petavox.neuron.simplify import bounded, levels
from petavox.space import Block, Box
from petavox.stages import fragment_index, object_steps, objects
from petavox.stages.tables import write_arrow

TABLE = pa.schema(
    [
        ("id", pa.uint64()),
        ("faces_full", pa.uint64()),
        ("faces", pa.uint64()),
        ("vertices", pa.uint64()),
        ("levels", pa.uint8()),
        ("watertight", pa.bool_()),
        ("touches_border", pa.bool_()),
        ("euler", pa.int64()),
        ("area_nm2", pa.float64()),
        ("volume_nm3", pa.float64()),
        ("bytes", pa.uint64()),
    ]
)
"""meshes.parquet: faces_full before simplification; all measures of the finest level kept."""

_CODE = tuple(f"petavox.neuron.{m}" for m in ("mesh", "simplify", "octree", "sharding", "packing"))


class MeshSettings(objects.ObjectSettings):
    """How meshes are made. The result does not depend on `block` at all."""

    error_nm: float | None = Field(None, gt=0)
    """Farthest that a vertex of the finest level moves; default: the longest edge of a voxel."""
    levels: int = Field(4, ge=1, le=10)
    fewest_faces: int = Field(1000, ge=4)
    most_faces: int = Field(8_000_000, ge=1000)
    close_border: bool = True
    export: Literal["obj", "ply", "glb"] | None = None
    compression: int = Field(5, ge=0, le=10)


class MeshFragments(objects.FragmentStage):
    """Surface fragments of every block."""

    name = "mesh fragments"
    function = "petavox.stages.mesh:mesh_block"
    code = _CODE
    settings: MeshSettings

    def costs(self) -> Costs:
        """About 60 bytes a voxel (measured: 48 on tissue), and the libraries."""
        voxels = objects.largest_block(self.grid())
        return Costs(memory_bytes=300_000_000 + 60 * voxels)


class MeshShards(objects.ShardStage):
    """Meshes of the objects of every shard."""

    name = "mesh objects"
    function = "petavox.stages.mesh:mesh_shard"
    code = _CODE
    smaller = "a smaller most_faces: its memory is that of the largest object, whatever the block"
    table, schema = "meshes.parquet", TABLE
    bytes_each = 0.25

    def costs(self) -> Costs:
        """The largest object decides: about 500 bytes a face (measured: 480)."""
        most = min(self.settings.heaviest, self.settings.user["most_faces"])
        return Costs(memory_bytes=300_000_000 + 500 * int(most))

    def after(self, ledger: Ledger, engine: Engine | None, **options: Any) -> None:
        """The table and the info file."""
        self.rows()
        info = {**INFO, "sharding": self.settings.sharding.spec()}
        provenance.write_json(Path(self.writes["out"]) / "info", info)


def run(
    labels: str,
    out: Path,
    settings: MeshSettings,
    *,
    engine: Engine | None = None,
    ledger: Ledger | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Mesh every object of a label volume into a folder; returns figures.

    Raises BadInput before any work if the labels or settings cannot be used.
    """
    began = time.monotonic()
    table = object_steps.made(
        labels, out, settings, MeshFragments, MeshShards, engine=engine, ledger=ledger,
        overwrite=overwrite,
    )  # fmt: skip
    objects.tell_absent(settings, table, "that the labels do not hold there")
    return _figures(table) | {"seconds": round(time.monotonic() - began, 2)}


def mesh_block(block: Block, context: Context) -> Counters:
    """Write the fragments of one block.

    The block owns the cells whose low corner is its voxel; at the low faces of the whole also the
    cells of the layer of zeros that closes the surface.
    """
    settings = context.parsed(MeshSettings)
    source, total = objects.labels_of(context.reads["labels"], settings)
    closed = settings.close_border
    low = [int(closed and a == t) for a, t in zip(block.write.start, total.start, strict=True)]
    begin = [a - n for a, n in zip(block.write.start, low, strict=True)]
    box = Box((begin[0], begin[1], begin[2]), block.write.grown(1).stop)
    inside = box.intersection(total)
    values = source.read(inside)
    if closed:
        high = [b - a for a, b in zip(inside.stop, box.stop, strict=True)]
        values = np.pad(values, list(zip(low, high, strict=True)))
    else:
        box = inside
    found = surfaces.fragments(values, box.start, settings.only)
    rows = ((i, packing.packed(found[i]), len(found[i].faces)) for i in sorted(found))
    size = packing.write(objects.file_of(context.writes["fragments"], block.number), rows)
    return {"fragments": len(found), "bytes": size}


def mesh_shard(block: Block, context: Context) -> Counters:
    """Join, simplify, encode and write the objects of one shard, one object at a time."""
    shards = context.parsed(objects.ShardSettings)
    out = Path(context.writes["out"])
    rows: list[dict[str, Any]] = []
    if not shards.order:
        return {"objects": 0}
    shard, index = shards.order[block.number], Path(context.reads["index"])
    with ShardWriter(out, shards.sharding, shard) as writer:
        for label, places in fragment_index.of_shard(index, shard):
            pieces = map(
                packing.unpacked, fragment_index.values(context.reads["fragments"], places)
            )
            rows.append(_one(label, pieces, int(places["weight"].sum()), shards, writer, out))
    write_arrow(out / ".rows" / f"{shard}.parquet", pa.Table.from_pylist(rows, TABLE))
    return {"objects": len(rows), "bytes": sum(r["bytes"] for r in rows)}


def _one(
    label: int,
    pieces: Iterable[surfaces.Fragment],
    full: int,
    shards: objects.ShardSettings,
    writer: ShardWriter,
    out: Path,
) -> dict[str, Any]:
    settings = MeshSettings(**shards.user)
    size = objects.size_of(shards)
    surface = bounded(pieces, faces=full, most_faces=settings.most_faces)
    low, high = surface.vertices.min(0), surface.vertices.max(0)
    # half voxels: an object that leaves one layer of voxels free stays one whole voxel away
    rim = (low <= 2 * np.array(shards.total.start) + 1).any() or (
        high >= 2 * np.array(shards.total.stop) - 1
    ).any()
    detail = levels(
        surface,
        size,
        error=settings.error_nm or max(size),
        most_levels=settings.levels,
        fewest_faces=settings.fewest_faces,
    )
    code = encoded(detail, compression=settings.compression)
    writer.add(label, code.manifest, before=code.fragments)
    if settings.export:
        provenance.write_atomically(
            out / "export" / f"{label}.{settings.export}", WRITERS[settings.export](detail[0])
        )
    measures = surfaces.measure(detail[0])
    return {
        "id": label,
        "faces_full": full,
        "faces": len(detail[0].faces),
        "vertices": len(detail[0].vertices),
        "levels": len(detail),
        "watertight": measures.watertight,
        "touches_border": bool(rim),
        "euler": measures.euler,
        "area_nm2": measures.area,
        "volume_nm3": measures.volume,
        "bytes": len(code.fragments) + len(code.manifest),
    }


def _figures(table: pa.Table) -> dict[str, Any]:
    tight = table["watertight"].to_numpy()
    inner = ~table["touches_border"].to_numpy()
    return {
        "objects": table.num_rows,
        "faces_full": int(table["faces_full"].to_numpy().sum()),
        "faces": int(table["faces"].to_numpy().sum()),
        "bytes": int(table["bytes"].to_numpy().sum()),
        "watertight_share": float(tight.mean()) if len(tight) else 1.0,
        "inner_objects": int(inner.sum()),
        "inner_watertight_share": float(tight[inner].mean()) if inner.any() else 1.0,
    }
