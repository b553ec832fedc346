"""Long stacks: drift, memory and time of the alignment, sections made when they are asked for.

    python -m benchmarks.align_long [--sections 50 100 200 500] [--side 512]

Tissue is a closed formula of aligned coordinates: membranes between the two largest of four sums
of plane waves whose phases swing with z, and grain that lives for about two sections. Each
section is seen through a known rotation, shift and wave. Told per stack: the error between
neighbours, drift against the first section (mean distance at a quarter, half and all of the
stack, and the change of scale), peak memory, CPU seconds; and the line through CPU seconds.
"""

from __future__ import annotations

import argparse
import resource
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import ndimage as ndi

from benchmarks.common import emit
from petavox.align import stack, warp
from petavox.align.frames import Field, Lattice
from petavox.align.texture import texture
from petavox.phantom.rng import uniform
from petavox.stages.threads import one_torch_thread

GRAIN = 1024


class Waves:
    """Sections of a formula, and what was done to them (petavox.align.matching.Source)."""

    def __init__(self, side: int, seed: int = 0) -> None:
        self.side, self.seed = side, seed
        u = uniform(seed, np.arange(4)[:, None, None], np.arange(10)[None, :, None], np.arange(4))
        angle, length = 2 * np.pi * u[..., 0], 45 + 90 * u[..., 1]
        self.k = 2 * np.pi / length[..., None] * np.stack([np.sin(angle), np.cos(angle)], -1)
        # phases swing, they do not run away: tissue has no drift of its own
        self.phase, self.turn = 2 * np.pi * u[..., 2], 2 * np.pi / (14 + 30 * u[..., 3])
        self._kept: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def truth(self, k: int) -> Field:
        """Section k -> aligned."""
        u = 2 * uniform(self.seed + 1, k, np.arange(3)) - 1
        t = np.deg2rad(2.0 * u[0])
        m = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
        c = np.full(2, self.side / 2)
        nodes = Lattice.covering((0, 0), (self.side, self.side), 170.0)
        bend = 2 * uniform(self.seed + 2, k, np.arange(2 * len(nodes.points))) - 1
        return Field(m, c - m @ c + 8 * u[1:], nodes, 3 * bend.reshape(*nodes.shape, 2))

    def grain(self, z: int) -> np.ndarray:
        """Grain that persists for about two sections, (GRAIN, GRAIN) float32, wraps."""

        def own(z: int) -> np.ndarray:
            rng = np.random.default_rng((self.seed, z + 10))
            return rng.standard_normal((GRAIN, GRAIN), np.float32)

        both = own(z) + 0.8 * own(z - 1) + 0.8 * own(z + 1)
        return ndi.gaussian_filter(both, 2.0, mode="wrap") * 9

    def image(self, k: int) -> np.ndarray:
        """Section k, (side, side) uint8."""
        axis = np.arange(self.side, dtype=float)
        u = self.truth(k).on_grid(axis, axis).astype(np.float32)
        fields = []
        for j in range(4):
            total = np.zeros(u.shape[:2], np.float32)
            for n in range(10):
                ky, kx = self.k[j, n]
                swing = 1.8 * np.sin(self.turn[j, n] * k + 3 * self.phase[j, n])
                phase = np.float32(self.phase[j, n] + swing)
                total += np.cos(np.float32(ky) * u[..., 0] + np.float32(kx) * u[..., 1] + phase)
            fields.append(total)
        order = np.sort(np.stack(fields), 0)
        margin = (order[-1] - order[-2]) / np.float32(2.2)
        grain = ndi.map_coordinates(self.grain(k), [u[..., 0], u[..., 1]], order=1, mode="wrap")
        seen = 160 + grain - 100 * np.exp(-((margin / 0.12) ** 2))
        noise = np.random.default_rng((self.seed, 7, k)).standard_normal(seen.shape) * 8
        return np.clip(seen + noise, 1, 255).astype(np.uint8)

    def shape(self, k: int) -> tuple[int, int]:
        """Pixels of a section."""
        return (self.side, self.side)

    def level(self, k: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
        """Averaged down; sections are kept as bytes."""
        with self._lock:
            held = self._kept.get(k)
        if held is None:
            held = self.image(k)
            with self._lock:
                self._kept[k] = held
                for old in [n for n in self._kept if n < k - 80]:
                    del self._kept[old]
        image, valid = warp.average_down(held, None, factor)
        return np.rint(image).astype(np.uint8), valid

    def texture(self, k: int, factor: int) -> np.ndarray:
        """The texture channel."""
        return texture(*self.level(k, factor))


def one(sections: int, side: int, threads: int) -> dict[str, Any]:
    """Align one stack and judge it."""
    source = Waves(side)
    making = time.process_time()
    for k in range(3):
        source.image(k)
    making = (time.process_time() - making) / 3 * sections
    began, cpu = time.monotonic(), time.process_time()
    with one_torch_thread(), ThreadPoolExecutor(threads) as pool:
        found = stack.align(source, range(sections), stack.AlignSettings(), run=pool.map)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    axis = np.arange(0.15 * side, 0.85 * side, 24.0)
    u = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    box = Lattice.covering((0, 0), (side, side), 12.0)
    at = {k: f(source.truth(k).inverse(box)(u)) for k, f in sorted(found.fields.items())}
    known = sorted(at)
    near = [np.linalg.norm(at[b] - at[a], axis=1).mean() for a, b in pairwise(known)]
    drift = {
        f"{k + 1}": round(float(np.linalg.norm(at[k] - at[0], axis=1).mean()), 2)
        for k in (sections // 4 - 1, sections // 2 - 1, sections - 1)
    }
    spread = [float(np.linalg.norm(p - p.mean(0), axis=1).mean()) for p in (at[0], at[known[-1]])]
    return {
        "failed": len(found.failures),
        "adjacent_px": round(float(np.mean(near)), 3),
        "drift_px": drift,
        "scale_change": round(spread[1] / spread[0] - 1, 5),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "of_which_making_sections": round(making, 1),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sections", type=int, nargs="+", default=[50, 100, 200, 500])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    took = []
    for n in given.sections:
        figures = one(n, given.side, given.threads)
        took.append(figures["cpu_seconds"])
        emit(
            "align_long",
            sections=n,
            side_px=given.side,
            **figures,
            memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        )
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
