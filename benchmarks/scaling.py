"""How time and memory of each stage grow with the work: x1, x2, x4, x8.

    python -m benchmarks.scaling [--stages phantom score ...] [--sizes 4] [--seconds 600]

What it is: the commands of petavox (benchmarks.scaling_stages) on one, two, four and eight times
the work, each in a process of its own; a line for each stage (benchmarks.table draws them).
Processor seconds are fitted by a power of the work; `exponent_last` is that of the last doubling
alone, where what is constant counts least. n log n on these sizes is about 1.06, and figures of
small work scatter, so a stage whose last doubling is above 1.25 is called `worse_than_n_log_n`.
Memory is the peak of the process, what importing takes (`before_mb`) included; `import` and
`export` fill up to `--memory-mb` (1024). Stages that do not begin within `--seconds` are told, not
run; those measured longest ago come first.
What it is not: the scale of petavoxels (benchmarks.scale projects that).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import RESULTS, emit
from benchmarks.scaling_stages import CHAINS, Commands

FACTORS = ((1, 1, 1), (1, 1, 2), (1, 2, 2), (2, 2, 2))
WORST = 1.25


MODULES = {"import": "volume.transfer", "export": "volume.export", "train": "ffn.trainer"}
"""Where a command's work is, if not in the stage of its name."""


def do(commands: Commands, measured: int) -> list[dict[str, float]]:
    """Run commands in this process; figures of the last `measured`."""
    from typer.testing import CliRunner

    from petavox.cli.app import COMMANDS, app

    found = []
    for words in commands:
        # what importing takes is not the stage's
        importlib.import_module(f"petavox.cli.{COMMANDS[words[0]][0]}")
        importlib.import_module("petavox." + MODULES.get(words[0], f"stages.{words[0]}"))
        if words[0] == "segment":
            importlib.import_module("petavox.stages.blockwise_segment")
        began, cpu, before = time.perf_counter(), _cpu(), _memory()
        done = CliRunner().invoke(app, words)
        if done.exit_code:
            raise SystemExit(f"petavox {' '.join(words)}: {done.output[-300:]} {done.exception!r}")
        found.append(
            {
                "seconds": round(time.perf_counter() - began, 2),
                "cpu_seconds": round(_cpu() - cpu, 2),
                "peak_mb": round(_memory("VmHWM")),
                "before_mb": round(before),
            }
        )
        with contextlib.suppress(OSError):  # the next command's peak begins anew
            Path("/proc/self/clear_refs").write_text("5")
    return found[-measured:]


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _memory(which: str = "VmRSS") -> float:
    """MiB, now or at most (VmHWM); ru_maxrss would begin with the parent's peak."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return float(next(x.split()[1] for x in lines if x.startswith(which))) / 1024
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def slope(work: list[int], cost: list[float]) -> float:
    """The exponent of a power law through the points."""
    return float(np.polyfit(np.log(work), np.log(np.maximum(cost, 1e-3)), 1)[0])


def fitted(work: list[int], rows: list[dict[str, float]]) -> dict[str, Any]:
    """A stage's figures from those of each size."""
    cpu, memory = [r["cpu_seconds"] for r in rows], [r["peak_mb"] for r in rows]
    last = round(slope(work[-2:], cpu[-2:]), 2)
    return {
        "work": work,
        "cpu_seconds": cpu,
        "wall_seconds": [r["seconds"] for r in rows],
        "peak_mb": memory,
        "before_mb": rows[0]["before_mb"],
        "exponent": round(slope(work, cpu), 2),
        "exponent_last": last,
        "memory_exponent": round(slope(work, memory), 2),
        "worse_than_n_log_n": last > WORST,
    }


def curves(names: tuple[str, ...], sizes: int) -> dict[str, dict[str, Any]]:
    """The stages of a chain at each size."""
    rows: list[list[dict[str, float]]] = []
    for factor in FACTORS[:sizes]:
        with tempfile.TemporaryDirectory() as folder:
            commands = json.dumps(CHAINS[names](factor, Path(folder)))
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "benchmarks.scaling", "--do", commands,
                 "--measured", str(len(names))],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
        if done.returncode:
            why = (done.stderr.strip() or "died").splitlines()[-1][:300]
            return {name: {"not_measured": why} for name in names}
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
    work = [math.prod(f) for f in FACTORS[:sizes]]
    return {name: fitted(work, [r[i] for r in rows]) for i, name in enumerate(names)}


def newest(results: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """The newest curve of each stage that has one."""
    file = results / "scaling.jsonl"
    lines = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return {x["stage"]: x for x in lines if "cpu_seconds" in x}


def draw(shown: dict[str, dict[str, Any]], picture: Path) -> None:
    """Processor seconds and memory of each stage, both axes doubling."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    drawn, (time_, memory) = pyplot.subplots(1, 2, figsize=(11, 5))
    colours = pyplot.get_cmap("tab20")
    for i, (name, c) in enumerate(sorted(shown.items())):
        style = {"marker": "o", "markersize": 3, "linewidth": 1, "color": colours(i % 20)}
        seconds = np.array(c["cpu_seconds"])
        label = f"{name} {c['exponent_last']:.2f}" + (" !" if c["worse_than_n_log_n"] else "")
        time_.plot(c["work"], seconds / seconds[0], label=label, **style)
        memory.plot(c["work"], c["peak_mb"], **style)
    work = np.array([1, 2, 4, 8])
    time_.plot(work, work, color="black", linewidth=1, linestyle="--", label="n")
    time_.plot(work, work**WORST, color="black", linewidth=1, linestyle=":", label=f"n^{WORST}")
    time_.set_ylabel("processor time over that of the smallest work")
    memory.set_ylabel("peak memory, MB")
    for axis in (time_, memory):
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        axis.set_xticks(work, [f"x{n}" for n in work])
        axis.set_xlabel("work")
        axis.grid(alpha=0.3)
    time_.legend(fontsize=6, ncols=2)
    drawn.tight_layout()
    picture.parent.mkdir(parents=True, exist_ok=True)
    drawn.savefig(picture, dpi=90, metadata={"Software": None})
    pyplot.close(drawn)


def main() -> None:
    """Measure, print one line of JSON for each stage."""
    options = argparse.ArgumentParser(description="Time and memory against the work.")
    known = [name for names in CHAINS for name in names]
    options.add_argument("--stages", nargs="*", default=known, choices=known)
    options.add_argument("--sizes", type=int, default=4, choices=[2, 3, 4])
    options.add_argument("--seconds", type=float, default=600, help="no stage begins after these")
    options.add_argument("--do", help=argparse.SUPPRESS)
    options.add_argument("--measured", type=int, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.do:
        print(json.dumps(do(json.loads(given.do), given.measured)))
        return
    began = time.monotonic()
    past = {name: line["when"] for name, line in newest().items()}
    # what was measured longest ago comes first, so that runs cut short measure all in turn
    for names in sorted(CHAINS, key=lambda names: min(past.get(n, "") for n in names)):
        if not set(names) & set(given.stages):
            continue
        late = time.monotonic() - began > given.seconds
        why = {"not_measured": "out of time"}
        found = dict.fromkeys(names, why) if late else curves(names, given.sizes)
        for name, figures in found.items():
            emit("scaling", stage=name, **figures, load=round(os.getloadavg()[0], 1))


if __name__ == "__main__":
    main()
