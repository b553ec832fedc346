"""petavox: from electron-microscope tiles to a connectome.

>>> import petavox as pv
>>> tissue = pv.phantom(shape=(16, 32, 32), voxel_size=(8, 8, 8), seed=1)
>>> figures = pv.score(tissue.labels, tissue.labels, voxel_size=tissue.voxel_size)
>>> figures["raw"]["vi"], figures["raw"]["adapted_rand_error"]
(0.0, 0.0)

What it is: the names a user of the Python API needs, loaded on first use so that importing
petavox is quick. What it is not: code; every name lives in a module of its own.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> the module that owns it
_HOMES = {
    "Box": "petavox.space",
    "Grid": "petavox.space",
    "PetavoxError": "petavox.errors",
    "Volume": "petavox.volume",
    "VoxelSize": "petavox.space",
    "agglomerate": "petavox.api.objects",
    "align": "petavox.api.images",
    "connectome": "petavox.api.neurons",
    "consensus": "petavox.api.objects",
    "contrast": "petavox.api.images",
    "create": "petavox.volume",
    "fetch": "petavox.api.volumes",
    "mesh": "petavox.api.neurons",
    "open": "petavox.volume",
    "phantom": "petavox.api.images",
    "reconcile": "petavox.api.objects",
    "render": "petavox.api.images",
    "report": "petavox.api.projects",
    "run": "petavox.api.projects",
    "score": "petavox.api.objects",
    "segment": "petavox.api.objects",
    "shipped_model": "petavox.api.objects",
    "skeletonize": "petavox.api.neurons",
    "stitch": "petavox.api.images",
    "synapses": "petavox.api.neurons",
    "to_xarray": "petavox.api.arrays",
    "train": "petavox.api.learning",
    "write": "petavox.api.volumes",
}
__all__ = [
    "Box",
    "Grid",
    "PetavoxError",
    "Volume",
    "VoxelSize",
    "agglomerate",
    "align",
    "connectome",
    "consensus",
    "contrast",
    "create",
    "fetch",
    "mesh",
    "open",
    "phantom",
    "reconcile",
    "render",
    "report",
    "run",
    "score",
    "segment",
    "shipped_model",
    "skeletonize",
    "stitch",
    "synapses",
    "to_xarray",
    "train",
    "write",
]

if TYPE_CHECKING:
    from petavox.api.arrays import to_xarray
    from petavox.api.images import align, contrast, phantom, render, stitch
    from petavox.api.learning import train
    from petavox.api.neurons import connectome, mesh, skeletonize, synapses
    from petavox.api.objects import agglomerate, consensus, reconcile, score, segment, shipped_model
    from petavox.api.projects import report, run
    from petavox.api.volumes import fetch, write
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


class _Package(types.ModuleType):
    """petavox itself. Some verbs are named like the package that holds their science, such as
    score; when that is imported, the verb must stay what `pv.score` means."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
