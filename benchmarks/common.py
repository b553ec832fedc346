"""What all benchmarks share: the machine's facts, the line of JSON, and where it is kept.

What it is: `emit`. What it is not: any measurement.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import petavox

RESULTS = Path(os.environ.get("PETAVOX_BENCH_RESULTS", Path(__file__).parent / "results"))
"""Where the history is kept; trials set another folder."""


def data_folder() -> Path:
    """Where real data lie: PETAVOX_DATA, or ../shared/data beside the project."""
    root = Path(__file__).resolve().parent.parent
    return Path(os.environ.get("PETAVOX_DATA", root.parent / "shared" / "data"))


def processor() -> str:
    """The processor's name and the matrix instructions that matter for bf16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), "unknown")
    flags = set(next((x.split(":")[1] for x in lines if x.startswith("flags")), "").split())
    extra = [f for f in ("amx_bf16", "avx512_bf16", "avx512f") if f in flags]
    return f"{name} ({', '.join(extra)})"


def emit(name: str, **figures: Any) -> None:
    """Print one line of JSON, and append it to benchmarks/results/NAME.jsonl (the history)."""
    line = json.dumps(
        {
            "benchmark": name,
            **figures,
            "machine": f"{os.cpu_count()} cores, {processor()}",
            "petavox": petavox.__version__,
            "commit": _commit(),
            "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        default=str,
    )
    print(line, flush=True)
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{name}.jsonl", "a") as f:
        f.write(line + "\n")


def _commit() -> str:
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"
