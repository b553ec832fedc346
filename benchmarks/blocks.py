"""What blocks cost beyond their work: start of the engine, overhead of a block, driver's memory.

    python -m benchmarks.blocks            (or: python -m benchmarks.blocks million)

What it is: 10,000 blocks without work on 2 workers, an engine's start, the plan of a million
blocks and the opening of a run of them. What it is not: a measure of any stage.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import emit
from petavox.blocks import BlockTask, Costs, Ledger, open_engine, run
from petavox.blocks.plan import plan
from petavox.space import Box, Grid

WORKERS = 2


def line(n: int) -> Grid:
    """n blocks of one voxel."""
    return Grid(Box((0, 0, 0), (1, 1, n)), (1, 1, 1))


def resident_mib() -> float:
    """Memory of this process now."""
    for text in Path("/proc/self/status").read_text().splitlines():
        if text.startswith("VmRSS"):
            return int(text.split()[1]) / 1024
    return float("nan")


def overhead() -> None:
    """10,000 trivial blocks, four times over, on one engine."""
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.db") as ledger:
        began = time.perf_counter()
        with open_engine(workers=WORKERS) as engine:
            started = time.perf_counter() - began
            warm = BlockTask("warm", "petavox.blocks.testing:nothing", line(WORKERS * 2))
            run(warm, ledger=ledger, engine=engine, quiet=True)
            first = time.perf_counter() - began
            seconds, memory = [], [resident_mib()]
            for n in range(4):
                task = BlockTask(f"t{n}", "petavox.blocks.testing:nothing", line(10_000))
                outcome = run(task, ledger=ledger, engine=engine, quiet=True)
                seconds.append(outcome.seconds)
                memory.append(resident_mib())
            # long blocks travel alone: the cost of one message each way
            single = run(
                BlockTask("single", "petavox.blocks.testing:nothing", line(2000)),
                ledger=ledger, engine=engine, bundle=1, quiet=True,
            )  # fmt: skip
    emit(
        "blocks-overhead",
        workers=WORKERS,
        blocks=10_000,
        engine_start_s=round(started, 2),
        first_block_done_s=round(first, 2),
        ms_a_block=[round(s / 10_000 * 1e3, 3) for s in seconds],
        ms_a_block_sent_alone=round(single.seconds / 2000 * 1e3, 3),
        driver_mib=[round(m, 1) for m in memory],
    )


def million() -> None:
    """Plan a million blocks, and open a run of them: one is done, the rest known to wait."""
    grid = Grid(Box((0, 0, 0), (25_600, 25_600, 25_600)), (256, 256, 256), (32, 32, 32))
    began, worked = time.perf_counter(), time.process_time()
    task = BlockTask(
        "segment",
        "petavox.blocks.testing:nothing",
        grid,
        costs=Costs(memory_bytes=1 << 30, read_bytes=320**3, write_bytes=320**3, files=2),
    )
    made = plan(task, [60.0, 80.0, 100.0])
    planned = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.db") as ledger:
        run(task, ledger=ledger, only=[999_999], quiet=True)
        run(task, ledger=ledger, only=[0], quiet=True)
    emit(
        "blocks-million",
        blocks=made.blocks,
        seconds_to_plan=round(planned, 3),
        seconds_with_two_runs_opened=round(time.perf_counter() - began, 2),
        processor_seconds=round(time.process_time() - worked, 2),
        peak_gib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    )


if __name__ == "__main__":
    if "million" not in sys.argv:
        overhead()
    million()
