"""Where a flood may not go.

What it is: the three kinds of restriction of one subvolume: a mask (no field of view centred
there), a seed mask (no object starts there), and a shift mask (sections displaced against each
other, where a field of view would bridge two different neurites).
What it is not: a change of the image.

Source of the shift mask: Januszewski et al. 2018, Nature Methods 15:605, Methods.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petavox.errors import BadInput
from petavox.space import Zyx


@dataclass(frozen=True)
class Restrictor:
    """Restrictions of one subvolume; None means no restriction of that kind.

    mask, seed_mask: (z, y, x) bool, True where forbidden.
    shift: (2, z, y, x) float32, in-plane displacement (y, x) of each place against its
    neighbouring section, in voxels; no step where its length reaches `shift_threshold` anywhere
    in the field of view.
    """

    mask: np.ndarray | None = None
    seed_mask: np.ndarray | None = None
    shift: np.ndarray | None = None
    shift_threshold: float = 4.0

    def check(self, shape: Zyx) -> None:
        """Raise BadInput if an array does not fit a subvolume of `shape`."""
        for name, array in (("mask", self.mask), ("seed mask", self.seed_mask)):
            if array is not None and array.shape != shape:
                raise BadInput(f"the {name} has shape {array.shape}, the image {shape}.")
        if self.shift is not None and self.shift.shape != (2, *shape):
            raise BadInput(
                f"the shift mask has shape {self.shift.shape}; for this image it must be "
                f"{(2, *shape)}: displacement along y and x, in voxels."
            )

    def slipped(self) -> np.ndarray | None:
        """(z, y, x) bool: where the displacement reaches the threshold."""
        if self.shift is None:
            return None
        return np.asarray(np.hypot(self.shift[0], self.shift[1]) >= self.shift_threshold)
