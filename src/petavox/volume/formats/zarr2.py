"""Zarr v2: OME-Zarr 0.4 groups, and bare arrays whose voxel size must be given.

What it is: reading through TensorStore. What it is not: writing; petavox writes OME-Zarr 0.5.
"""

from __future__ import annotations

from petavox.errors import BadInput
from petavox.space import VoxelSize
from petavox.volume import places
from petavox.volume.formats.ome_zarr import multiscale
from petavox.volume.formats.tensorstores import plain
from petavox.volume.volume import Volume

FORMAT = "OME-Zarr 0.4"


def open(path: str, *, voxel_size: VoxelSize | None, resolution: VoxelSize | None) -> Volume:
    """Open a level of a group, or a bare array, for reading."""
    if places.read_json(path, ".zarray") is not None:
        return plain("zarr", path, "zarr v2", voxel_size, resolution, False)
    attributes = places.read_json(path, ".zattrs") or {}
    if "multiscales" not in attributes:
        raise BadInput(
            f"{path} is a zarr group without OME multiscales; name one of its arrays, {path}/NAME."
        )
    return multiscale("zarr", path, FORMAT, attributes, voxel_size, resolution, writable=False)
