"""Where the fragments of every object lie: one table, in the order in which shards ask for it.

    fragments/*/N ─ one pass ─▶ index/objects.parquet           id, weight
                               index/*/by_shard-K.parquet      shard, id, file, offset, size, weight

What it is: the driver's pass over the indices of all blocks' files, and what a shard reads of the
result; without it every shard would look through the files of all blocks. The pass holds the
totals of all objects and `ROWS` fragments in memory. What it is not: knowledge of what a fragment
is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from petavox.blocks.content import made_by
from petavox.errors import WorkFailed
from petavox.neuron import packing
from petavox.neuron.sharding import Sharding
from petavox.provenance import digest
from petavox.stages import objects, tables
from petavox.stages.stamps import sources
from petavox.stages.totals import Sums, totals
from petavox.volume import state

ROWS = 4_000_000
"""Fragments that are sorted at once, and that one file of the index holds: about 400 MB."""
_GROUP = 1 << 14
"""A shard reads whole groups of so many rows."""
_TOTALS = "objects.parquet"
PLACE = np.dtype([("file", "<i8"), *packing.INDEX.descr])
"""A fragment: the number of its block, and its row of that block's file."""
_NAMES = tuple(PLACE.names or ())


def make(folder: Path, fragments: Path, blocks: int, *, bytes_each: float) -> dict[str, Any]:
    """Write the index of the fragments of so many blocks; gives how objects go into shards.

    bytes_each: of the output, by unit of weight.  Returns values of objects.ShardSettings.
    An index that was made of the same fragments is kept: a run that goes on reads no block's file.
    """
    code = sources("petavox.neuron.packing", "petavox.neuron.sharding", __name__)
    key = digest(made_by(fragments), blocks, bytes_each, code)
    if (state.read(folder) or {}).get("state") == "complete" and made_by(folder) == key:
        known = tables.read(folder / _TOTALS)
        return objects.weighed(known["id"], known["weight"], bytes_each=bytes_each)
    tables.create(folder)
    sums = totals(_gathered(folder, fragments, blocks))
    values = objects.weighed(*sums, bytes_each=bytes_each)
    _deal(folder, Sharding(values["shard_bits"], values["minishard_bits"]))
    tables.write(folder / _TOTALS, {"id": sums[0], "weight": sums[1]})
    state.finish(folder, {"stage": "fragment index", "key": key})
    return values


def of_shard(folder: Path, shard: int) -> Iterator[tuple[int, np.ndarray]]:
    """The objects of a shard, ascending, each with its fragments (PLACE) in the order of blocks."""
    found = []
    for file in _files(folder, "by_shard"):
        try:
            table = pq.read_table(
                file, filters=[("shard", "==", shard)], partitioning=None, use_threads=False
            )
        except (OSError, pa.ArrowException) as e:
            raise WorkFailed(f"{file} cannot be read ({e}): remove {folder}, run again.") from None
        found.append(_places({n: table[n].to_numpy() for n in _NAMES}))
    rows = np.concatenate([np.zeros(0, PLACE), *found])
    rows = rows[np.argsort(rows["id"], kind="stable")]
    for some in np.split(rows, np.flatnonzero(np.diff(rows["id"])) + 1):
        if len(some):
            yield int(some["id"][0]), some


def values(fragments: str | Path, places: np.ndarray) -> Iterator[bytes]:
    """What lies at these places, one by one."""
    for place in places:
        file = objects.file_of(fragments, int(place["file"]))
        yield packing.read(file, int(place["offset"]), int(place["size"]))


def _gathered(folder: Path, fragments: Path, blocks: int) -> Iterator[Sums]:
    """Ids and weights of each block; on the way all rows go to files of the index."""
    waiting, n, files = list[np.ndarray](), 0, 0
    for number in range(blocks):
        rows = packing.index(objects.file_of(fragments, number))
        places = np.zeros(len(rows), PLACE)
        places["file"] = number
        for name in rows.dtype.names or ():
            places[name] = rows[name]
        waiting.append(places)
        n += len(rows)
        if n >= ROWS or number == blocks - 1:
            _write(tables.part(folder, files, "gathered"), np.concatenate(waiting))
            waiting, n, files = [], 0, files + 1
        yield rows["id"], rows["weight"]


def _deal(folder: Path, sharding: Sharding) -> None:
    """Sort each file of the index by shard, which is known only when all objects are."""
    for number, file in enumerate(_files(folder, "gathered")):
        rows = _places(tables.read(file))
        shard = sharding.places(rows["id"])[0]
        order = np.lexsort((rows["file"], rows["id"], shard))
        _write(tables.part(folder, number, "by_shard"), rows[order], shard[order])
        file.unlink()


def _write(path: Path, rows: np.ndarray, shard: np.ndarray | None = None) -> None:
    columns = {n: pa.array(np.ascontiguousarray(rows[n])) for n in _NAMES}
    if shard is not None:
        columns = {"shard": pa.array(shard), **columns}
    path.parent.mkdir(exist_ok=True)
    tables.write_arrow(path, pa.table(columns), compression="zstd", row_group_size=_GROUP)


def _places(columns: dict[str, np.ndarray]) -> np.ndarray:
    out = np.zeros(len(columns["id"]), PLACE)
    for name in _NAMES:
        out[name] = columns[name]
    return out


def _files(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"*/{name}-*.parquet"))
