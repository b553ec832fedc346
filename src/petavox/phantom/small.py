"""Small volumes for tests of other code: nothing symmetric, nothing round, all known.

What it is: arrays in which a swapped axis, a flipped axis, a lost offset or a merged label shows,
and hypothesis strategies for boxes and voxel sizes. What it is not: tissue.

>>> ramp((2, 3, 4))[1, 2, 3]
np.uint64(10203)
>>> sorted(np.unique(corner_labels((4, 5, 6))).tolist())
[1, 2, 3, 4]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from petavox.errors import BadInput, MissingExtra
from petavox.phantom.rng import hashed
from petavox.space import Box, VoxelSize

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def ramp(shape: Sequence[int], start: Sequence[int] = (0, 0, 0)) -> np.ndarray:
    """Voxels that say where they are: uint64 z * 10000 + y * 100 + x, coordinates from `start`.

    Coordinates must lie in 0..99, so that each voxel reads as its place in decimal.
    """
    if min(start) < 0 or max(s + n for s, n in zip(start, shape, strict=True)) > 100:
        raise BadInput(f"a ramp from {tuple(start)} of {tuple(shape)} leaves 0..99.")
    z, y, x = (np.arange(s, s + n, dtype=np.uint64) for s, n in zip(start, shape, strict=True))
    return z[:, None, None] * np.uint64(10000) + y[:, None] * np.uint64(100) + x


def speckle(
    shape: Sequence[int], seed: int, start: Sequence[int] = (0, 0, 0), dtype: Any = np.uint8
) -> np.ndarray:
    """Noise that is a function of the voxel's coordinates: blocks agree with the whole."""
    z, y, x = (np.arange(s, s + n) for s, n in zip(start, shape, strict=True))
    bits = 8 * np.dtype(dtype).itemsize
    return (hashed(seed, z[:, None, None], y[:, None], x) >> np.uint64(64 - bits)).astype(dtype)


def corner_labels(shape: Sequence[int]) -> np.ndarray:
    """Four bodies that no turn or flip maps on themselves: uint64, each connected.

    1 fills the volume but for: 2, a bar along z at the first corner; 3, a bar along half of y
    on the far x face; 4, the last voxel.
    """
    if min(shape) < 3:
        raise BadInput(f"shape {tuple(shape)} is too small: at least 3 voxels a side.")
    out = np.ones(tuple(shape), np.uint64)
    out[:-1, 0, 0] = 2
    out[0, : shape[1] // 2 + 1, -1] = 3
    out[-1, -1, -1] = 4
    return out


def cells(
    shape: Sequence[int], number: int, seed: int, voxel_size: Sequence[float] = (1.0, 1.0, 1.0)
) -> np.ndarray:
    """Voronoi cells of random points, in nm: uint64 labels 1..number; convex, so each connected."""
    n = np.array(shape)
    size = np.array(list(VoxelSize.of(tuple(voxel_size))))
    u = hashed(seed, np.arange(number)[:, None], np.arange(3)[None]) >> np.uint64(11)
    points = u * 2.0**-53 * n * size
    at = np.stack(np.meshgrid(*[np.arange(m) for m in n], indexing="ij"), -1) * size
    best = np.full(tuple(shape), np.inf)
    out = np.zeros(tuple(shape), np.uint64)
    for i, p in enumerate(points):
        d = ((at - p) ** 2).sum(-1)
        out[d < best] = i + 1
        best = np.minimum(best, d)
    return out


def boxes(max_side: int = 12, reach: int = 40, *, empty: bool = False) -> SearchStrategy[Box]:
    """Boxes of odd shapes at offsets of any sign (hypothesis); `empty`: also without voxels."""
    st = _strategies()
    side = st.integers(0 if empty else 1, max_side)
    corner = st.integers(-reach, reach)
    return st.builds(
        lambda s, n: Box.of_shape(n, s),
        st.tuples(corner, corner, corner),
        st.tuples(side, side, side),
    )


def voxel_sizes() -> SearchStrategy[VoxelSize]:
    """Voxel sizes as microscopes give them, isotropic and not (hypothesis)."""
    st = _strategies()
    z = st.sampled_from([4.0, 8.0, 30.0, 40.0, 50.0])
    yx = st.sampled_from([4.0, 4.6, 8.0, 16.0])
    return st.builds(lambda a, b: VoxelSize(a, b, b), z, yx)


def _strategies() -> Any:
    try:
        import hypothesis.strategies
    except ImportError:
        raise MissingExtra("hypothesis is not installed: pip install hypothesis.") from None
    return hypothesis.strategies
