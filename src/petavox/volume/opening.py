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
from petavox.volume import places, state
from petavox.volume.formats import hdf5, mrc, n5, ome_zarr, precomputed, stacks, zarr2
from petavox.volume.formats.facts import DTYPES
from petavox.volume.volume import Kind, Level, Volume

WRITERS: dict[str, Any] = {"ome-zarr": ome_zarr, "precomputed": precomputed}
"""Formats that are written block by block, and have pyramids."""


def open(
    path: str | Path,
    *,
    voxel_size: Sequence[float] | VoxelSize | None = None,
    writable: bool = False,
    incomplete: bool = False,
    resolution: Sequence[float] | VoxelSize | None = None,
) -> Volume:
    """Open a volume for reading (or writing).

    path: a folder, a file or a URL; a data set in an HDF5 file is `file.h5/name`.
    voxel_size: nm, zyx, of the finest level; only for files that do not say; contradicting the
    file is an error.
    incomplete: also open a volume that is still being written.
    resolution: nm, zyx: the level of a pyramid with this voxel size, instead of the finest.
    Raises BadInput if there is nothing usable there, NotComplete if its writer has not finished.
    """
    size = None if voxel_size is None else VoxelSize.of(tuple(voxel_size))
    level = None if resolution is None else VoxelSize.of(tuple(resolution), "resolution")
    place = places.named(path)
    if not places.is_url(place):
        file = _file_format(Path(place))
        if file is not None:
            _no_writing(place, writable)
            return file(Path(place), voxel_size=size, resolution=level)
        if not Path(place).exists():
            raise BadInput(f"there is no volume at {path}.")
        if not Path(place).is_dir():
            raise BadInput(
                f"{path} is a file of a kind petavox does not know; it reads .h5, .hdf5, .tif, "
                ".tiff, .png, .jpg and .mrc files, and folders."
            )
    if not incomplete:
        state.require_complete(place)
    return _open_folder(place, size, level, writable)


def _file_format(path: Path) -> Any:
    if hdf5.split(path) is not None:
        return hdf5.open
    suffix = path.suffix.lower()
    if path.is_dir():
        return None
    if suffix in mrc.SUFFIXES:
        return mrc.open
    return stacks.open_file if suffix in stacks.SUFFIXES else None


def _open_folder(
    place: str, size: VoxelSize | None, level: VoxelSize | None, writable: bool
) -> Volume:
    def has(name: str) -> bool:
        return places.read(place, name) is not None

    if has(ome_zarr.METADATA):
        return ome_zarr.open(place, voxel_size=size, resolution=level, writable=writable)
    if has(precomputed.METADATA):
        return precomputed.open(place, voxel_size=size, resolution=level, writable=writable)
    _no_writing(place, writable)
    if has(".zarray") or has(".zattrs") or has(".zgroup"):
        return zarr2.open(place, voxel_size=size, resolution=level)
    if has(n5.METADATA):
        return n5.open(place, voxel_size=size, resolution=level)
    if places.is_url(place):
        raise BadInput(
            f"there is no volume at {place}: none of {', '.join(places.METADATA[1:])} is there "
            "or may be read without credentials. (HDF5, TIFF and PNG are read from files only.)"
        )
    return stacks.open_folder(Path(place), voxel_size=size, resolution=level)


def _no_writing(place: str, writable: bool) -> None:
    if writable:
        raise BadInput(f"{place} is of a format that petavox only reads; import it first.")


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
    format: str = "ome-zarr",
) -> Volume:
    """Create a volume, marked as being written; call `finish` when it is whole.

    box: voxels, zyx, any offset.  voxel_size: nm, zyx.  shard: the piece one writer owns; it is
    cut down to the box where the box is smaller, and must be whole chunks (precomputed takes the
    next power of two; `write_shape` of the volume says what came of it).
    format: "ome-zarr" (0.5) or "precomputed".
    Raises AlreadyExists if something is there and `overwrite` is not set.
    """
    place = places.named(path)
    if format not in WRITERS:
        raise BadInput(f"format '{format}' is not one of {', '.join(WRITERS)}.")
    if np.dtype(dtype).name not in DTYPES:
        raise BadInput(f"dtype {np.dtype(dtype).name} is not one of {', '.join(DTYPES)}.")
    if kind not in list(Kind):
        raise BadInput(f"kind '{kind}' is not one of {', '.join(Kind)}.")
    if Kind(kind) is Kind.LABELS and np.dtype(dtype).kind != "u":
        raise BadInput(f"labels are whole numbers, but the dtype is {np.dtype(dtype).name}.")
    if box.is_empty:
        raise BadInput(f"a volume of box {box} would hold no voxel.")
    size = VoxelSize.of(tuple(voxel_size))
    ome_zarr.fitted(box.shape, chunk, shard)
    begin(place, overwrite=overwrite)
    return WRITERS[format].create(
        place, box=box, voxel_size=size, dtype=np.dtype(dtype), kind=Kind(kind), chunk=chunk,
        shard=shard,
    )  # fmt: skip


def begin(place: str, *, overwrite: bool) -> None:
    """Make an empty folder (or URL) that is marked as being written."""
    if place.startswith(places.READ_ONLY):
        raise BadInput(f"{place} cannot be written: http is for reading only.")
    if places.is_url(place):
        if places.exists(place):
            _refuse_or(overwrite, place)
            places.remove(place)
    else:
        make_room(Path(place), overwrite=overwrite)
        try:
            Path(place).mkdir(parents=True)
        except OSError as e:
            raise BadInput(f"cannot write to {place}: {e.strerror}.") from None
    state.begin(place)


def add_level(volume: Volume, box: Box, voxel_size: VoxelSize) -> Level:
    """Create one more, coarser level of a volume that petavox writes."""
    for writer in WRITERS.values():
        if volume.format == writer.FORMAT:
            level: Level = writer.add_level(volume, box, voxel_size)
            volume.levels = (*volume.levels, level)
            return level
    raise BadInput(f"{volume.path}: petavox writes no pyramid into the format {volume.format}.")


def finish(volume: Volume, provenance: dict[str, Any]) -> None:
    """Mark a created volume as complete, with its provenance."""
    state.finish(volume.path, provenance)


def make_room(path: Path, *, overwrite: bool) -> None:
    """Remove what is at `path` if told so; raise AlreadyExists if not.

    A folder that is neither empty nor a volume is never removed: a mistyped path must not cost
    other work.
    """
    require_room(path, overwrite=overwrite)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_room(path: Path, *, overwrite: bool) -> None:
    """The refusals of `make_room` without its removal: before work whose result replaces this."""
    if not path.exists():
        above = next(p for p in path.absolute().parents if p.exists())
        if not above.is_dir():
            raise BadInput(f"cannot write to {path}: {above} is a file; choose another place.")
        return
    _refuse_or(overwrite, str(path))
    if not path.is_dir():
        return
    known = any((path / name).is_file() for name in places.METADATA)
    if not known and any(path.iterdir()):
        raise BadInput(
            f"{path} is a folder but not a volume; it is not removed, even with --overwrite. "
            "Choose another name, or delete it yourself."
        )


def _refuse_or(overwrite: bool, place: str) -> None:
    if not overwrite:
        raise AlreadyExists(f"{place} is there already; choose another name, or pass --overwrite.")
