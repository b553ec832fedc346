"""Restrictions of a flood, read from volumes.

What it is: masks and shift fields, kept at any voxel size, on the voxels of one subvolume.
What it is not: what they forbid (petavox.ffn.restrict).
"""

from __future__ import annotations

import numpy as np

from petavox.ffn.restrict import Restrictor
from petavox.space import Box
from petavox.stages.sampling import sampled
from petavox.volume import Volume
from petavox.volume import open as open_volume


def restrictions(
    box: Box,
    image: Volume,
    *,
    mask: str | None = None,
    seed_mask: str | None = None,
    shift: tuple[str, str] | None = None,
    shift_threshold: float = 4.0,
) -> Restrictor:
    """The restrictor of a box of `image`.

    mask, seed_mask: volumes, nonzero where forbidden.  shift: two volumes, the displacement along
    y and along x, in voxels of the image.  Raises BadInput if one does not cover the box.
    """

    def read(path: str) -> np.ndarray:
        return sampled(open_volume(path), box, image.voxel_size)

    return Restrictor(
        None if mask is None else read(mask) != 0,
        None if seed_mask is None else read(seed_mask) != 0,
        None if shift is None else np.stack([read(p).astype(np.float32) for p in shift]),
        shift_threshold,
    )
