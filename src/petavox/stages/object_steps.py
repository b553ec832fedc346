"""One thing for each object of a label volume: fragments of blocks, their index, shards, a table.

What it is: the driver that meshes and skeletons share. What it is not: what a fragment is, or how
fragments become one thing (petavox.stages.mesh, petavox.stages.skeletonize).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from petavox.blocks import Engine, Ledger
from petavox.stages import fragment_index, objects
from petavox.stages.stage import run_stage


def made(
    labels: str,
    out: Path,
    settings: objects.ObjectSettings,
    fragments: type[objects.FragmentStage],
    shards: type[objects.ShardStage],
    *,
    engine: Engine | None,
    ledger: Ledger | None,
    overwrite: bool,
) -> pa.Table:
    """Run both steps into the folder `out`; gives its table, one row per object.

    Raises BadInput before any work if the labels or settings cannot be used.
    """
    source, total = objects.labels_of(labels, settings)
    objects.require_ids(settings, source.dtype)
    work = objects.work_of(out)
    first = fragments(settings, reads={"labels": labels}, writes={"fragments": work / "fragments"})
    with objects.work_folder(
        out, first, engine=engine, overwrite=overwrite, ledger=ledger
    ) as ledger:
        run_stage(first, ledger=ledger, engine=engine, overwrite=True)
        reads = {"fragments": work / "fragments", "index": work / "index"}
        values = fragment_index.make(
            reads["index"], reads["fragments"], len(first.grid()), bytes_each=shards.bytes_each
        )
        values |= objects.shared(source, total, settings)
        second = shards(objects.ShardSettings(**values), reads=reads, writes={"out": out})
        if run_stage(second, ledger=ledger, engine=engine, overwrite=True).complete:
            shutil.rmtree(out / ".rows", ignore_errors=True)
    return pq.read_table(out / shards.table)
