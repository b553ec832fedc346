"""Small stacks of sections for the tests of align, render and qc."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage as ndi

from petavox import volume
from petavox.space import Box
from petavox.volume import opening


def tissue(n: int = 3, side: int = 200, seed: int = 1) -> np.ndarray:
    """Sections (n, side, side) uint8 of slowly changing texture, without a 0."""
    rng = np.random.default_rng(seed)
    field = ndi.gaussian_filter(rng.standard_normal((n, side, side)), (1.2, 2, 2))
    return (field / field.std() * 35 + 128).clip(1, 255).astype(np.uint8)


def saved(
    path: Path, values: np.ndarray, start: tuple[int, int, int] = (0, 0, 0), pixel: float = 8.0
) -> Path:
    """A complete image volume of `values` from voxel `start` on; pixels in nm."""
    target = volume.create(
        path, box=Box.of_shape(values.shape, start), voxel_size=(40, pixel, pixel),
        dtype=values.dtype, kind="image", chunk=(1, 64, 64), shard=(1, 64, 64),
    )  # fmt: skip
    target.write(target.box, values)
    opening.finish(target, {})
    return path
