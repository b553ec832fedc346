"""Connected components of voxels: objects where no network is needed.

What it is: one function on an array. What it is not: components of links (unionfind).
"""

from __future__ import annotations

import numpy as np


def components(values: np.ndarray, threshold: float | None, min_size: int) -> np.ndarray:
    """Face-connected components, uint32, numbered in raster order of their first voxel.

    values: (z, y, x).  threshold: voxels at or above it; None: of equal value, 0 = nothing.
    """
    from skimage.measure import label  # slow to load, and not needed by a flood

    if threshold is not None:
        found = label(values >= threshold, connectivity=1)
    else:
        _, place = np.unique(values, return_inverse=True)
        place = place.reshape(values.shape).astype(np.int32)
        background = int(place[values == 0][0]) if (values == 0).any() else -1
        found = label(place, background=background, connectivity=1)
    counts = np.bincount(found.ravel())
    keep = counts >= min_size
    keep[0] = False
    table = np.where(keep, np.cumsum(keep), 0).astype(np.uint32)
    return np.asarray(table[found])
