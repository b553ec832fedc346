"""How far the floods of some blocks are, told to whoever runs the blocks.

What it is: a watcher of canvases, and of lanes, that looks at them every few seconds: counting
costs more than a step of a fast device. What it is not: the bar that shows it
(petavox.blocks.runner).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from petavox.ffn.batched import LockStep
from petavox.ffn.canvas import Canvas
from petavox.ffn.growth import Growth
from petavox.stages.flood_watch import settled


class Steps:
    """Told after every step; tells the share of seeds that start nothing any more, and counts.

    tell: takes a share 0..1 and words.  blocks: of the whole work, one after another or together.
    every: seconds between two looks.
    """

    def __init__(
        self, tell: Callable[[float, str], None], blocks: int, *, every: float = 2.0
    ) -> None:
        self.tell, self.blocks, self.every = tell, blocks, every
        self._canvases: list[Canvas] = []
        self._told = time.monotonic()

    def stepped(self, canvas: Canvas, growth: Growth) -> None:
        """A field of view of this canvas was predicted; those of earlier canvases are finished."""
        if not self._canvases or self._canvases[-1] is not canvas:
            self._canvases.append(canvas)
        if self._due():
            share = settled(canvas) / max(len(canvas.seeds), 1)
            self._say(len(self._canvases) - 1 + share, self._canvases)

    def together(self, driver: LockStep) -> None:
        """All lanes made a step."""
        if self._due():
            self._say(driver.settled() * len(driver.homes), [h.canvas for h in driver.homes])

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._told < self.every:
            return False
        self._told = now
        return True

    def _say(self, blocks: float, canvases: list[Canvas]) -> None:
        fovs = sum(c.counters["fovs"] for c in canvases)
        objects = sum(len(c.origins) for c in canvases)
        self.tell(blocks / self.blocks, f"{fovs:,} FOVs, {objects:,} objects")
