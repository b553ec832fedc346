"""Volumes that stages write block by block: the empty one, and its coarser levels afterwards.

What it is: what every stage with a labels volume and a pyramid does in `create` and in `after`.
What it is not: the levels' arithmetic (petavox.volume.pyramid), or a stage.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from petavox import volume
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.plan import require_aligned
from petavox.blocks.runner import run
from petavox.blocks.task import BlockTask, Context, Costs, Counters
from petavox.space import Block, Grid, VoxelSize, zyx
from petavox.stages.block_labels import chunk_of
from petavox.volume import pyramid
from petavox.volume.opening import create


def empty(
    path: str, grid: Grid, size: VoxelSize, dtype: Any = np.uint64, kind: str = "labels"
) -> None:
    """An empty volume whose shards are the blocks, or whole parts of them, at most 512 a side."""
    shard = zyx([chunk_of(n, 512) for n in grid.block])
    chunk = zyx([chunk_of(n, 64) for n in shard])
    made = create(
        path, box=grid.total, voxel_size=size, dtype=dtype, kind=kind, chunk=chunk, shard=shard,
        overwrite=True,
    )  # fmt: skip
    require_aligned(grid, volume=made.box, shard=made.write_shape, name=path)


def fill_levels(
    name: str,
    writes: Mapping[str, str],
    finest: str,
    ledger: Ledger,
    engine: Engine | None,
    **options: Any,
) -> None:
    """Fill the coarser levels of writes["labels"], each from the one before.

    name: of the stage.  finest: what decides the finest level's voxels.  options: of the run; what
    restricts it to some blocks does not hold for the levels.
    """
    path = writes["labels"]
    options.pop("only", None)
    made = volume.open(path, incomplete=True)
    for n, (finer, level) in enumerate(itertools.pairwise(made.levels), 1):
        grid = pyramid.grid(path, level)
        factor = round(math.prod(level.voxel_size) / math.prod(finer.voxel_size))
        task = BlockTask(
            name=_task(name, n),
            function="petavox.stages.levels:level_block",
            grid=grid,
            costs=_costs(grid, made.dtype.itemsize, factor),
            settings={"level": n},
            writes=dict(writes),
            inputs={"finest": finest},
            code=("petavox.volume.pyramid",),
        )
        run(task, ledger=ledger, engine=engine, **options)


def _costs(grid: Grid, itemsize: int, factor: int) -> Costs:
    """Of a block of a level: what the level before it holds there, and the shard itself twice.

    factor: voxels of the level before in one of this.
    """
    shard = math.prod(grid.block) * itemsize
    held = min(pyramid.MEMORY_MB << 20, 3 * factor * shard)
    return Costs(held + 2 * shard, read_bytes=factor * shard, write_bytes=shard, files=1)


def forget(name: str, ledger: Ledger) -> None:
    """Forget the blocks of a stage's coarser levels; the caller commits."""
    for n in itertools.count(1):
        if ledger.parts(_task(name, n)) is None:
            return
        ledger.forget(_task(name, n))


def _task(name: str, level: int) -> str:
    return f"{name}-level-{level}"


def level_block(block: Block, context: Context) -> Counters:
    """One block of a coarser level."""
    path = context.writes["labels"]
    level = volume.open(path, incomplete=True).levels[int(context.settings["level"])]
    return dict(pyramid.build_block(path, level, block.write))
