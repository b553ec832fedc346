"""Tiles read from their files, kept within a bound of memory.

What it is: `read_image` and a cache that threads share. What it is not: the tile table
(petavox.align.tiles).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from petavox.align import tiles
from petavox.errors import BadInput


class TileCache:
    """Tiles by number, newest kept within a bound of bytes; safe for threads."""

    def __init__(self, listed: Sequence[tiles.Tile], memory_mb: int) -> None:
        self.listed, self.most = listed, memory_mb << 20
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._bytes = 0

    def __call__(self, number: int) -> np.ndarray:
        """The tile, (h, w)."""
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        image = read_image(self.listed[number].file)
        with self._lock:
            if number not in self._kept:
                self._kept[number] = image
                self._bytes += image.nbytes
                while self._bytes > self.most and len(self._kept) > 2:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return image


def read_image(file: Path) -> np.ndarray:
    """A tile as (h, w) uint8 or uint16. Raises BadInput if it is anything else."""
    try:
        if file.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            image = np.asarray(tifffile.imread(file))
        else:
            from PIL import Image

            with Image.open(file) as opened:
                image = np.array(opened)
    except Exception as e:
        raise BadInput(f"{file} cannot be read as an image ({type(e).__name__}: {e}).") from None
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise BadInput(
            f"{file} is {image.dtype} of shape {image.shape}: tiles are grey, 8 or 16 bits."
        )
    return image
