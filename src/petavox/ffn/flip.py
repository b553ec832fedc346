"""A flood of the mirrored image: all that goes in is mirrored, and all that came out mirrored back.

A network is not quite the same seen in a mirror, and seeds come in another order, so that the pass
is wrong in other places: for a consensus (petavox.segment.ensemble).

What it is: mirroring of a flood's inputs and of a finished canvas. What it is not: a flood.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from petavox.ffn.canvas import Canvas
from petavox.ffn.restrict import Restrictor
from petavox.space import Zyx, zyx


def mirrored(array: np.ndarray, axes: str) -> np.ndarray:
    """The array along whose axes (letters of zyx, its last three) the order is reversed."""
    reverse = tuple(array.ndim - 3 + "zyx".index(a) for a in axes)
    return np.ascontiguousarray(np.flip(array, reverse))


def mirrored_points(points: np.ndarray, shape: Sequence[int], axes: str) -> np.ndarray:
    """(n, 3) zyx voxels of an array of this shape, where they lie in the mirrored one."""
    out = np.array(points, np.int64).reshape(-1, 3)
    for axis in ("zyx".index(a) for a in axes):
        out[:, axis] = shape[axis] - 1 - out[:, axis]
    return out


def mirrored_restrictor(restrictor: Restrictor, axes: str) -> Restrictor:
    """The same restrictions on the mirrored image."""

    def turned(array: np.ndarray | None) -> np.ndarray | None:
        return None if array is None else mirrored(array, axes)

    return dataclasses.replace(
        restrictor,
        mask=turned(restrictor.mask),
        seed_mask=turned(restrictor.seed_mask),
        # a displacement counts by its length alone, so its sign may stay
        shift=turned(restrictor.shift),
    )


def mirror_back(canvas: Canvas) -> None:
    """Turn labels, probabilities, seeds and origins of a finished flood to the image's axes."""
    axes = canvas.settings.flip
    if not axes:
        return
    canvas.image = mirrored(canvas.image, axes)
    canvas.segmentation = mirrored(canvas.segmentation, axes)
    canvas.seed = mirrored(canvas.seed, axes)
    if canvas.probability is not None:
        canvas.probability = mirrored(canvas.probability, axes)
    if canvas.leaked is not None:
        canvas.leaked = mirrored(canvas.leaked, axes)
    canvas.seeds = mirrored_points(canvas.seeds, canvas.shape, axes)
    canvas.origins = {
        i: dataclasses.replace(o, seed=_place(o.seed, canvas.shape, axes))
        for i, o in canvas.origins.items()
    }


def _place(seed: Zyx, shape: Zyx, axes: str) -> Zyx:
    return zyx(mirrored_points(np.array([seed]), shape, axes)[0].tolist())
