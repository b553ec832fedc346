"""What all formats must settle alike: voxel size, data type, number of axes, resolution.

What it is: the checks that turn what a file says and what the user says into one answer, or a
sentence. What it is not: reading.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.space import VoxelSize
from petavox.volume.volume import Kind, Level

DTYPES = ("uint8", "uint16", "uint32", "uint64", "float32")
"""Types of voxels that petavox stores."""


def same_size(a: VoxelSize, b: VoxelSize) -> bool:
    """Equal but for rounding of decimals in a file."""
    return all(math.isclose(p, q, rel_tol=1e-5) for p, q in zip(a, b, strict=True))


def settled(path: str, said: VoxelSize | None, given: VoxelSize | None) -> VoxelSize:
    """The voxel size: what the file says, or what the user gives where it says nothing.

    Raises BadInput if neither does, or if they contradict each other. Nothing is guessed.
    """
    if said is not None and given is not None and not same_size(said, given):
        swapped = same_size(said, VoxelSize(given.x, given.y, given.z))
        raise BadInput(
            f"{path} says its voxels are {said} (z, y, x), but {given} was given."
            + (" Was it given in the order x y z? The order is z y x." if swapped else "")
            + " Leave the voxel size out, or correct it."
        )
    if said is None and given is None:
        raise BadInput(
            f"{path} does not say its voxel size; pass --voxel-size Z Y X in nm, such as "
            "--voxel-size 40 4 4."
        )
    size = said or given
    assert size is not None
    return size


def usable_dtype(path: str, dtype: Any) -> np.dtype[Any]:
    """The type in native byte order. Raises BadInput if petavox does not store it."""
    native = np.dtype(dtype).newbyteorder("=")
    if native.name not in DTYPES:
        raise BadInput(
            f"{path} holds {native.name}; petavox takes {', '.join(DTYPES)}. Convert it first "
            "(images to uint8 or uint16, labels to uint64)."
        )
    return native


def three_axes(path: str, shape: Sequence[int]) -> None:
    """Raise BadInput unless a shape has three axes and no side of length 0."""
    if len(shape) != 3:
        raise BadInput(
            f"{path} has {len(shape)} axes {tuple(shape)}; a volume has three, z y x."
            + (" A single section is a volume of shape (1, y, x)." if len(shape) == 2 else "")
            + (" Export one channel or time point." if len(shape) > 3 else "")
        )
    if 0 in shape:
        raise BadInput(f"{path} is empty: its shape is {tuple(shape)} (z, y, x).")


def kind_of(dtype: np.dtype[Any], said: str | None = None) -> Kind:
    """What the file says, or labels for the types that only labels have."""
    if said in list(Kind):
        return Kind(said)
    return Kind.LABELS if dtype in (np.uint32, np.uint64) else Kind.IMAGE


def chosen(path: str, levels: Sequence[Level], resolution: VoxelSize | None) -> int:
    """Which level has the asked voxel size; the finest if none is asked."""
    if resolution is None:
        return 0
    for i, level in enumerate(levels):
        if same_size(level.voxel_size, resolution):
            return i
    there = "; ".join(str(level.voxel_size) for level in levels)
    raise BadInput(f"{path} has no level of {resolution}; it has {there} (z, y, x).")
