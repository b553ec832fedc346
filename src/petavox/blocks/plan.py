"""The plan of a task, computed before anything runs.

What it is: counts and bounds in closed form (a million blocks cost nothing), the seconds that
measured blocks foretell, and two checks that must hold before work starts: blocks own whole
shards, and one worker's memory fits. What it is not: the schedule on many nodes (`simulate`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from petavox.blocks.task import BlockTask
from petavox.errors import BadInput
from petavox.space import Box, Grid, Zyx

_RESAMPLED = 5000
"""More measured blocks than this are not resampled one by one."""


@dataclass(frozen=True)
class Plan:
    """What a task will take. Bytes and files are upper bounds; seconds are (mean, low, high).

    The interval is a 95 % bootstrap interval of the sum over all blocks, from measured blocks;
    None where no block was measured.
    """

    task: str
    blocks: int
    read_voxels: int
    write_voxels: int
    memory_bytes: int
    read_bytes: int
    write_bytes: int
    files: int
    measured: int = 0
    block_seconds: tuple[float, float, float] | None = None

    def figures(self) -> dict[str, Any]:
        """For showing."""
        figures: dict[str, Any] = {
            "blocks": self.blocks,
            "read_voxels": self.read_voxels,
            "memory_gib_per_worker": round(self.memory_bytes / 2**30, 3),
            "read_gib": round(self.read_bytes / 2**30, 3),
            "write_gib_at_most": round(self.write_bytes / 2**30, 3),
            "files_at_most": self.files,
            "measured_blocks": self.measured,
        }
        if self.block_seconds is not None:
            mean, low, high = self.block_seconds
            figures["worker_hours"] = round(mean / 3600, 4)
            figures["worker_hours_95"] = [round(low / 3600, 4), round(high / 3600, 4)]
        return figures


def plan(task: BlockTask, seconds: Sequence[float] = ()) -> Plan:
    """The plan of a task.

    seconds: of measured blocks of this task (the ledger's), for the projection.
    """
    grid, n = task.grid, len(task.grid)
    c = task.costs
    return Plan(
        task=task.name,
        blocks=n,
        read_voxels=read_voxels(grid),
        write_voxels=grid.total.size,
        memory_bytes=c.memory_bytes,
        read_bytes=c.read_bytes * n,
        write_bytes=c.write_bytes * n,
        files=c.files * n,
        measured=len(seconds),
        block_seconds=interval(seconds, n) if seconds else None,
    )


def read_voxels(grid: Grid) -> int:
    """Sum of the sizes of all read boxes: a product of sums over the axes."""
    sums = []
    for start, stop, block, context in zip(
        grid.total.start, grid.total.stop, grid.block, grid.context, strict=True
    ):
        length = 0
        for at in range(start, stop, block):
            end = min(at + block, stop)
            length += min(end + context, stop) - max(at - context, start)
        sums.append(length)
    return math.prod(sums)


def interval(
    seconds: Sequence[float], blocks: int, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """(mean, low, high) of the seconds of `blocks` blocks like the measured ones.

    95 % interval by bootstrap of the mean (seeded), widened by the spread of a sum of that many.
    Of many measured blocks the means are drawn from the normal distribution they have anyway:
    resampling a million of them would take gigabytes.
    """
    import numpy as np

    values = np.asarray(seconds, float)
    rng = np.random.default_rng(seed)
    if len(values) > _RESAMPLED:
        means = rng.normal(values.mean(), values.std() / math.sqrt(len(values)), draws)
    else:
        means = rng.choice(values, (draws, len(values))).mean(1)
    spread = values.std() / math.sqrt(blocks)
    totals = (means + rng.normal(0, spread, draws)) * blocks
    low, high = np.quantile(totals, [0.025, 0.975])
    return float(values.mean() * blocks), float(max(low, 0.0)), float(high)


def require_aligned(grid: Grid, *, volume: Box, shard: Zyx, name: str) -> None:
    """Raise BadInput if two blocks of the grid could touch one shard of the output `name`."""
    if not volume.contains(grid.total):
        raise BadInput(f"the blocks cover {grid.total}, but {name} holds only {volume}.")
    for axis, g0, g1, v0, v1, block, side in zip(
        "zyx",
        grid.total.start,
        grid.total.stop,
        volume.start,
        volume.stop,
        grid.block,
        shard,
        strict=True,
    ):
        one_block = g1 - g0 <= block
        if (g0 - v0) % side or (not one_block and block % side):
            raise BadInput(
                f"blocks of {grid.block} from {grid.total.start} cut the shards of {name} "
                f"({shard} from {volume.start}) along {axis}: two workers would write one file. "
                f"Make the block a multiple of {side} along {axis}."
            )
        if g1 != v1 and (g1 - v0) % side:
            raise BadInput(
                f"the blocks end inside a shard of {name} along {axis} ({g1}): end at a multiple "
                f"of {side} from {v0}, or at {v1}."
            )


def require_memory(
    task: BlockTask,
    *,
    workers: int,
    available_bytes: int | None,
    where: str = "this machine",
) -> None:
    """Raise BadInput if `workers` workers of one machine would need more memory than it has."""
    need = task.costs.memory_bytes * workers
    if available_bytes is not None and need > available_bytes:
        fit = max(0, available_bytes // max(1, task.costs.memory_bytes))
        raise BadInput(
            f"task '{task.name}' needs {task.costs.memory_bytes / 2**30:.2f} GiB a worker, "
            f"{need / 2**30:.1f} GiB for {workers} workers; {where} has "
            f"{available_bytes / 2**30:.1f} GiB free. "
            + (f"Use at most {fit} workers, or " if fit else "Use ")
            + f"{task.smaller}."
        )


def memory_available() -> int | None:
    """Free memory of this machine in bytes, where the system says."""
    try:
        with open("/proc/meminfo") as f:
            line = next(x for x in f if x.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return None
