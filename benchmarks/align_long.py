"""Long stacks: drift, memory and time of `petavox align`.

    python -m benchmarks.align_long [--sections 50 100 200 500] [--side 512] [--keep DIR]

Sections of phantom tissue (8 x 8 x 40 nm) are made one by one, each turned by up to 3 degrees,
shifted by up to 30 px, scaled by up to 1 % and bent by 8 px, and written into one volume per stack.
Every stack is aligned in a process of its own. Told per stack: the error between neighbours; drift
against the first section (mean distance at a quarter, half and all of the stack), what of it is
left after a rigid motion, and the change of scale; CPU seconds; the most memory that the process
held. At the end the line through CPU seconds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import emit
from petavox import volume
from petavox.phantom import TileSet, TileSettings
from petavox.space import Box
from petavox.volume import opening


def settings(sections: int, side: int, seed: int) -> TileSettings:
    """One tile per section, that is all of it."""
    return TileSettings(
        sections=sections, grid=(1, 1), tile=(side, side), overlap=0, jitter=0.0, lens=0.0,
        seed=seed,
    )  # fmt: skip


def write(place: Path, made: TileSettings, counts: list[int]) -> float:
    """Write the first n sections as PLACE/n.zarr for each n of `counts`; gives CPU seconds."""
    began = time.process_time()
    tiles, s = TileSet(made), made
    into = {
        n: volume.create(
            place / f"{n}.zarr", box=Box((0, 0, 0), (n, *s.tile)), dtype=np.uint8, kind="image",
            voxel_size=(s.thickness_nm, s.pixel_nm, s.pixel_nm), chunk=(1, 512, 512),
            shard=(1, 512, 512),
        )
        for n in counts
    }  # fmt: skip
    for k in range(max(counts)):
        image = tiles.tile(k, 0)
        for n, out in into.items():
            if k < n:
                out.write(Box((k, 0, 0), (k + 1, *s.tile)), image[None])
    for out in into.values():
        opening.finish(out, {"stage": "benchmark"})
    return time.process_time() - began


def one(place: Path, made: TileSettings, sections: int, threads: int) -> dict[str, Any]:
    """Align the stack of so many sections and judge it."""
    from petavox.phantom.tile_layout import layout
    from petavox.stages import align

    began, cpu = time.monotonic(), time.process_time()
    found = align.run(
        place / f"{sections}.zarr",
        place / f"{sections}.aligned",
        align.AlignStageSettings(threads=threads),
        overwrite=True,
    )
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    fields = align.read_fields(place / f"{sections}.aligned", made.pixel_nm)
    axis = [np.arange(0.15 * n, 0.85 * n, 24.0) for n in made.tile]
    u = np.stack(np.meshgrid(*axis, indexing="ij"), -1).reshape(-1, 2)
    warps = layout(made).warps
    at = {k: f(warps[k].aligned_to_section(u)) for k, f in sorted(fields.items())}
    near = [np.linalg.norm(at[b] - at[a], axis=1).mean() for a, b in pairwise(sorted(at))]
    looked = (sections // 4 - 1, sections // 2 - 1, sections - 1)
    return {
        "failed": len(found["failed"]),
        "adjacent_px": round(float(np.mean(near)), 3),
        "adjacent_worst_pair_px": round(float(np.max(near)), 3),
        "drift_px": {k + 1: _mean(at[k] - at[0]) for k in looked},
        "bent_px": {k + 1: _mean(_rigid(at[k], at[0]) - at[0]) for k in looked},
        "scale_change": round(_size(at[sections - 1]) / _size(at[0]) - 1, 5),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
    }


def _mean(gaps: np.ndarray) -> float:
    return round(float(np.linalg.norm(gaps, axis=1).mean()), 2)


def _size(points: np.ndarray) -> float:
    return float(np.linalg.norm(points - points.mean(0), axis=1).mean())


def _rigid(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Points turned and shifted to lie nearest to others (Procrustes)."""
    a, b = points - points.mean(0), onto - onto.mean(0)
    u, _, vt = np.linalg.svd(a.T @ b)
    return np.asarray(a @ (u @ vt) + onto.mean(0))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sections", type=int, nargs="+", default=[50, 100, 200, 500])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the stacks, kept and used again")
    given = parser.parse_args()
    made = settings(max(given.sections), given.side, given.seed)
    took = []
    with tempfile.TemporaryDirectory() as scratch:
        place = given.keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        left = [n for n in given.sections if not (place / f"{n}.zarr").exists()]
        if left:
            emit("align_long", made=max(left), of_cpu_seconds=round(write(place, made, left), 1))
        for n in given.sections:
            apart = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=apart) as pool:
                figures = pool.submit(one, place, made, n, given.threads).result()
            took.append(figures["cpu_seconds"])
            emit("align_long", sections=n, side_px=given.side, **figures)
    if len(took) > 1:
        slope, start = np.polyfit(given.sections, took, 1)
        off = np.polyval([slope, start], given.sections) - took
        emit(
            "align_long",
            fit_cpu_seconds_per_section=round(float(slope), 3),
            fit_start_seconds=round(float(start), 2),
            fit_worst_off_share=round(float(np.max(np.abs(off) / took)), 3),
        )


if __name__ == "__main__":
    main()
