"""How fast phantom tissue and tiles are made, and how they compare with real sections.

    python -m benchmarks.phantom            # 128^3, 256^3, one section of tiles
    python -m benchmarks.phantom --quick    # 128^3 only

What it is: one line of JSON: seconds of one process (its own processor time, and by the clock),
peak memory, and grey levels beside fib25/training_sample2 where that is at hand.
What it is not: a test.
"""

from __future__ import annotations

import argparse
import resource
import time

import h5py
import numpy as np

from benchmarks.common import data_folder, emit
from petavox.phantom import TileSet, TileSettings, tissue
from petavox.space import Box


def timed(work):
    """Result, processor seconds, clock seconds."""
    cpu, clock = time.process_time(), time.monotonic()
    result = work()
    return result, round(time.process_time() - cpu, 2), round(time.monotonic() - clock, 2)


def greys(image: np.ndarray) -> dict[str, float]:
    """Mean, spread, quantiles, and correlation of neighbours along x."""
    a = image.astype(float)
    q = [round(float(v), 1) for v in np.percentile(a, (1, 5, 25, 50, 75, 95, 99))]
    near = float(np.corrcoef(a[:, :, :-1].ravel(), a[:, :, 1:].ravel())[0, 1])
    return {"mean": round(a.mean(), 1), "std": round(a.std(), 1), "q": q, "next": round(near, 3)}


def main() -> None:
    """Measure and emit."""
    p = argparse.ArgumentParser()
    p.add_argument("--quick", action="store_true")
    quick = p.parse_args().quick
    figures: dict[str, object] = {}
    for n, seed in ((128, 11),) if quick else ((128, 11), (256, 12)):
        t, cpu, clock = timed(lambda n=n, s=seed: tissue(Box.of_shape((n,) * 3), (8, 8, 8), s))
        figures[f"tissue_{n}_cpu_s"], figures[f"tissue_{n}_clock_s"] = cpu, clock
        figures[f"tissue_{n}_neurites"] = len(np.unique(t.labels))
        figures[f"tissue_{n}_synapses"] = len(t.synapses)
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if not quick:
        tiles = TileSet(TileSettings(seed=13))
        (_, image), cpu, clock = timed(lambda: tiles.aligned(0))
        figures["section_megapixels"] = round(image.size / 1e6, 2)
        figures["section_cpu_s"], figures["section_clock_s"] = cpu, clock
        tiles.tile(0, 0)
        _, cpu, clock = timed(lambda: tiles.tile(0, 1))
        figures["tile_900_cpu_s"] = cpu
        t = tissue(Box.of_shape((40, 250, 250)), (10, 10, 10), 5)
        figures["phantom_greys"] = greys(t.image)
        real = data_folder() / "fib25" / "training_sample2.h5"
        if real.exists():
            with h5py.File(real) as f:
                figures["fib25_greys"] = greys(f["raw"][:40])
    emit("phantom", **figures)


if __name__ == "__main__":
    main()
