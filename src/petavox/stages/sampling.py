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
    places = []
    for a, b, mine, theirs in zip(box.start, box.stop, voxel_size, volume.voxel_size, strict=True):
        places.append(np.floor((np.arange(a, b) + 0.5) * mine / theirs).astype(np.int64))
    if box.is_empty:
        return np.zeros(box.shape, volume.dtype)
    needed = Box(zyx([int(p[0]) for p in places]), zyx([int(p[-1]) + 1 for p in places]))
    if not volume.box.contains(needed):
        raise BadInput(
            f"{volume.path} covers {volume.box} at {volume.voxel_size}; box {box} at {voxel_size} "
            f"needs {needed} of it."
        )
    values = volume.read(needed)
    picked = np.ix_(*[p - p[0] for p in places])
    return np.ascontiguousarray(values[picked])
