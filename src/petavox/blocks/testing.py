"""Block functions that do little, or misbehave on purpose; for tests, benchmarks and trying sites.

What it is: small functions that any worker can import. What it is not: used by any stage.

settings of `pattern`: seed; and, each by block number, what goes wrong: `raises`, `exits`,
`hangs`, `kills` (SIGKILL of its own process), `stops` (SIGINT), `ended` (SIGTERM); `once` (a
folder: misbehave only the first time).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from petavox.blocks.task import Context, Counters
from petavox.errors import BadInput
from petavox.space import Block


def nothing(block: Block, context: Context) -> Counters:
    """A block without work."""
    return {"voxels": block.write.size}


def sleep(block: Block, context: Context) -> Counters:
    """A block that takes `seconds`."""
    time.sleep(float(context.settings["seconds"]))
    return {}


def telling(block: Block, context: Context) -> Counters:
    """A block that tells how far it is, in `steps` of `seconds` each."""
    steps = int(context.settings["steps"])
    for k in range(1, steps + 1):
        time.sleep(float(context.settings.get("seconds", 0)))
        context.tell(k / steps, f"{k} steps")
    return {}


def environment(block: Block, context: Context) -> Counters:
    """What a worker was pinned to, and whether NumPy or torch were loaded before."""
    import sys

    names = ("CUDA_VISIBLE_DEVICES", "ZE_AFFINITY_MASK", "OMP_NUM_THREADS", "PARSL_WORKER_RANK")
    loaded = [m for m in ("numpy", "torch") if m in sys.modules]
    time.sleep(float(context.settings.get("seconds", 0)))
    return {**{n: os.environ.get(n, "") for n in names}, "loaded": ",".join(loaded)}


def pattern(block: Block, context: Context) -> Counters:
    """Write voxels that follow from their place and a seed into `writes["labels"]`, if given."""
    _misbehave(block.number, context.settings)
    time.sleep(float(context.settings.get("seconds", 0)))
    path = context.writes.get("labels")
    if path is None:
        return {"voxels": block.write.size}
    import numpy as np

    from petavox import volume

    out = volume.open(path, writable=True, incomplete=True)
    z, y, x = (
        np.arange(a, b, dtype=np.uint64)
        for a, b in zip(block.write.start, block.write.stop, strict=True)
    )
    values = z[:, None, None] * np.uint64(1 << 40) + y[:, None] * np.uint64(1 << 20) + x
    values = values * np.uint64(0x9E3779B97F4A7C15) + np.uint64(context.settings.get("seed", 0))
    out.write(block.write, values >> np.uint64(40))
    return {"voxels": block.write.size}


def copy(block: Block, context: Context) -> Counters:
    """Copy `reads["image"]` to `writes["image"]`."""
    from petavox import volume

    values = volume.open(context.reads["image"]).read(block.write)
    volume.open(context.writes["image"], writable=True, incomplete=True).write(block.write, values)
    return {"voxels": block.write.size, "sum": int(values.sum(dtype="int64"))}


def _misbehave(number: int, settings: Any) -> None:
    for what in ("raises", "exits", "hangs", "kills", "stops", "ended"):
        if number not in settings.get(what, ()):
            continue
        if "once" in settings:
            mark = Path(settings["once"]) / f"{what}-{number}"
            if mark.exists():
                continue
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
        # the result of the block before is still on its way in a thread of this process
        time.sleep(0.05)
        if what == "raises":
            raise BadInput(f"block {number} was told to fail.")
        if what == "exits":
            os._exit(7)
        if what == "kills":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "stops":
            os.kill(os.getpid(), signal.SIGINT)
        if what == "ended":
            os.kill(os.getpid(), signal.SIGTERM)
        while True:
            time.sleep(3600)
