"""Walks: which fields of view the network is shown in one patch, in what order.

What it is: the three policies of training. `fixed` goes to the centre and then to the lattice of
+-deltas around it, ring by ring, in random order, wherever the CURRENT map is likely enough;
`fixed_window` accepts a place if any voxel near it is (thin processes); `max_pred_moves` follows
the policy of inference itself (petavox.ffn.moves).
What it is not: the map, or the network.

A walk's state is a small integer array, so that training resumes in the middle of a patch.

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods ("FFN training").
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from petavox.ffn.moves import moves, quantised
from petavox.settings import Settings, ZyxSetting
from petavox.space import Zyx, zyx


class WalkSettings(Settings):
    """How the network moves through a training patch."""

    policy: Literal["fixed", "fixed_window", "max_pred_moves"] = "fixed"
    moves: int = Field(1, ge=0, le=8)
    """Steps of deltas that lead from the centre to the rim; the patch is fov + 2 deltas moves."""
    window: ZyxSetting = (3, 3, 3)
    """fixed_window: radius in voxels, zyx, in which one likely voxel is enough."""
    most: int = Field(64, ge=1)
    """max_pred_moves: fields of view in one patch at most."""


def lattice(deltas: Zyx, steps: int) -> list[list[Zyx]]:
    """Offsets of the lattice around the centre by ring: [[26 of ring 1], [98 of ring 2], ...].

    Axes with delta 0 have one layer only.
    """
    axes = [range(-steps, steps + 1) if d else range(1) for d in deltas]
    rings: list[list[Zyx]] = [[] for _ in range(steps)]
    for place in itertools.product(*axes):
        ring = max(map(abs, place))
        if ring:
            rings[ring - 1].append(zyx([p * d for p, d in zip(place, deltas, strict=True)]))
    return rings


class Walk:
    """The fields of view of one patch: `offset` is where to predict now, None when it is over."""

    def __init__(
        self,
        settings: WalkSettings,
        fov: Zyx,
        deltas: Zyx,
        threshold: float,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.settings, self.fov, self.deltas, self.threshold = settings, fov, deltas, threshold
        self.offset: Zyx | None = (0, 0, 0)
        self.waiting: list[Zyx] = []
        self.visited: list[Zyx] = []
        if settings.policy != "max_pred_moves" and rng is not None:
            for ring in lattice(deltas, settings.moves):
                self.waiting += [ring[i] for i in rng.permutation(len(ring))]

    def stepped(self, canvas: np.ndarray) -> None:
        """The field of view at `offset` was predicted: choose the next one.

        canvas: (z, y, x) float32 logits of the whole patch after the step.
        """
        assert self.offset is not None
        self.visited.append(self.offset)
        if self.settings.policy == "max_pred_moves":
            self._follow(canvas, self.offset)
        else:
            self._choose(canvas)

    def _choose(self, canvas: np.ndarray) -> None:
        wide = self.settings.policy == "fixed_window"
        window = self.settings.window if wide else (0, 0, 0)
        while self.waiting:
            offset = self.waiting.pop(0)
            if self._around(canvas, offset, window).max() >= self.threshold:
                self.offset = offset
                return
        self.offset = None

    def _follow(self, canvas: np.ndarray, at: Zyx) -> None:
        here = self._around(canvas, at, zyx([f // 2 for f in self.fov]))
        self.waiting += [
            zyx([a + o for a, o in zip(at, move.offset, strict=True)])
            for move in moves(here, self.deltas, self.threshold)
        ]
        been = {quantised(v, (0, 0, 0), self.deltas) for v in self.visited}
        while self.waiting and len(self.visited) < self.settings.most:
            offset = self.waiting.pop(0)
            inside = all(
                abs(o) <= d * self.settings.moves for o, d in zip(offset, self.deltas, strict=True)
            )
            likely = self._around(canvas, offset, (0, 0, 0)).max() >= self.threshold
            if inside and likely and quantised(offset, (0, 0, 0), self.deltas) not in been:
                self.offset = offset
                return
        self.offset = None

    def _around(self, canvas: np.ndarray, offset: Zyx, radius: Sequence[int]) -> np.ndarray:
        z, y, x = (
            slice(max(n // 2 + o - r, 0), n // 2 + o + r + 1)
            for n, o, r in zip(canvas.shape, offset, radius, strict=True)
        )
        return canvas[z, y, x]

    # -- state -----------------------------------------------------------------------------

    def state(self) -> np.ndarray:
        """(n, 4) int64: rows of (kind, z, y, x); kind 0 now, 1 waiting, 2 visited."""
        rows = [(0, *self.offset)] if self.offset is not None else []
        rows += [(1, *p) for p in self.waiting] + [(2, *p) for p in self.visited]
        return np.array(rows, np.int64).reshape(-1, 4)

    def restore(self, rows: np.ndarray) -> None:
        """Take up a saved state."""
        points: list[list[Zyx]] = [[], [], []]
        for kind, *point in rows.tolist():
            points[kind].append(zyx(point))
        self.offset = points[0][0] if points[0] else None
        self.waiting, self.visited = points[1], points[2]
