"""MRC (MRC2014): one volume in one file, read through a memory map.

What it is: modes 0 (8 bit, where the file says that the bytes are unsigned), 2 (float32) and 6
(uint16), either byte order, axes in the usual order (columns x, rows y, sections z). Voxel size
from the cell, in angstrom; a cell of 0 says nothing. The header's nstart is the first voxel.
What it is not: writing, or the signed modes; petavox does not store signed voxels.

Source: Cheng et al. 2015, MRC2014: extensions to the MRC format header.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.space import Box, VoxelSize, Zyx
from petavox.volume.formats.facts import chosen, settled, three_axes
from petavox.volume.volume import Kind, Level, Volume

SUFFIXES = {".mrc", ".rec", ".st", ".map"}
HEADER = 1024
IMOD = 1146047817


class _Mapped:
    def __init__(self, file: Path, dtype: np.dtype[Any], skip: int, box: Box) -> None:
        self._facts, self._box = (file.resolve(), dtype, skip, box), box
        self._array = np.memmap(file, dtype=dtype, mode="r", offset=skip, shape=box.shape)

    def __reduce__(self) -> Any:
        return _Mapped, self._facts  # the map, not the voxels, goes to worker processes

    @property
    def box(self) -> Box:
        return self._box

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.dtype.newbyteorder("=")

    @property
    def write_shape(self) -> Zyx:
        return (1, self._box.shape[1], self._box.shape[2])

    def read(self, box: Box) -> np.ndarray:
        return np.array(self._array[box.slices(self._box.start)], self.dtype)

    def write(self, box: Box, values: np.ndarray) -> None:
        raise BadInput("MRC files are read only; import them into OME-Zarr first.")


def open(
    path: Path, *, voxel_size: VoxelSize | None, resolution: VoxelSize | None = None
) -> Volume:
    """Open a file for reading. Raises BadInput for modes, axes or sizes that do not fit."""
    try:
        with path.open("rb") as f:
            head = f.read(HEADER)
        length = path.stat().st_size
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}.") from None
    except OSError as e:
        raise BadInput(f"cannot read {path}: {e.strerror}.") from None
    if len(head) < HEADER:
        raise BadInput(f"{path} has {len(head)} bytes; an MRC header has {HEADER}.")
    axes = {o: struct.unpack_from(f"{o}3i", head, 64) for o in "<>"}
    order = next((o for o, value in axes.items() if value == (1, 2, 3)), None)
    if order is None:
        raise BadInput(
            f"{path} is not an MRC file with columns x, rows y and sections z (its axes are "
            f"{axes['<']}); write it in this order first."
        )
    nx, ny, nz, mode, x0, y0, z0, mx, my, mz = struct.unpack_from(f"{order}10i", head, 0)
    three_axes(str(path), (nz, ny, nx))
    dtype = np.dtype(order + _type(str(path), mode, head, order))
    skip = HEADER + struct.unpack_from(f"{order}i", head, 92)[0]
    needed = skip + nz * ny * nx * dtype.itemsize
    if min(nz, ny, nx) < 0 or skip < HEADER or length < needed:
        raise BadInput(
            f"{path} has {length} bytes, but its header tells of {needed}: it is cut short or "
            "damaged."
        )
    cell = struct.unpack_from(f"{order}3f", head, 40)
    said = None
    if min(cell) > 0 and min(mx, my, mz) > 0:
        a, b, c = (round(v / m / 10, 6) for v, m in zip(cell, (mx, my, mz), strict=True))
        said = VoxelSize(c, b, a)
    size = settled(str(path), said, voxel_size)
    store = _Mapped(path, dtype, skip, Box.of_shape((nz, ny, nx), (z0, y0, x0)))
    level = Level(store.box, size, "")
    chosen(str(path), [level], resolution)
    return Volume(
        store, path=str(path), voxel_size=size, kind=Kind.IMAGE, format="MRC", levels=[level]
    )


def _type(path: str, mode: int, head: bytes, order: str) -> str:
    if mode == 0:
        stamp, flags = struct.unpack_from(f"{order}2i", head, 152)
        if stamp == IMOD and not flags & 1:
            return "u1"
        raise BadInput(
            f"{path} holds signed bytes (mode 0, without IMOD's mark for unsigned ones); write it "
            "as mode 6 (uint16) first."
        )
    if mode in (2, 6):
        return "f4" if mode == 2 else "u2"
    raise BadInput(
        f"{path} has mode {mode}; petavox reads 0 (unsigned bytes), 2 (float32) and 6 (uint16). "
        "Convert it first."
    )
