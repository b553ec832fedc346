"""Stitching, alignment and rendering of sections with exact truth.

    PETAVOX_ALIGN_BENCH=FOLDER python -m benchmarks.align [--seeds 0 1 2] [--python PY] [--keep DIR]

FOLDER holds gen_sections.py (makes tiles and truth; needs opencv, so PY may be another Python) and
metrics.py (seam, adjacent, span). Default: ../bench/align beside the folder of real data. Sets:
seed 1 is the hard one (larger distortion, more noise, more jitter), the others are plain.
"""

from __future__ import annotations

import argparse
import importlib
import os
import resource
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import data_folder, emit
from petavox.align import field_file
from petavox.stages import align, render, stitch

HARD = ["--elastic", "12", "--esigma", "350", "--noise", "18", "--overlap", "90", "--jitter", "10"]


def folder() -> Path:
    """Where the generator and the metrics lie."""
    return Path(os.environ.get("PETAVOX_ALIGN_BENCH", data_folder().parent / "bench" / "align"))


def made(place: Path, seed: int, python: str) -> Path:
    """The tiles of one seed, generated if they are not there."""
    out = place / f"seed{seed}"
    if not (out / "truth.npz").exists():
        more = HARD if seed == 1 else []
        script = str(folder() / "gen_sections.py")
        subprocess.run(
            [python, "-W", "ignore", script, str(out), "--seed", str(seed), *more],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return out


def one(tiles: Path, out: Path, threads: int) -> dict[str, Any]:
    """Run all three stages on one set; seconds of each, CPU seconds, and errors in pixels."""
    cpu = time.process_time()
    seconds, started = {}, time.perf_counter()
    stitch.run(
        tiles / "stitch" / "stitch_coord",
        out / "stitched",
        stitch.StitchStageSettings(threads=threads, pyramid=False),
        overwrite=True,
    )
    seconds["stitch"] = time.perf_counter() - started
    align.run(
        out / "stitched",
        out / "aligned",
        align.AlignStageSettings(threads=threads),
        overwrite=True,
    )
    seconds["align"] = time.perf_counter() - started - sum(seconds.values())
    render.run(
        out / "stitched",
        out / "aligned",
        out / "volume.zarr",
        render.RenderSettings(threads=threads),
        overwrite=True,
    )
    seconds["render"] = time.perf_counter() - started - sum(seconds.values())
    return {
        **errors(tiles, out),
        "seconds": {k: round(v, 1) for k, v in seconds.items()},
        "seconds_total": round(sum(seconds.values()), 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def errors(tiles: Path, out: Path) -> dict[str, Any]:
    """Seam, adjacent and span against the truth, full-resolution pixels: [mean, p95]."""
    sys.path.insert(0, str(folder()))
    # the generator's module, which metrics imports for the truth, needs opencv only to generate
    sys.modules.setdefault("cv2", types.ModuleType("cv2"))
    metrics = importlib.import_module("metrics")
    truth = metrics.Truth(str(tiles))
    pixel = truth.meta["res"]
    of_tile = [
        {
            n: f.scaled(1 / pixel)
            for n, f in field_file.load(out / f"stitched/transforms/section_{k:05d}.npz").items()
        }
        for k in range(truth.nz)
    ]
    of_section = align.read_fields(out / "aligned", pixel)

    def to_section(k: int, i: int, p: np.ndarray) -> np.ndarray:
        return of_tile[k][f"t{i:02d}.png"](np.asarray(p)[:, ::-1])[:, ::-1]

    def to_volume(k: int, s: np.ndarray) -> np.ndarray:
        return of_section[k](s[:, ::-1])[:, ::-1]

    seams = metrics.stitch_metrics(truth, to_section)
    found = metrics.align_metrics(truth, to_section, to_volume)

    def pair(values: dict[str, float]) -> list[float]:
        return [round(values["mean"], 3), round(values["p95"], 3)]

    return {
        "seam_px": pair(seams["seam"]),
        "adjacent_px": pair(found["adj"]),
        "span_px": pair(found["span"]),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--python", default=sys.executable, help="Python with opencv")
    parser.add_argument("--keep", type=Path, help="folder of the generated sets, kept")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = given.keep or Path(scratch)
        for seed in given.seeds:
            tiles = made(place, seed, given.python)
            figures = one(tiles, Path(scratch) / f"run{seed}", given.threads)
            emit(
                "align",
                set=f"seed {seed}{', hard' if seed == 1 else ''}",
                options=" ".join(HARD) if seed == 1 else "",
                **figures,
                memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
                load_average=round(os.getloadavg()[0], 1),
            )


if __name__ == "__main__":
    main()
