"""Relabel: local ids to final ids, block by block, into one volume with its pyramid.

What it is: the lookup on disk (id -> smallest member of its object, in files by range of ids), and
the stage that applies it. What it is not: the making of the lookup (petavox.stages.reconcile).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from petavox import volume
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.task import Context, Costs, Counters
from petavox.errors import BadInput
from petavox.segment.links import pack
from petavox.segment.relabel import relabelled
from petavox.segment.unionfind import look_up
from petavox.settings import Settings, ZyxSetting
from petavox.space import Block, Grid, Zyx
from petavox.stages import tables
from petavox.stages.block_labels import BlockLabels, is_block_labels
from petavox.stages.labels import labels_of
from petavox.stages.levels import empty, fill_levels
from petavox.stages.stage import Stage
from petavox.stages.stamps import stamp
from petavox.volume import places, pyramid

INDEX = "index.json"


def write_lookup(
    folder: str | Path, pieces: Iterable[tuple[np.ndarray, np.ndarray]]
) -> dict[str, int]:
    """Write (ids, roots) pieces, sorted overall, as one Parquet file each, with an index."""
    index, changed = [], 0
    for n, (ids, roots) in enumerate(pieces):
        name = f"lookup-{n:08d}.parquet"
        tables.write(Path(folder) / name, {"id": ids, "final": roots})
        index.append({"file": name, "first": int(ids[0]), "last": int(ids[-1])})
        changed += len(ids)
    places.write_json(folder, INDEX, {"files": index})
    return {"lookup_files": len(index), "ids_changed": changed}


def final_ids(folder: str | Path, ids: np.ndarray) -> np.ndarray:
    """The final id of each id; the lookup's files are read as they are needed."""
    ids = np.asarray(ids, np.uint64)
    files = _index(str(folder), stamp(Path(folder) / INDEX))
    if not len(files) or not len(ids):
        return ids
    firsts = np.array([f["first"] for f in files], np.uint64)
    place = np.searchsorted(firsts, ids, side="right") - 1
    out = ids.copy()
    for n in np.unique(place[place >= 0]):
        file = Path(folder) / files[int(n)]["file"]
        keys, values = _piece(str(file), stamp(file))
        here = place == n
        out[here] = look_up(ids[here], keys, values)
    return out


@functools.lru_cache(maxsize=4)
def _index(folder: str, _stamp: tuple[int, ...]) -> list[dict[str, Any]]:
    found = places.read_json(folder, INDEX)
    if found is None:
        raise BadInput(f"{folder} holds no lookup (there is no {INDEX} in it).")
    return list(found["files"])


@functools.lru_cache(maxsize=4)
def _piece(path: str, _stamp: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    columns = tables.read(Path(path))
    return columns["id"], columns["final"]


class RelabelSettings(Settings):
    """Of the final volume."""

    block: ZyxSetting | None = None
    """For a plain volume: the block shape; labels of blocks bring their own."""
    pyramid: bool = True
    smallest_level: int = Field(128, ge=16)
    lookup_key: str = ""
    """Digest of the lookup that is applied."""


class Relabel(Stage):
    """reads: objects, lookup.  writes: labels (uint64, final ids)."""

    name = "relabel"
    function = "petavox.stages.relabel:relabel_block"
    code = (
        "petavox.segment.relabel", "petavox.segment.links", "petavox.segment.unionfind",
        "petavox.stages.block_labels",
    )  # fmt: skip
    settings: RelabelSettings

    def grid(self) -> Grid:
        """The write boxes of the objects' blocks, without context."""
        return grid_of(self.reads["objects"], self.settings.block, context=False)

    def inputs(self) -> dict[str, str]:
        """The objects by their content; the lookup by the key of what made it."""
        from petavox.blocks.content import content_digest

        return {
            "objects": content_digest(self.reads["objects"]),
            "lookup": self.settings.lookup_key or content_digest(self.reads["lookup"]),
        }

    def create(self) -> None:
        """The empty volume and its levels."""
        empty(self.writes["labels"], self.grid(), _voxel_size(self.reads["objects"]))
        if self.settings.pyramid:
            pyramid.prepare(self.writes["labels"], smallest=self.settings.smallest_level)

    def costs(self) -> Costs:
        """Labels in, labels out, and the sorting between."""
        n = int(np.prod(self.grid().block))
        return Costs(
            memory_bytes=40 * n + (128 << 20), read_bytes=4 * n, write_bytes=8 * n, files=1
        )

    def after(self, ledger: Ledger, engine: Engine | None, **options: Any) -> None:
        """Fill the coarser levels, each from the one before."""
        key = self.task().inputs["lookup"]
        fill_levels(self.name, self.writes, key, ledger, engine, **options)


def relabel_block(block: Block, context: Context) -> Counters:
    """Final labels of one block's write box."""
    path = context.reads["objects"]
    if is_block_labels(path):
        labels = pack(block.number, _own(path, block))
    else:
        labels = volume.open(path).read(block.write).astype(np.uint64)
    ids = np.unique(labels)
    keys = ids[ids != 0]
    final = relabelled(labels, keys, final_ids(context.reads["lookup"], keys))
    out = volume.open(context.writes["labels"], writable=True, incomplete=True)
    out.write(block.write, final)
    return {"voxels": block.write.size, "labelled_voxels": int(np.count_nonzero(final))}


def _own(path: str, block: Block) -> np.ndarray:
    known = BlockLabels.open(path)
    return known.read(known.grid[block.number], block.write)


def grid_of(objects: str | Path, block: Zyx | None, *, context: bool) -> Grid:
    """The grid of labels of blocks, or of a plain volume cut into `block`."""
    if is_block_labels(objects):
        grid = BlockLabels.open(objects).grid
        if block is not None and block != grid.block:
            raise BadInput(f"{objects} was made in blocks of {grid.block}, not {block}.")
        return grid if context else Grid(grid.total, grid.block)
    if block is None:
        raise BadInput(
            f"{objects} is one volume: say in which blocks it was segmented, such as --block "
            "128 128 128."
        )
    return Grid(labels_of(str(objects)).box, block)


def _voxel_size(objects: str) -> Any:
    if is_block_labels(objects):
        return BlockLabels.open(objects).voxel_size
    return volume.open(objects).voxel_size
