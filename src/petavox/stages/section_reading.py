"""Sections read for quality control and contrast, with what is image and what is not.

What it is: a z-slab of a volume walked in pieces, of whole rows where these fit, so that memory is
bounded however large the sections are. What it is not: any judgement.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage as ndi

from petavox import volume
from petavox.errors import BadInput
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


def strips(
    source: Volume, box: Box, piece: tuple[int, int]
) -> Iterator[tuple[tuple[int, int], np.ndarray, np.ndarray]]:
    """Pieces of (rows, columns) that tile `box`: first pixel (y, x) in the box, values, has_image.

    Values outside the volume are 0. A few pixels around each piece are read to see GAP.
    """
    z, stop = box.start, box.stop
    for top in range(0, box.shape[1], piece[0]):
        y0, y1 = z[1] + top, min(z[1] + top + piece[0], stop[1])
        for left in range(0, box.shape[2], piece[1]):
            x0, x1 = z[2] + left, min(z[2] + left + piece[1], stop[2])
            grown = Box((z[0], y0 - GAP, x0 - GAP), (stop[0], y1 + GAP, x1 + GAP))
            values = source.read(grown, fill=0)
            seen = has_image(values)
            inner = np.s_[:, GAP : GAP + y1 - y0, GAP : GAP + x1 - x0]
            yield (top, left), values[inner], seen[inner]


def voxel_bytes(itemsize: int) -> int:
    """Memory that one voxel of a piece takes, with its copies."""
    return 2 * itemsize + 6


def piece_for(
    shape: tuple[int, int, int], itemsize: int, multiple: int, memory_mb: int
) -> tuple[int, int]:
    """Rows and columns of a piece of (z, rows, columns) voxels that fits in memory with its copies.

    Whole rows of the section where `multiple` of them fit; else fewer columns. Both are whole
    multiples, and at least one.
    """
    most = (memory_mb << 20) // (shape[0] * voxel_bytes(itemsize))
    rows = most // max(1, shape[2]) // multiple * multiple
    if rows:
        return rows, max(1, shape[2])
    return multiple, max(multiple, most // multiple // multiple * multiple)


def image_of(
    path: str, box: Box | None, voxel_size: tuple[float, float, float] | None
) -> tuple[Volume, Box]:
    """The image volume and the box to work on. Raises BadInput for anything but uint8, uint16."""
    source = volume.open(path, voxel_size=voxel_size)
    if source.dtype not in (np.uint8, np.uint16):
        raise BadInput(
            f"{path} holds {source.dtype}: sections are uint8 or uint16. Give an image volume."
        )
    total = source.box if box is None else box
    if not source.box.contains(total) or total.is_empty:
        raise BadInput(f"box {total} does not lie in {path}, whose box is {source.box}.")
    return source, total
