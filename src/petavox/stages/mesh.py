"""Labels to meshes: every object's surface, at several levels of detail.

What it is: settings, the block step (fragments of surface, each block by itself), the joining
step (shard by shard, object by object) and the driver. What it is not: geometry; that is
petavox.neuron.

    labels ─ block ─▶ fragments ─ shard ─▶ OUT/info, OUT/*.shard  (Neuroglancer precomputed)
                                           OUT/meshes.parquet     (one row an object)
                                           OUT/export/ID.ply      (if asked for)
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from petavox import provenance, volume
from petavox.errors import BadInput
from petavox.neuron import mesh as surfaces
from petavox.neuron import packing
from petavox.neuron.mesh_files import WRITERS
from petavox.neuron.octree import INFO, encoded
from petavox.neuron.sharding import Sharding, ShardWriter
from petavox.neuron.simplify import bounded, levels
from petavox.progress import Progress
from petavox.settings import BoxSetting, Settings, ZyxSetting
from petavox.space import Box, Grid, VoxelSize
from petavox.stages import pieces
from petavox.volume import state
from petavox.volume.opening import make_room

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
"""meshes.parquet: measures are of the finest level as written."""


class MeshSettings(Settings):
    """How meshes are made. Nothing but `block` depends on how the work is cut up."""

    block: ZyxSetting = (256, 256, 256)
    box: BoxSetting | None = None
    error_nm: float | None = Field(None, gt=0)
    """Farthest that a vertex of the finest level moves; default: the longest edge of a voxel."""
    levels: int = Field(4, ge=1, le=10)
    fewest_faces: int = Field(1000, ge=4)
    most_faces: int = Field(8_000_000, ge=1000)
    close_border: bool = True
    only: tuple[int, ...] | None = None
    export: Literal["obj", "ply", "glb"] | None = None
    compression: int = Field(5, ge=0, le=10)


@dataclass(frozen=True)
class _BlockPiece:
    labels: str
    voxel_size: tuple[float, float, float]
    write: Box
    total: Box
    settings: MeshSettings
    file: Path


@dataclass(frozen=True)
class _ShardPiece:
    shard: int
    sharding: Sharding
    voxel_size: tuple[float, float, float]
    total: Box
    settings: MeshSettings
    files: tuple[Path, ...]
    out: Path


def run(
    labels: str,
    out: Path,
    settings: MeshSettings,
    *,
    voxel_size: tuple[float, float, float] | None = None,
    workers: int = 1,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Mesh every object of a label volume into a folder; returns counters.

    Raises BadInput before any work if the labels or settings cannot be used.
    """
    began = time.monotonic()
    source, total = opened(labels, settings.box, voxel_size)
    size = tuple(source.voxel_size)
    make_room(out, overwrite=overwrite)
    scratch = out / ".fragments"
    scratch.mkdir(parents=True)
    state.begin(out)

    grid = Grid(total, settings.block)
    files = [scratch / f"{block.number}" for block in grid]
    work = (
        _BlockPiece(labels, size, block.write, total, settings, file)
        for block, file in zip(grid, files, strict=True)
    )
    with Progress("mesh blocks", total=total.size, unit="voxel") as bar:
        for block, _ in zip(grid, pieces.run(mesh_block, work, workers=workers), strict=True):
            bar.advance(block.write.size)
    block_seconds = time.monotonic() - began

    ids, faces = _totals(files)
    sharding = Sharding.of(ids=len(ids), size=int(faces.sum()) // 4)
    weights = np.bincount(sharding.places(ids)[0], faces, minlength=1 << sharding.shard_bits)
    # the heaviest first, so that no worker starts one when the others are done
    order = [int(s) for s in np.argsort(-weights, kind="stable") if weights[s] > 0]
    shards = (_ShardPiece(s, sharding, size, total, settings, tuple(files), out) for s in order)
    tables = []
    with Progress("mesh objects", total=float(faces.sum()), unit="face") as bar:
        for s, table in zip(order, pieces.run(mesh_shard, shards, workers=workers), strict=True):
            tables.append(table)
            bar.advance(float(weights[s]))
    table = pa.concat_tables([TABLE.empty_table(), *tables]).sort_by("id")
    pq.write_table(table, out / "meshes.parquet")
    provenance.write_json(out / "info", {**INFO, "sharding": sharding.spec()})
    shutil.rmtree(scratch)
    counters = _counters(table) | {"block_seconds": round(block_seconds, 2)}
    seconds = time.monotonic() - began
    state.finish(
        out,
        provenance.record(
            "mesh", settings=settings, inputs={"labels": labels}, counters=counters, seconds=seconds
        ),
    )
    return counters | {"seconds": round(seconds, 2)}


def opened(
    labels: str, box: Box | None, voxel_size: tuple[float, float, float] | None
) -> tuple[volume.Volume, Box]:
    """The label volume and the box to work on. Raises BadInput for anything but labels."""
    source = volume.open(labels, voxel_size=voxel_size)
    if source.dtype.kind != "u":
        raise BadInput(f"{labels} holds {source.dtype}: labels are unsigned integers.")
    total = source.box if box is None else box
    if not source.box.contains(total) or total.is_empty:
        raise BadInput(f"box {total} is not inside {labels}, whose box is {source.box} (zyx).")
    return source, total


def mesh_block(piece: _BlockPiece) -> int:
    """Write the fragments of one block; returns their bytes.

    The block owns the cells whose low corner is its voxel; at the volume's low faces also the
    cells of the layer of zeros that closes the surface.
    """
    source = volume.open(piece.labels, voxel_size=piece.voxel_size)
    closed = piece.settings.close_border
    pairs = zip(piece.write.start, piece.total.start, strict=True)
    start = [a - (closed and a == t) for a, t in pairs]
    box = Box((start[0], start[1], start[2]), piece.write.grown(1).stop)
    inside = box.intersection(piece.total)
    values = source.read(inside)
    if closed:
        widths = [
            (a - b, d - c)
            for a, b, c, d in zip(inside.start, box.start, inside.stop, box.stop, strict=True)
        ]
        values = np.pad(values, widths)
    else:
        box = inside
    found = surfaces.fragments(values, box.start, piece.settings.only)
    return packing.write(piece.file, found)


def mesh_shard(piece: _ShardPiece) -> pa.Table:
    """Join, simplify, encode and write the objects of one shard, one object at a time."""
    settings, size = piece.settings, VoxelSize(*piece.voxel_size)
    error = settings.error_nm or max(size)
    rows: list[dict[str, Any]] = []
    with ShardWriter(piece.out, piece.sharding, piece.shard) as shard:
        for label, places in _objects(piece).items():
            full = sum(int(row["faces"]) for _, row in places)
            surface = bounded(
                (packing.read(file, row) for file, row in places),
                faces=full,
                most_faces=settings.most_faces,
            )
            low, high = surface.vertices.min(0), surface.vertices.max(0)
            rim = (low <= 2 * np.array(piece.total.start) + 1).any() or (
                high >= 2 * np.array(piece.total.stop) - 1
            ).any()
            detail = levels(
                surface,
                size,
                error=error,
                most_levels=settings.levels,
                fewest_faces=settings.fewest_faces,
            )
            code = encoded(detail, compression=settings.compression)
            shard.add(label, code.manifest, before=code.fragments)
            measures = surfaces.measure(detail[0])
            rows.append(
                {
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
            )
            if settings.export:
                provenance.write_atomically(
                    piece.out / "export" / f"{label}.{settings.export}",
                    WRITERS[settings.export](detail[0]),
                )
    return pa.Table.from_pylist(rows, TABLE)


def _objects(piece: _ShardPiece) -> dict[int, list[tuple[Path, np.void]]]:
    """The objects of a shard, by id, with the places of their fragments."""
    places: dict[int, list[tuple[Path, np.void]]] = {}
    for file in piece.files:
        rows = packing.index(file)
        for row in rows[piece.sharding.places(rows["id"])[0] == piece.shard]:
            places.setdefault(int(row["id"]), []).append((file, row))
    return dict(sorted(places.items()))


def _totals(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """All ids, and the faces of each."""
    ids, faces = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    for file in files:
        rows = packing.index(file)
        ids, inverse = np.unique(np.concatenate([ids, rows["id"]]), return_inverse=True)
        both = np.concatenate([faces, rows["faces"].astype(np.int64)])
        faces = np.bincount(inverse, both, minlength=len(ids)).astype(np.int64)
    return ids, faces


def _counters(table: pa.Table) -> dict[str, Any]:
    tight = table["watertight"].to_numpy(zero_copy_only=False)
    inner = ~table["touches_border"].to_numpy(zero_copy_only=False)
    return {
        "objects": table.num_rows,
        "faces_full": int(table["faces_full"].to_numpy().sum()),
        "faces": int(table["faces"].to_numpy().sum()),
        "bytes": int(table["bytes"].to_numpy().sum()),
        "watertight_share": float(tight.mean()) if len(tight) else 1.0,
        "inner_objects": int(inner.sum()),
        "inner_watertight_share": float(tight[inner].mean()) if inner.any() else 1.0,
    }
