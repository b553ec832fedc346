"""A volume: voxels with a box, a voxel size and a place.

What it is: the one interface that stages see, whatever the format underneath. Indices are voxel
coordinates, zyx, of the volume's own box: a volume whose box starts at (-4, 0, 0) is read with
`v[-4:0]`, and negative numbers never count from the end.
`levels` lists all resolutions that lie at the path, finest first; the volume itself is one.
What it is not: a format. Formats (petavox.volume.formats) give it a Store.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from petavox.errors import BadInput
from petavox.space import Box, VoxelSize, Zyx


class Kind(enum.StrEnum):
    """What the voxels of a volume mean."""

    IMAGE = "image"
    LABELS = "labels"


@dataclass(frozen=True)
class Level:
    """One resolution of a volume: its box (voxels of its own, zyx), voxel size, and file name."""

    box: Box
    voxel_size: VoxelSize
    name: str


class Store(Protocol):
    """What a format offers: an array of voxels addressed by voxel coordinates, zyx."""

    @property
    def box(self) -> Box:
        """All voxels of the volume."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one voxel."""
        ...

    @property
    def write_shape(self) -> Zyx:
        """The piece that one writer must own: a shard, or a chunk where there are no shards."""
        ...

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box that lies inside."""
        ...

    def write(self, box: Box, values: np.ndarray) -> None:
        """Set the voxels of a box that lies inside."""
        ...


class Volume:
    """Voxels with a box (voxels, zyx), a voxel size (nm) and a place (path or URL).

    >>> v = pv.open("aligned.zarr")                       # doctest: +SKIP
    >>> v.box, v.voxel_size, v.dtype                      # doctest: +SKIP
    >>> v[0:64, :, 128:256]                               # doctest: +SKIP
    """

    def __init__(
        self,
        store: Store,
        *,
        path: str,
        voxel_size: VoxelSize,
        kind: Kind,
        format: str,
        writable: bool = False,
        levels: Sequence[Level] = (),
    ) -> None:
        self.store, self.path, self.voxel_size = store, path, voxel_size
        self.kind, self.format, self.writable = kind, format, writable
        self.levels = tuple(levels) or (Level(store.box, voxel_size, ""),)

    def __repr__(self) -> str:
        return (
            f"<Volume {self.path}: {self.kind} {self.dtype} {self.box} at {self.voxel_size}, "
            f"{self.format}>"
        )

    @property
    def box(self) -> Box:
        """All voxels, zyx."""
        return self.store.box

    @property
    def shape(self) -> Zyx:
        """Voxels along z, y, x."""
        return self.box.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one voxel."""
        return self.store.dtype

    @property
    def chunk(self) -> Zyx:
        """The piece that is read and decoded as one; `write_shape` where a format has no other."""
        return getattr(self.store, "chunk", self.store.write_shape)

    @property
    def write_shape(self) -> Zyx:
        """Blocks of whole multiples of this shape, from the box's start, never share a file."""
        return self.store.write_shape

    def read(self, box: Box | None = None, *, fill: int | float | None = None) -> np.ndarray:
        """Voxels of `box` (default: all) as a C-ordered zyx array.

        fill: value for voxels outside the volume; without it, a box that leaves the volume is
        an error (BadInput).
        """
        box = self.box if box is None else box
        inside = box.intersection(self.box)
        if inside == box:
            return np.ascontiguousarray(self.store.read(box))
        if fill is None:
            raise BadInput(f"box {box} leaves {self.path}, whose box is {self.box} (z,y,x voxels).")
        out = np.full(box.shape, fill, self.dtype)
        if not inside.is_empty:
            out[inside.slices(box.start)] = self.store.read(inside)
        return out

    def write(self, box: Box, values: np.ndarray) -> None:
        """Set the voxels of `box`. The type must be the volume's own: nothing is cast."""
        if not self.writable:
            raise BadInput(f"{self.path} was opened for reading; it cannot be written.")
        if not self.box.contains(box):
            raise BadInput(f"box {box} leaves {self.path}, whose box is {self.box}.")
        if values.shape != box.shape:
            raise BadInput(f"values of shape {values.shape} do not fill box {box} of {self.path}.")
        if values.dtype != self.dtype:
            raise BadInput(f"values are {values.dtype}, {self.path} holds {self.dtype}.")
        if not box.is_empty:
            self.store.write(box, values)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Read by voxel coordinates: slices (step 1) or single integers, zyx; or by a Box."""
        if isinstance(index, Box):
            return self.read(index)
        slices, squeezed = self._box_of(index)
        values = self.read(slices)
        return values[tuple(0 if s else slice(None) for s in squeezed)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = self.read()
        return values if dtype is None else values.astype(dtype)

    def _box_of(self, index: Any) -> tuple[Box, Sequence[bool]]:
        items = list(index) if isinstance(index, tuple) else [index]
        if Ellipsis in items:
            at = items.index(Ellipsis)
            items[at : at + 1] = [slice(None)] * (4 - len(items))
        items += [slice(None)] * (3 - len(items))
        if len(items) != 3:
            raise IndexError(f"{len(items)} indices for a volume with three axes")
        start, stop, squeezed = [], [], []
        for item, a, b in zip(items, self.box.start, self.box.stop, strict=True):
            if isinstance(item, slice):
                if item.step not in (None, 1):
                    raise IndexError("volumes are read with step 1")
                start.append(a if item.start is None else int(item.start))
                stop.append(b if item.stop is None else int(item.stop))
                squeezed.append(False)
            else:
                start.append(int(item))
                stop.append(int(item) + 1)
                squeezed.append(True)
        box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        if not self.box.contains(box):
            raise IndexError(f"{box} leaves the volume's box {self.box}")
        return box, squeezed
