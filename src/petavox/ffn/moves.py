"""Where a flood goes next.

What it is: the one place that knows the movement policy; the canvas, the batched driver and
training all ask it. Each question has two forms with one meaning: arrays of one field of view, and
tensors of many on their device. What it is not: the queue, or what may forbid a move.

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods ("FFN inference").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

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


def moves_of_many(logits: Tensor, deltas: Zyx, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """`moves` of several fields of view at once, on their device.

    logits: (n, z, y, x) float32, odd sides.  Returns scores (n, k), offsets (n, k, 3) int64 and
    whether each is a move (n, k) bool; k = 6, less where deltas are 0; a row's moves best first.
    """
    centre = [n // 2 for n in logits.shape[1:]]
    inside = [slice(c - d, c + d + 1) for c, d in zip(centre, deltas, strict=True)]
    cube = logits[:, inside[0], inside[1], inside[2]]
    scores, offsets = [], []
    for axis, delta in enumerate(deltas):
        if delta == 0:
            continue
        for side in (-delta, delta):
            face = cube.select(1 + axis, side + delta)
            height, width = face.shape[1:]
            best = face.flatten(1).argmax(1, keepdim=True)  # the first, as NumPy's
            scores.append(face.flatten(1).gather(1, best))
            places = [
                torch.div(best, width, rounding_mode="floor") - (height - 1) // 2,
                best % width - (width - 1) // 2,
            ]
            places.insert(axis, torch.full_like(best, side))
            offsets.append(torch.stack(places, -1))
    score, offset = torch.cat(scores, 1), torch.cat(offsets, 1)
    # by offset, then stably by score: the order of tuples (score, offset), largest first
    base = 2 * max(deltas) + 1
    key = (offset[..., 0] * base + offset[..., 1]) * base + offset[..., 2]
    order = key.sort(dim=1, descending=True, stable=True).indices
    by_score = score.gather(1, order).sort(dim=1, descending=True, stable=True).indices
    order = order.gather(1, by_score)
    score, key = score.gather(1, order), key.gather(1, order)
    offset = offset.gather(1, order.unsqueeze(-1).expand(-1, -1, 3))
    worth = score >= threshold
    worth[:, 1:] &= key[:, 1:] != key[:, :-1]  # an edge's voxel is the best of two faces
    return score, offset, worth


def quantised_many(points: Tensor, starts: Tensor, deltas: Zyx) -> Tensor:
    """`quantised` of many points (..., 3) with their starts (..., 3), int64."""
    step = torch.tensor([max(d, 1) for d in deltas], device=points.device)
    half = torch.tensor([d // 2 for d in deltas], device=points.device)
    return torch.div(points - starts + half, step, rounding_mode="floor")
