"""Sections read for quality control: reduced, with what is image and what is not.

What it is: a z-slab of a volume walked in strips of whole rows, so that memory is bounded however
large the sections are. What it is not: any judgement.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage as ndi

from petavox.space import Box
from petavox.volume import Volume

GAP = 9
"""A value of 0 is taken for no image only in areas this many pixels wide: dark pixels are image."""


def has_image(values: np.ndarray) -> np.ndarray:
    """Where sections (z, y, x) show something: all but areas of 0 at least GAP pixels wide."""
    zero = values == 0
    if not zero.any():
        return ~zero
    # beyond the rim counts as 0, so that a margin narrower than GAP is still no image
    wide = np.pad(zero, ((0, 0), (GAP, GAP), (GAP, GAP)), constant_values=True).view(np.uint8)
    for axis in (1, 2):  # an opening by a square, one axis at a time
        wide = ndi.minimum_filter1d(wide, GAP, axis, mode="nearest")
    for axis in (1, 2):
        wide = ndi.maximum_filter1d(wide, GAP, axis, mode="nearest")
    return np.asarray(wide[:, GAP:-GAP, GAP:-GAP] == 0)


def strips(source: Volume, box: Box, rows: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Strips of `rows` rows that tile `box`: first row (from the box's top), values, has_image.

    Values outside the volume are 0. A few rows around each strip are read to see GAP.
    """
    z, y, x = box.start, box.stop, box.shape
    for top in range(0, x[1], rows):
        y0, y1 = z[1] + top, min(z[1] + top + rows, y[1])
        grown = Box((z[0], y0 - GAP, z[2]), (y[0], y1 + GAP, y[2]))
        values = source.read(grown, fill=0)
        seen = has_image(values)
        inner = np.s_[:, GAP : GAP + y1 - y0]
        yield top, values[inner], seen[inner]


def rows_for(shape: tuple[int, int, int], itemsize: int, multiple: int, memory_mb: int) -> int:
    """Rows of a strip of (z, rows, x) voxels that fits in memory with its copies."""
    one = shape[0] * shape[2] * (2 * itemsize + 6)
    rows = (memory_mb << 20) // max(1, one) // multiple * multiple
    return max(multiple, rows)
