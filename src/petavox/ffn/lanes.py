"""How lanes share a device: settings of the batched driver, apart from it so that reading them
needs no torch. What it is not: the driver (petavox.ffn.batched).
"""

from __future__ import annotations

from pydantic import Field

from petavox.settings import Settings


class LaneSettings(Settings):
    """How lanes share a device. The defaults give exactly the plain driver's result."""

    per_call: int = Field(1, ge=1)
    """Fields of view in one call of the network; above 1, the last bits may differ."""
    pretest: int = Field(0, ge=0)
    """Seeds whose first step is computed together, ahead of their turn. The result is the same;
    steps of seeds that an object covers in the meantime are lost."""
    objects: int = Field(1, ge=1)
    """Objects of one subvolume that grow at once. Above 1 the order, and so the result, changes."""
    frontier: int = Field(1, ge=1)
    """Fields of view of one object, without a common voxel, in one step. Above 1 the result
    changes."""
