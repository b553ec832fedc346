"""Partitions: how much of its surroundings an object fills, in thirteen classes.

What it is: the share f of a voxel's object in the box of radius fov // 2 + deltas around it, and
the class that f falls in. Drawing a class first and a voxel in it second shows the network thin
axons and thick trunks equally often. What it is not: the drawing (petavox.ffn.examples).

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods ("FFN training").
"""

from __future__ import annotations

import numpy as np

from petavox.space import Zyx

BOUNDS = (0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Upper bounds of all partitions but the last; a share equal to a bound is in the class above."""
PARTITIONS = len(BOUNDS) + 1


def partition_of(share: np.ndarray | float) -> np.ndarray:
    """The class, 0 to 12, of shares between 0 and 1."""
    return np.searchsorted(np.asarray(BOUNDS), np.asarray(share), side="right")


def shares(labels: np.ndarray, points: np.ndarray, radius: Zyx) -> np.ndarray:
    """Share of each point's own object in the box of +-radius around it.

    labels: (z, y, x) integers.  points: (n, 3) int, zyx, at least `radius` from every rim.
    Returns (n,) float64 in (0, 1].
    """
    size = (2 * np.asarray(radius) + 1).prod()
    out = np.empty(len(points))
    for i, (z, y, x) in enumerate(points.tolist()):
        around = labels[
            z - radius[0] : z + radius[0] + 1,
            y - radius[1] : y + radius[1] + 1,
            x - radius[2] : x + radius[2] + 1,
        ]
        out[i] = np.count_nonzero(around == labels[z, y, x]) / size
    return out
