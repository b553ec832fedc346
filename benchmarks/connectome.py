"""Making, updating and asking a connectome of the size of C. elegans, and one of 10^6 synapses.

    python -m benchmarks.connectome

The tables are random, with the sizes of the worm's published graph (302 neurons, some 7000
synapses); the label volume is the 512^3 cortex segmentation, counted block by block.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import data_folder, emit
from benchmarks.measured import measured
from petavox.neuron import connectome, tables
from petavox.space import VoxelSize

FILE = "cloudvolume_seg/seg_16_16_40.h5"


def synapses(neurons: int, n: int) -> pa.Table:
    """Random synapses between random partners."""
    rng = np.random.default_rng(1)
    columns: dict[str, Any] = {"id": np.arange(1, n + 1)}
    columns |= {f"{axis}_nm": rng.random(n) * 1e5 for axis in "zyx"}
    columns |= {side: rng.integers(1, neurons + 1, n) for side in ("pre", "post")}
    columns |= {"size": rng.integers(50, 2000, n), "score": rng.random(n)}
    return tables.checked(pa.table(columns), tables.SYNAPSES, "random synapses")


def counted(out: str) -> dict[str, Any]:
    """Neurons of the cortex block, from voxels."""
    from petavox.stages.connectome import ConnectomeSettings, run

    table = Path(out) / "synapses.parquet"
    pq.write_table(synapses(300, 7000), table)
    labels = f"{data_folder() / FILE}/labels"
    return run(labels, table, Path(out) / "wiring", ConnectomeSettings())


def assembled(neurons: int, n: int) -> float:
    """CPU seconds to make all tables anew under a mapping, from base tables."""
    none = tables.count_voxels(np.zeros((1, 1, 1), np.uint64), (0, 0, 0))
    things = connectome.objects_table(none, VoxelSize(1, 1, 1), None, 1)
    rows = synapses(neurons, n)
    ids = np.arange(1, neurons + 1, dtype=np.uint64)
    edits = pa.table([pa.array(ids), pa.array((ids + 1) // 2)], schema=connectome.MAPPING)
    began = time.process_time()
    connectome.assemble(things, rows, edits)
    return time.process_time() - began


def asked(folder: Path) -> tuple[float, float]:
    """Seconds, and CPU seconds, of the command from start to end of its process; best of three."""
    ask = "import sys; from petavox.cli.app import main; sys.argv[0] = 'petavox'; main()"
    best = cpu = np.inf
    for _ in range(3):
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [sys.executable, "-c", ask, "connectome", str(folder), "--query", "pre=17, count>=1"],
            check=True,
            capture_output=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, time.perf_counter() - began)
        cpu = min(cpu, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return float(best), float(cpu)


def main() -> None:
    """Run all, emit one line."""
    with tempfile.TemporaryDirectory() as folder:
        mine = measured(counted, folder)
        query, cpu = asked(Path(folder) / "wiring")
    emit(
        "connectome",
        data=FILE,
        load=round(os.getloadavg()[0], 1),
        **mine.figures(),
        neurons=mine.result["neurons"],
        volume_um3=mine.result["volume_um3"],
        query_command_seconds=round(query, 2),
        query_command_cpu_seconds=round(cpu, 2),
        update_cpu_seconds_million_synapses=round(assembled(100_000, 1_000_000), 2),
    )


if __name__ == "__main__":
    main()
