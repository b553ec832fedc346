"""HDF5: a data set addressed like a path, `block.h5/raw`.

What it is: reading through h5py. Voxel size from the data set's or the file's attribute
`voxel_size_nm` (zyx), or given by the user. What it is not: writing; use `petavox import`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from petavox.errors import BadInput
from petavox.space import Box, VoxelSize, Zyx, zyx
from petavox.volume.volume import Kind, Volume

SUFFIXES = {".h5", ".hdf5", ".hdf"}


def split(path: Path) -> tuple[Path, str] | None:
    """The file and the name of the data set in it, or None if no part of `path` is HDF5."""
    for i, part in enumerate(path.parts):
        if Path(part).suffix.lower() in SUFFIXES and not Path(*path.parts[: i + 1]).is_dir():
            return Path(*path.parts[: i + 1]), "/".join(path.parts[i + 1 :])
    return None


class _Dataset:
    def __init__(self, data: Any, start: Zyx) -> None:
        self._data, self._box = data, Box.of_shape(data.shape, start)

    @property
    def box(self) -> Box:
        return self._box

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self._data.dtype)

    @property
    def write_shape(self) -> Zyx:
        return zyx(self._data.chunks or self._data.shape)

    def read(self, box: Box) -> np.ndarray:
        return np.asarray(self._data[box.slices(self._box.start)])

    def write(self, box: Box, values: np.ndarray) -> None:
        raise BadInput("HDF5 volumes are read only; import them into OME-Zarr first.")


def open(path: Path, *, voxel_size: VoxelSize | None) -> Volume:
    """Open one data set for reading."""
    found = split(path)
    if found is None:
        raise BadInput(f"{path} names no HDF5 file.")
    file, name = found
    if not file.exists():
        raise BadInput(f"there is no file {file}.")
    try:
        handle = h5py.File(file, "r")
    except OSError as e:
        raise BadInput(f"{file} is not a readable HDF5 file ({e}).") from None
    names: list[str] = []
    handle.visititems(lambda n, o: names.append(n) if isinstance(o, h5py.Dataset) else None)
    if name not in names:
        raise BadInput(
            f"{file} has no data set '{name}'. It holds: {', '.join(names) or 'none'}. "
            f"Address one as {file}/NAME."
        )
    data = handle[name]
    if len(data.shape) != 3:
        raise BadInput(f"{path} has {len(data.shape)} axes {data.shape}; a volume has three, zyx.")
    said = data.attrs.get("voxel_size_nm", handle.attrs.get("voxel_size_nm"))
    size = None if said is None else VoxelSize.of(list(said))
    if size is not None and voxel_size is not None and size != voxel_size:
        raise BadInput(f"{path} says its voxels are {size}, but {voxel_size} was given.")
    size = size or voxel_size
    if size is None:
        raise BadInput(f"{path} does not say its voxel size; pass --voxel-size Z Y X in nm.")
    start = zyx([int(v) for v in data.attrs.get("offset", (0, 0, 0))])
    kind = Kind.LABELS if data.dtype in (np.uint32, np.uint64) else Kind.IMAGE
    return Volume(_Dataset(data, start), path=str(path), voxel_size=size, kind=kind, format="HDF5")
