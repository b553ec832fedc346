"""A Store over a TensorStore array, for every format that TensorStore reads.

What it is: zyx boxes to TensorStore indices and back. What it is not: metadata of a format.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorstore as ts

from petavox.space import Box, Zyx, zyx


class TensorStoreArray:
    """A three-axis TensorStore whose first voxel lies at `start` (voxels, zyx).

    array: axes zyx, origin 0.
    """

    def __init__(self, array: Any, start: Zyx, write_shape: Zyx) -> None:
        self._array, self._write_shape = array, write_shape
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

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box that lies inside."""
        return np.asarray(self._array[box.slices(self._box.start)].read().result())

    def write(self, box: Box, values: np.ndarray) -> None:
        """Set the voxels of a box that lies inside."""
        self._array[box.slices(self._box.start)].write(values).result()


def context() -> Any:
    """A TensorStore context without a growing cache."""
    return ts.Context({"cache_pool": {"total_bytes_limit": 64 << 20}})
