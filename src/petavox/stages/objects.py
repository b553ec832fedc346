"""What meshes and skeletons share: blocks make fragments of objects, shards join them.

What it is: the frame of a two-step stage. Step one goes over blocks of voxels and writes, for
each block, one file with the fragments of its objects, into a work folder beside the output.
Step two goes over shards of objects (an object belongs to one shard, by its id) and joins, one
object at a time. Both steps are tasks of the block runner: they resume, and any engine runs them.
What it is not: anything that knows what a fragment is.

    labels ─ blocks ─▶ OUT.work/fragments/*/N ─ driver ─▶ OUT.work/index
                                      └────── shards ─────────┴─▶ OUT/*.shard, OUT/info, a table
"""

from __future__ import annotations

import contextlib
import logging
import math
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from petavox import volume
from petavox.blocks import Engine, Ledger
from petavox.blocks.runner import check
from petavox.errors import BadInput, WorkFailed
from petavox.neuron.sharding import Sharding
from petavox.settings import BoxSetting, NmSetting, Settings, ZyxSetting
from petavox.space import Box, Grid, VoxelSize
from petavox.stages.room import require_apart
from petavox.stages.stage import Stage
from petavox.stages.tables import FAN, write_arrow
from petavox.volume import state
from petavox.volume.opening import make_room, require_room

log = logging.getLogger("petavox")


class LabelSettings(Settings):
    """What all stages on blocks of labels take. Results do not depend on `block`, up to what is
    said there."""

    block: ZyxSetting = (256, 256, 256)
    box: BoxSetting | None = None
    voxel_size: NmSetting | None = None


class ObjectSettings(LabelSettings):
    """What stages that make one thing for each object take."""

    only: tuple[int, ...] | None = None


def require_ids(settings: ObjectSettings, dtype: np.dtype[Any]) -> None:
    """Raise BadInput for an id that labels of this type cannot hold."""
    most = int(np.iinfo(dtype).max)
    for label in settings.only or ():
        if not 0 < label <= most:
            raise BadInput(
                f"only names id {label}, which no object can have: the labels are {dtype}, "
                f"so ids go from 1 to {most}."
            )


def tell_absent(settings: ObjectSettings, table: pa.Table, what: str) -> None:
    """Warn of ids that were asked for and are not in the table of what was made."""
    if not settings.only:
        return
    ids = table["id"]
    there = ids.filter(pc.is_in(ids, pa.array(settings.only, ids.type))).to_pylist()
    absent = sorted(set(settings.only) - set(there))
    if absent:
        few = ", ".join(map(str, absent[:10])) + (", ..." if len(absent) > 10 else "")
        log.warning("only names %d ids %s: %s", len(absent), what, few)


class ShardSettings(Settings):
    """What the joining step gets from the driver, beyond the user's settings."""

    user: dict[str, Any]
    voxel_size: NmSetting
    total: BoxSetting
    shard_bits: int
    minishard_bits: int
    order: tuple[int, ...]
    """Shards that hold objects, the heaviest first, so that none is started last."""
    heaviest: float
    """Faces, or vertices, of the largest object before anything is left out."""

    @property
    def sharding(self) -> Sharding:
        """How ids are spread."""
        return Sharding(self.shard_bits, self.minishard_bits)


def labels_of(path: str, settings: LabelSettings) -> tuple[volume.Volume, Box]:
    """The label volume and the box to work on. Raises BadInput for anything but labels."""
    source = volume.open(path, voxel_size=settings.voxel_size)
    if source.dtype.kind != "u":
        raise BadInput(f"{path} holds {source.dtype}: labels are unsigned integers.")
    total = source.box if settings.box is None else settings.box
    if total.is_empty or not source.box.contains(total):
        raise BadInput(f"box {total} is not inside {path}, whose box is {source.box} (zyx).")
    return source, total


def file_of(fragments: str | Path, number: int) -> Path:
    """The file of one block's fragments."""
    return Path(fragments) / f"{number // FAN:06d}" / str(number)


class FragmentStage(Stage):
    """Step one: one file of fragments for each block."""

    settings: LabelSettings

    def grid(self) -> Grid:
        """The blocks of the label volume."""
        return Grid(labels_of(self.reads["labels"], self.settings)[1], self.settings.block)

    def create(self) -> None:
        """An empty work folder."""
        folder = Path(self.writes["fragments"])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)


class ShardStage(Stage):
    """Step two: one shard file, and one file of table rows, for each shard that holds objects."""

    settings: ShardSettings
    table: str
    schema: pa.Schema
    bytes_each: ClassVar[float]
    """Of the output, by unit of a fragment's weight."""

    def grid(self) -> Grid:
        """As many blocks of one voxel as there are shards with objects."""
        return Grid(Box((0, 0, 0), (max(1, len(self.settings.order)), 1, 1)), (1, 1, 1))

    def create(self) -> None:
        """An empty output; a finished one of ours is replaced."""
        out = Path(self.writes["out"])
        make_room(out, overwrite=True)
        out.mkdir(parents=True)
        state.begin(out)  # before anything lies there: else a run killed here could not go on
        (out / ".rows").mkdir()

    def rows(self) -> pa.Table:
        """The rows of all shards in order of id, written as the stage's table.

        The shards' files stay until the output is complete (object_steps): a run that is stopped
        before makes the same table again. Raises WorkFailed if one is missing.
        """
        out = Path(self.writes["out"])
        files = [out / ".rows" / f"{shard}.parquet" for shard in self.settings.order]
        lost = [f for f in files if not f.exists()]
        if lost:
            raise WorkFailed(
                f"{out} lacks the rows of {len(lost)} of {len(files)} shards, such as {lost[0]}: "
                "remove the folder, and make it again."
            )
        tables = [self.schema.empty_table(), *(pq.read_table(f) for f in files)]
        table = pa.concat_tables(tables).sort_by("id")
        write_arrow(out / self.table, table)
        return table


def weighed(ids: np.ndarray, weights: np.ndarray, *, bytes_each: float) -> dict[str, Any]:
    """The sharding for objects and their weights, as values of ShardSettings."""
    sharding = Sharding.of(ids=len(ids), size=int(weights.sum() * bytes_each))
    heavy = np.bincount(sharding.places(ids)[0], weights, minlength=1 << sharding.shard_bits)
    order = [int(s) for s in np.argsort(-heavy, kind="stable") if heavy[s] > 0]
    return {
        "shard_bits": sharding.shard_bits,
        "minishard_bits": sharding.minishard_bits,
        "order": tuple(order),
        "heaviest": float(weights.max(initial=0)),
    }


def largest_block(grid: Grid) -> int:
    """Voxels of the largest block, with one layer around it."""
    sides = zip(grid.block, grid.total.shape, strict=True)
    return math.prod(min(b, t) + 2 for b, t in sides)


def shared(source: volume.Volume, total: Box, settings: LabelSettings) -> dict[str, Any]:
    """The values of ShardSettings that follow from the volume and the user's settings."""
    return {
        "user": settings.model_dump(mode="json"),
        "voxel_size": tuple(source.voxel_size),
        "total": str(total),
    }


def add_totals(
    sums: tuple[np.ndarray, np.ndarray], ids: np.ndarray, amounts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums by id (ascending), with more amounts added."""
    both = np.concatenate([sums[0], ids.astype(np.uint64)])
    names, inverse = np.unique(both, return_inverse=True)
    amount = np.concatenate([sums[1], amounts.astype(np.float64)])
    return names, np.bincount(inverse, amount, minlength=len(names))


def size_of(settings: ShardSettings) -> VoxelSize:
    """The voxel size that the driver found."""
    return VoxelSize(*settings.voxel_size)


def work_of(out: Path) -> Path:
    """The folder beside an output that holds the fragments while it is made."""
    return out.with_name(out.name + ".work")


@contextlib.contextmanager
def work_folder(
    out: Path,
    first: FragmentStage,
    *,
    engine: Engine | None,
    overwrite: bool,
    ledger: Ledger | None,
    read: Iterable[str | Path | None] = (),
) -> Iterator[Ledger]:
    """A ledger, and room for the output and the fragments beside it, which go when all is done.

    A run that was stopped leaves them, and the same command goes on from there; but what lies at
    the output by then must be what that run began.
    first: step one; what can be refused of it is, before an old result is removed.
    ledger: the project's; without one the work folder holds its own.  read: what else is read.
    Raises AlreadyExists if the output is a finished result and `overwrite` is not set.
    """
    work = work_of(out)
    for place in (out, work):
        require_apart(place, [*first.reads.values(), *read])
    begun = not out.exists() or (state.read(out) or {}).get("state") == "writing"
    unfinished = work.exists() and begun
    if not unfinished:
        require_room(out, overwrite=overwrite)
        check(first.task(), engine)
        make_room(out, overwrite=overwrite)
        shutil.rmtree(work, ignore_errors=True)
    own = None
    try:
        if ledger is None:
            own = ledger = Ledger(work / "ledger.sqlite")
        yield ledger
    finally:
        if own is not None:
            own.close()
    shutil.rmtree(work, ignore_errors=True)
