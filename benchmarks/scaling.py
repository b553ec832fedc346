"""How time and memory of each stage grow with the work: x1, x2, x4, x8.

    python -m benchmarks.scaling [--stages phantom score ...] [--small]

What it is: the commands of petavox on boxes of one, two, four and eight times the voxels, each in a
process of its own. Processor seconds are fitted by a power of the work; `exponent_last` is that of
the last doubling alone, where what is constant counts least. n log n on these sizes is about 1.06,
so a stage whose last doubling is above 1.25 is listed under `worse_than_n_log_n`. Memory is the
peak of the process, what importing takes included.
What it is not: the scale of petavoxels (benchmarks.scale projects that).
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import data_folder, emit
from petavox.ffn.shipped import MODEL
from petavox.space import Box

FACTORS = ((1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2))
WORST = 1.25
Commands = list[list[str]]
"""petavox commands as words; the last one is measured, the others prepare it."""


def _box(start: tuple[int, int, int], side: tuple[int, int, int], factor: tuple[int, ...]) -> str:
    shape = [s * f for s, f in zip(side, factor, strict=True)]
    return str(Box.of_shape(shape, start))


def phantom(f: tuple[int, ...], room: Path) -> Commands:
    """Synthetic tissue."""
    shape = [str(s * k) for s, k in zip((48, 64, 64), f, strict=True)]
    return [["phantom", str(room / "p"), "--shape", *shape]]


def copy(f: tuple[int, ...], room: Path) -> Commands:
    """Import into OME-Zarr with its pyramid."""
    source = f"{data_folder()}/cloudvolume_seg/seg_16_16_40.h5/labels"
    return [["import", source, str(room / "v"), "--box", _box((0, 0, 0), (128, 256, 256), f)]]


def segment(f: tuple[int, ...], room: Path) -> Commands:
    """One flood, with the shipped network."""
    source = f"{data_folder()}/fib25/validation_sample_z0-200.h5/raw"
    box = _box((40, 100, 100), (32, 40, 40), f)
    return [["segment", source, str(room / "s"), "--model", str(MODEL), "--box", box,
             "--precision", "bf16"]]  # fmt: skip


def _blocks(f: tuple[int, ...], room: Path) -> list[str]:
    settings = room / "components.yaml"
    settings.write_text(f"method: components\nbox: '{_box((0, 0, 0), (128, 128, 128), f)}'\n")
    source = f"{data_folder()}/cloudvolume_seg/seg_16_16_40.h5/labels"
    return ["segment", source, str(room / "b"), "--model", str(MODEL), "--settings", str(settings),
            "--blocks", "64", "64", "64", "--context", "16", "16", "16"]  # fmt: skip


def segment_blocks(f: tuple[int, ...], room: Path) -> Commands:
    """Connected components in overlapping blocks: what blocks cost without a network."""
    return [_blocks(f, room)]


def reconcile(f: tuple[int, ...], room: Path) -> Commands:
    """Those blocks joined."""
    return [_blocks(f, room), ["reconcile", str(room / "b"), str(room / "r")]]


def mesh(f: tuple[int, ...], room: Path) -> Commands:
    """Meshes of a cortex segmentation."""
    source = f"{data_folder()}/cloudvolume_seg/seg_16_16_40.h5/labels"
    return [["mesh", source, str(room / "m"), "--box", _box((100, 100, 100), (64, 96, 96), f)]]


def skeletonize(f: tuple[int, ...], room: Path) -> Commands:
    """Skeletons of a cortex segmentation."""
    source = f"{data_folder()}/cloudvolume_seg/seg_16_16_40.h5/labels"
    box = _box((100, 100, 100), (64, 96, 96), f)
    return [["skeletonize", source, str(room / "k"), "--box", box]]


def score(f: tuple[int, ...], room: Path) -> Commands:
    """VI, adapted Rand and what belongs to them."""
    fib = f"{data_folder()}/fib25"
    result, truth = f"{fib}/reference_result.h5/segmentation", f"{fib}/training_sample2.h5/labels"
    return [["score", result, truth, "--box", _box((0, 0, 0), (120, 120, 120), f)]]  # fmt: skip


def consensus(f: tuple[int, ...], room: Path) -> Commands:
    """The consensus of two segmentations."""
    fib, box = f"{data_folder()}/fib25", _box((0, 0, 0), (120, 120, 120), f)
    sources = (f"{fib}/reference_result.h5/segmentation", f"{fib}/training_sample2.h5/supervoxels")
    copies = [str(room / "a"), str(room / "b")]
    made = [
        ["import", source, copy, "--box", box, "--kind", "labels", "--dtype", "uint64",
         "--no-pyramid"]
        for source, copy in zip(sources, copies, strict=True)
    ]  # fmt: skip
    return [*made, ["consensus", *copies, str(room / "c")]]


STAGES: dict[str, Callable[[tuple[int, ...], Path], Commands]] = {
    "phantom": phantom,
    "import": copy,
    "segment": segment,
    "segment-blocks": segment_blocks,
    "reconcile": reconcile,
    "consensus": consensus,
    "score": score,
    "mesh": mesh,
    "skeletonize": skeletonize,
}


def do(commands: Commands) -> dict[str, float]:
    """Run commands in this process; figures of the last."""
    from typer.testing import CliRunner

    from petavox.cli.app import COMMANDS, app

    began = cpu = 0.0
    for words in commands:
        # what importing takes is not the stage's
        importlib.import_module(f"petavox.cli.{COMMANDS[words[0]][0]}")
        if words is commands[-1]:
            began, cpu = time.perf_counter(), _cpu()
        done = CliRunner().invoke(app, words)
        if done.exit_code:
            raise SystemExit(f"petavox {' '.join(words)}: {done.output[-300:]} {done.exception!r}")
    return {
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(_cpu() - cpu, 2),
        "peak_mb": round(_peak() / 1024),
    }


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _peak() -> float:
    """KiB; ru_maxrss would begin with the parent's peak."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(x.split()[1] for x in lines if x.startswith("VmHWM")))
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def slope(work: list[int], cost: list[float]) -> float:
    """The exponent of a power law through the points."""
    return float(np.polyfit(np.log(work), np.log(np.maximum(cost, 1e-3)), 1)[0])


def curve(name: str, sizes: int) -> dict[str, Any]:
    """A stage at each size."""
    rows = []
    for factor in FACTORS[:sizes]:
        with tempfile.TemporaryDirectory() as folder:
            commands = STAGES[name](factor, Path(folder))
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "benchmarks.scaling", "--do",
                 json.dumps(commands)],
                capture_output=True, text=True, check=False, timeout=600,
            )  # fmt: skip
            if done.returncode:
                return {"not_measured": (done.stderr.strip() or "died").splitlines()[-1][:300]}
            rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
    work = [math.prod(f) for f in FACTORS[:sizes]]
    cpu, memory = [r["cpu_seconds"] for r in rows], [r["peak_mb"] for r in rows]
    return {
        "cpu_seconds": cpu,
        "seconds": [r["seconds"] for r in rows],
        "peak_mb": memory,
        "exponent": round(slope(work, cpu), 2),
        "exponent_last": round(slope(work[-2:], cpu[-2:]), 2),
        "memory_exponent": round(slope(work, memory), 2),
    }


def main() -> None:
    """Measure, print one line of JSON."""
    options = argparse.ArgumentParser(description="Time and memory against the work.")
    options.add_argument("--stages", nargs="*", default=list(STAGES), choices=STAGES)
    options.add_argument("--sizes", type=int, default=4, choices=[2, 3, 4])
    options.add_argument("--do", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.do:
        print(json.dumps(do(json.loads(given.do))))
        return
    found = {name: curve(name, given.sizes) for name in given.stages}
    emit(
        "scaling",
        work=[math.prod(f) for f in FACTORS[: given.sizes]],
        **found,
        worse_than_n_log_n=[k for k, v in found.items() if v.get("exponent_last", 0) > WORST],
        load=round(os.getloadavg()[0], 1),
    )


if __name__ == "__main__":
    main()
