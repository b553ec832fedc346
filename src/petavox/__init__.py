"""petavox: from electron-microscope tiles to a connectome.

>>> import petavox as pv
>>> image = pv.open("block.h5/raw")          # doctest: +SKIP
>>> image.box, image.voxel_size, image[0:64, 0:64, 0:64]   # doctest: +SKIP

What it is: the names a user of the Python API needs, loaded on first use so that importing
petavox is quick. What it is not: code; every name lives in a module of its own.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> the module that owns it
_HOMES = {
    "Box": "petavox.space",
    "Grid": "petavox.space",
    "VoxelSize": "petavox.space",
    "PetavoxError": "petavox.errors",
    "Volume": "petavox.volume",
    "create": "petavox.volume",
    "open": "petavox.volume",
}
__all__ = ["Box", "Grid", "PetavoxError", "Volume", "VoxelSize", "create", "open"]

if TYPE_CHECKING:
    from petavox.errors import PetavoxError
    from petavox.space import Box, Grid, VoxelSize
    from petavox.volume import Volume, create, open


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'petavox' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
