"""Where a flood goes next.

What it is: the one place that knows the movement policy; the canvas, the batched driver and
training all ask it. What it is not: the queue, or what may forbid a move.

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods ("FFN inference").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from petavox.space import Zyx


class Move(NamedTuple):
    """A step worth taking: the logit found there, and the offset from the centre (zyx)."""

    score: float
    offset: Zyx


def moves(logits: np.ndarray, deltas: Zyx, threshold: float) -> list[Move]:
    """Steps worth taking from one field of view, best first.

    Looks at the six faces of the +-delta cube around the centre; on each, the best voxel is a
    move if its logit reaches `threshold`. Axes with delta 0 have no faces.

    logits: (z, y, x) float32, odd sides.  deltas: voxels.  threshold: a logit.
    """
    centre = [n // 2 for n in logits.shape]
    cube = logits[tuple(slice(c - d, c + d + 1) for c, d in zip(centre, deltas, strict=True))]
    found: set[Move] = set()
    for axis, delta in enumerate(deltas):
        if delta == 0:
            continue
        for side in (-delta, delta):
            face = np.take(cube, side + delta, axis=axis)
            best = np.unravel_index(int(face.argmax()), face.shape)
            score = float(face[best])
            if score < threshold:
                continue
            others = [int(p) - (n - 1) // 2 for p, n in zip(best, face.shape, strict=True)]
            others.insert(axis, side)
            found.add(Move(score, (others[0], others[1], others[2])))
    return sorted(found, reverse=True)


def quantised(point: Zyx, start: Zyx, deltas: Zyx) -> Zyx:
    """The cell of the visited lattice that holds `point`; `start` is in the middle of its own."""
    z, y, x = ((q - p + d // 2) // max(d, 1) for q, p, d in zip(point, start, deltas, strict=True))
    return (z, y, x)
