"""A Store over a TensorStore array, for every format that TensorStore reads.

What it is: zyx boxes to TensorStore indices and back, and TensorStore's errors as sentences.
What it is not: metadata of a format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorstore as ts

from petavox.errors import BadInput, WorkFailed
from petavox.space import Box, VoxelSize, Zyx, zyx
from petavox.volume.formats.facts import chosen, kind_of, settled, three_axes, usable_dtype
from petavox.volume.places import context, kvstore, short
from petavox.volume.volume import Level, Volume


class TensorStoreArray:
    """A three-axis TensorStore whose first voxel lies at `start` (voxels, zyx).

    array: axes zyx, origin 0.  path: for errors.
    """

    def __init__(self, array: Any, start: Zyx, write_shape: Zyx, path: str = "the volume") -> None:
        self._array, self._write_shape, self._path = array, write_shape, path
        self._box = Box.of_shape(zyx(array.shape), start)

    @property
    def box(self) -> Box:
        """All voxels."""
        return self._box

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of one voxel."""
        return np.dtype(self._array.dtype.numpy_dtype)

    @property
    def write_shape(self) -> Zyx:
        """The piece that one writer must own."""
        return self._write_shape

    @property
    def chunk(self) -> Zyx:
        """The piece that is read and decoded as one."""
        found = self._array.chunk_layout.read_chunk.shape or self._write_shape
        return zyx([int(c or w) for c, w in zip(found, self._write_shape, strict=True)])

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box that lies inside. Raises WorkFailed for damaged chunks."""
        try:
            return np.asarray(self._array[box.slices(self._box.start)].read().result())
        except (ValueError, RuntimeError, OSError) as e:
            raise WorkFailed(
                f"box {box} of {self._path} cannot be read, a file of it may be damaged: "
                f"{short(e)}. Copy or make the volume again."
            ) from None

    def write(self, box: Box, values: np.ndarray) -> None:
        """Set the voxels of a box that lies inside. Raises WorkFailed if storage refuses."""
        try:
            self._array[box.slices(self._box.start)].write(values).result()
        except (ValueError, RuntimeError, OSError) as e:
            raise WorkFailed(
                f"box {box} of {self._path} cannot be written: {short(e)}. Make room or check "
                "the permissions, then run again."
            ) from None


def open_array(driver: str, path: str, spec: Mapping[str, Any] | None = None, **how: Any) -> Any:
    """A TensorStore of `driver` in the folder `path`; its errors become BadInput."""
    with sentences(path):
        return ts.open(
            {"driver": driver, "kvstore": kvstore(path), **(spec or {})}, context=context(), **how
        ).result()


def zyx_of(path: str, array: Any, order: Zyx, others: Sequence[int] = ()) -> Any:
    """The view of an array with axes zyx and origin 0.

    order: which axes of the array are z, y, x.  others: its further axes, each of length 1.
    """
    if array.rank != 3 + len(others):
        three_axes(path, array.shape)
    if any(array.shape[i] != 1 for i in others):
        raise BadInput(
            f"{path} has the shape {tuple(array.shape)} with several channels or time points; "
            "export one of them to a volume of its own."
        )
    domain = array.domain
    index = tuple(
        domain[i].inclusive_min if i in others else slice(None) for i in range(array.rank)
    )
    kept = [i for i in range(array.rank) if i not in others]
    view = array[index].transpose([kept.index(i) for i in order]).translate_to[0, 0, 0]
    three_axes(path, view.shape)
    usable_dtype(path, view.dtype.numpy_dtype)
    return view


def write_shape(array: Any) -> Zyx:
    """The piece of a zyx view that lies in one file."""
    found = array.chunk_layout.write_chunk.shape
    return zyx([int(c or n) for c, n in zip(found or array.shape, array.shape, strict=True)])


def plain(
    driver: str,
    path: str,
    format: str,
    voxel_size: VoxelSize | None,
    resolution: VoxelSize | None,
    writable: bool,
) -> Volume:
    """A bare array with axes zyx that says nothing of space: the voxel size must be given."""
    size = settled(path, None, voxel_size)
    array = open_array(driver, path, open=True, read=True, write=writable)
    array = zyx_of(path, array, (0, 1, 2))
    store = TensorStoreArray(array, (0, 0, 0), write_shape(array), path)
    level = Level(store.box, size, "")
    chosen(path, [level], resolution)
    return Volume(
        store,
        path=path,
        voxel_size=size,
        kind=kind_of(store.dtype),
        format=format,
        writable=writable,
        levels=[level],
    )


@contextmanager
def sentences(path: str) -> Iterator[None]:
    """Turn TensorStore's errors about a place into BadInput."""
    try:
        yield
    except (ValueError, RuntimeError, OSError, KeyError) as e:
        raise BadInput(f"cannot use the array at {path}: {short(e)}.") from None
