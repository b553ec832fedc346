"""Voxels so near a truth boundary that the truth itself is uncertain there.

What it is: the mask for the boundary tolerance. Truths that fill all space place membranes
arbitrarily; a score that ignores the voxels near a boundary speaks of topology instead.
What it is not: a distance transform; only "within" is needed, so every offset within the radius
is compared. That is exact, and a block needs exactly `context` voxels around it.

>>> near_boundary(np.array([[[1, 1, 1, 1, 2, 2]]]), 2.0).tolist()
[[[False, False, True, True, True, True]]]
"""

from __future__ import annotations

import itertools
import math

import numpy as np

from petavox.errors import BadInput
from petavox.space import Zyx

ISOTROPIC = (1.0, 1.0, 1.0)
MOST = 8.0
"""The largest radius; the work grows with its cube."""


def context(radius: float, voxel_size: tuple[float, float, float] = ISOTROPIC) -> Zyx:
    """Voxels around a block that its mask depends on, zyx."""
    reach = radius * min(voxel_size)
    z, y, x = (math.floor(reach / s + 1e-9) for s in voxel_size)
    return (z, y, x)


def near_boundary(
    truth: np.ndarray, radius: float, voxel_size: tuple[float, float, float] = ISOTROPIC
) -> np.ndarray:
    """True where a voxel of another id lies within `radius`.

    truth: (z, y, x) ids; 0 is an id like any other here.  radius: in voxels of the sharpest axis,
    Euclidean, between voxel centres.  voxel_size: nm, zyx; 2 voxels at 40 x 4 x 4 nm are 8 nm,
    so neighbours in z do not count.  The edge of the array is no boundary.
    """
    if not 0 <= radius <= MOST:
        raise BadInput(f"the tolerance is {radius:g} voxels: give 0 to {MOST:g}.")
    near = np.zeros(truth.shape, bool)
    # narrow ids compare faster, and the comparison is all there is to do
    if truth.size and truth.dtype.itemsize == 8 and truth.max() < 2**32:
        truth = truth.astype(np.uint32)
    for offset in offsets(radius, voxel_size):
        here, there = _overlap(offset)
        differs = truth[here] != truth[there]
        near[here] |= differs
        near[there] |= differs
    return near


def offsets(radius: float, voxel_size: tuple[float, float, float] = ISOTROPIC) -> list[Zyx]:
    """Offsets within the radius, one of each opposite pair, without the zero offset."""
    reach = radius * min(voxel_size) * (1 + 1e-9)
    sides = [range(-n, n + 1) for n in context(radius, voxel_size)]
    found: list[Zyx] = []
    for z, y, x in itertools.product(*sides):
        far = math.hypot(z * voxel_size[0], y * voxel_size[1], x * voxel_size[2])
        if (z, y, x) > (0, 0, 0) and far <= reach:
            found.append((z, y, x))
    return found


def _overlap(offset: Zyx) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of an array and of the array moved by `offset`, where both exist."""
    here = tuple(slice(max(0, -o), -o if o > 0 else None) for o in offset)
    there = tuple(slice(max(0, o), o if o < 0 else None) for o in offset)
    return here, there
