"""Where objects start: seed points and their order.

What it is: pure functions from arrays to an (n, 3) int64 array of zyx points, in the order in
which they are tried. What it is not: a check of the points; the canvas skips what it may not use.

Source of `peaks`: Januszewski et al. 2018, Nature Methods 15:605, Methods ("Seeds").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max

_EDGE_SIGMA = 49.0 / 6.0  # voxels: edges are judged against their surroundings at this scale
_MIN_DISTANCE = 3  # voxels between two seeds
_TIE_NOISE = 1e-4  # in voxels; decides between equal distances, always in the same way
_TIE_SEED = 42


def peaks(
    image: np.ndarray,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Points farthest from any edge, sorted by z, y, x.

    Edges are where the Sobel gradient exceeds its own Gaussian smoothing; seeds are local maxima
    of the distance to them.

    image: (z, y, x), any grey scale.  voxel_size: nm, zyx (only ratios matter).  mask: (z, y, x)
    bool, True where no object may be; it counts as edge.
    """
    return _distance_peaks(_edges(image, _EDGE_SIGMA), voxel_size, mask)


def peaks_2d(
    image: np.ndarray,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """`peaks` of each section alone: for coarse z, or sections that do not line up."""
    found = []
    for z in range(image.shape[0]):
        section = slice(z, z + 1)
        edges = _edges(image[section], (0.0, _EDGE_SIGMA, _EDGE_SIGMA))
        points = _distance_peaks(edges, voxel_size, None if mask is None else mask[section])
        points[:, 0] += z
        found.append(points)
    return np.concatenate(found) if found else _none()


def fill_empty(
    segmentation: np.ndarray,
    voxel_size: Sequence[float] = (1.0, 1.0, 1.0),
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Points deepest inside what no object holds yet, sorted by z, y, x.

    segmentation: (z, y, x); voxels > 0 are taken.
    """
    return _distance_peaks(segmentation > 0, voxel_size, mask)


def grid(shape: Sequence[int], spacing: Sequence[int], first: Sequence[int]) -> np.ndarray:
    """A lattice of points: `first`, then every `spacing` voxels along each axis."""
    axes = [np.arange(f, n, s) for f, n, s in zip(first, shape, spacing, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.int64)


def reverse(points: np.ndarray) -> np.ndarray:
    """The same points tried from the last to the first (the second opinion of a consensus)."""
    return np.ascontiguousarray(points[::-1])


def _edges(image: np.ndarray, sigma: float | Sequence[float]) -> np.ndarray:
    gradient = ndimage.generic_gradient_magnitude(image.astype(np.float32), ndimage.sobel)
    return np.asarray(gradient > ndimage.gaussian_filter(gradient, sigma, mode="reflect"))


def _distance_peaks(
    edges: np.ndarray, voxel_size: Sequence[float], mask: np.ndarray | None
) -> np.ndarray:
    if edges.size == 0:
        return _none()
    if mask is not None:
        edges = edges | mask
    if not edges.any():
        # nothing to be far from: the distance would be undefined
        return _none()
    sharpest = min(voxel_size)
    sampling = [v / sharpest for v in voxel_size]
    distance = ndimage.distance_transform_edt(~edges, sampling=sampling).astype(np.float32)
    noise = np.random.RandomState(_TIE_SEED).random_sample(distance.shape) * _TIE_NOISE
    flat_z = edges.shape[0] == 1
    found = peak_local_max(
        distance + noise,
        min_distance=_MIN_DISTANCE,
        threshold_abs=0,
        threshold_rel=0,
        # a single section is all rim along z; excluding rims there would leave nothing
        exclude_border=(0, _MIN_DISTANCE, _MIN_DISTANCE) if flat_z else True,
    )
    # where wide edges meet, the tie noise has peaks of its own: at distance 0, no seeds
    found = found[distance[tuple(found.T)] > 0]
    return found[np.lexsort(found.T[::-1])].astype(np.int64)


def _none() -> np.ndarray:
    return np.zeros((0, 3), np.int64)
