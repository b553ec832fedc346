"""Open and create volumes by path or URL.

What it is: finding which format lies at a path. What it is not: the formats themselves.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import AlreadyExists, BadInput
from petavox.space import Box, VoxelSize, Zyx
from petavox.volume import state
from petavox.volume.formats import hdf5, ome_zarr
from petavox.volume.volume import Kind, Volume

DTYPES = ("uint8", "uint16", "uint32", "uint64", "float32")
"""Types of voxels that petavox stores."""


def open(
    path: str | Path,
    *,
    voxel_size: Sequence[float] | VoxelSize | None = None,
    writable: bool = False,
    incomplete: bool = False,
) -> Volume:
    """Open a volume for reading (or writing).

    path: a folder, a file or a URL; a data set in an HDF5 file is `file.h5/name`.
    voxel_size: nm, zyx; only for files that do not say; contradicting the file is an error.
    incomplete: also open a volume that is still being written.
    Raises BadInput if there is nothing usable there, NotComplete if its writer has not finished.
    """
    size = None if voxel_size is None else VoxelSize.of(tuple(voxel_size))
    place = Path(path)
    if hdf5.split(place) is not None:
        return hdf5.open(place, voxel_size=size)
    if not place.exists():
        raise BadInput(f"there is no volume at {path}.")
    if not incomplete:
        state.require_complete(place)
    return ome_zarr.open(place, voxel_size=size, writable=writable)


def create(
    path: str | Path,
    *,
    box: Box,
    voxel_size: Sequence[float] | VoxelSize,
    dtype: Any,
    kind: Kind | str,
    chunk: Zyx = (64, 64, 64),
    shard: Zyx = (512, 512, 512),
    overwrite: bool = False,
) -> Volume:
    """Create an OME-Zarr 0.5 volume, marked as being written; call `finish` when it is whole.

    box: voxels, zyx, any offset.  voxel_size: nm, zyx.  shard: the piece one writer owns; it is
    cut down to the box where the box is smaller, and must be whole chunks.
    Raises AlreadyExists if something is there and `overwrite` is not set.
    """
    place = Path(path)
    if np.dtype(dtype).name not in DTYPES:
        raise BadInput(f"dtype {np.dtype(dtype).name} is not one of {', '.join(DTYPES)}.")
    if box.is_empty:
        raise BadInput(f"a volume of box {box} would hold no voxel.")
    make_room(place, overwrite=overwrite)
    try:
        place.mkdir(parents=True)
    except OSError as e:
        raise BadInput(f"cannot write to {place}: {e.strerror}.") from None
    state.begin(place)
    return ome_zarr.create(
        place,
        box=box,
        voxel_size=VoxelSize.of(tuple(voxel_size)),
        dtype=np.dtype(dtype),
        kind=Kind(kind),
        chunk=chunk,
        shard=shard,
    )


def finish(volume: Volume, provenance: dict[str, Any]) -> None:
    """Mark a created volume as complete, with its provenance."""
    state.finish(Path(volume.path), provenance)


def make_room(path: Path, *, overwrite: bool) -> None:
    """Remove what is at `path` if told so; raise AlreadyExists if not."""
    if not path.exists():
        return
    if not overwrite:
        raise AlreadyExists(f"{path} is there already; choose another name, or pass --overwrite.")
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
