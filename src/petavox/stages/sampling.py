"""Read one volume on the voxels of another.

What it is: nearest-voxel sampling by position in nm, for masks and fields that are kept at a
coarser voxel size than the image. What it is not: interpolation; never use it on grey values.
"""

from __future__ import annotations

import numpy as np

from petavox.errors import BadInput
from petavox.space import Box, VoxelSize, zyx
from petavox.volume import Volume


def sampled(volume: Volume, box: Box, voxel_size: VoxelSize) -> np.ndarray:
    """Values of `volume` at the voxel centres of `box`, whose voxels are `voxel_size` nm.

    Raises BadInput if the volume does not cover the box.
    """
    if box.is_empty:
        return np.zeros(box.shape, volume.dtype)
    values = volume.read(required(volume, box, voxel_size))
    places = [
        _places(np.arange(a, b), mine, theirs)
        for a, b, mine, theirs in zip(
            box.start, box.stop, voxel_size, volume.voxel_size, strict=True
        )
    ]
    picked = np.ix_(*[p - p[0] for p in places])
    return np.ascontiguousarray(values[picked])


def required(volume: Volume, box: Box, voxel_size: VoxelSize) -> Box:
    """The voxels of `volume` that `sampled` reads for a box that is not empty.

    Raises BadInput if the volume does not cover the box.
    """
    low, high = (
        [
            int(_places(np.array([p]), mine, theirs)[0])
            for p, mine, theirs in zip(corner, voxel_size, volume.voxel_size, strict=True)
        ]
        for corner in (box.start, [b - 1 for b in box.stop])
    )
    needed = Box(zyx(low), zyx([n + 1 for n in high]))
    if not volume.box.contains(needed):
        raise BadInput(
            f"{volume.path} covers {volume.box} at {volume.voxel_size}; box {box} at {voxel_size} "
            f"needs {needed} of it."
        )
    return needed


def _places(voxels: np.ndarray, mine: float, theirs: float) -> np.ndarray:
    """In which voxel of `theirs` nm the centre of each of `mine` nm lies."""
    return np.floor((voxels + 0.5) * mine / theirs).astype(np.int64)
