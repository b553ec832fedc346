"""One flood followed while it runs: its checkpoints, its progress, its time in the network.

What it is: the watcher that a flood tells of every step, and the count of what is left to do. What
it is not: the checkpoint's content (petavox.stages.unfinished), or a watcher of many blocks
(petavox.stages.flood_steps).
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from petavox.ffn.canvas import Canvas
from petavox.ffn.growth import Growth
from petavox.ffn.predictor import Predictor
from petavox.progress import Progress
from petavox.stages.unfinished import save_state

_SHOW_EVERY = 0.5
"""Seconds: counting the settled seeds costs more than a step of a fast device."""


class Timed:
    """A predictor that adds up the seconds and calls spent inside it."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.seconds, self.calls = predictor, 0.0, 0

    def __call__(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """One field of view; see Predictor."""
        started = time.perf_counter()
        out = self.predictor(image, seed)
        self.seconds += time.perf_counter() - started
        self.calls += 1
        return out


class Watcher:
    """Shows a flood's progress, and saves its state now and then."""

    def __init__(self, file: Path, every: float, voxels: int, quiet: bool) -> None:
        self.file, self.every, self.voxels = file, every, voxels
        self.progress = Progress("flood", total=None, unit="seed", quiet=quiet)
        self._saved = self._started = time.monotonic()
        self._fovs, self._shown = 0, 0.0

    def stepped(self, canvas: Canvas, growth: Growth) -> None:
        """A field of view was predicted."""
        now = time.monotonic()
        self._fovs += 1
        if self._fovs == 1:
            self.progress.total = len(canvas.seeds)
            self.progress.resume_at(settled(canvas))
        if now - self._shown >= _SHOW_EVERY:
            self._shown = now
            self.show(canvas)
        if now - self._saved >= self.every:
            save_state(self.file, canvas)
            self._saved = time.monotonic()

    def show(self, canvas: Canvas) -> None:
        """How far it is."""
        self.progress.to(
            settled(canvas),
            objects=str(len(canvas.origins)),
            filled=f"{100 * canvas.counters['voxels'] / self.voxels:.1f} %",
            FOV_per_s=self._fovs / max(time.monotonic() - self._started, 1e-9),
        )


def settled(canvas: Canvas) -> int:
    """Seeds that will start nothing any more: tried, or inside an object.

    Few seeds are tried while the large objects grow, and most never are, so that their count
    alone would promise days; these go up with the filled volume.
    """
    z, y, x = canvas.seeds.T
    inside = canvas.segmentation[z, y, x] != 0
    inside[: canvas.next_seed] = True
    return int(np.count_nonzero(inside))
