"""A section made small: block means, lowest and highest value, and the share of valid pixels.

What it is: the working copy that quality control looks at, filled from whole images or piece by
piece, so that a section too large for memory can be examined. What it is not: a pyramid level
(petavox.volume); the lowest and highest value of each block are kept so that constant and
saturated areas are still seen exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petavox.errors import BadInput


@dataclass
class Reduced:
    """A section at 1/`factor` of its resolution.

    mean: (y, x) float32, over valid pixels, 0 where there are none.  low, high: (y, x), type of
    the image.  cover: (y, x) float32, share of valid pixels.  shape: of the full section.
    """

    mean: NDArray[np.float32]
    low: NDArray[Any]
    high: NDArray[Any]
    cover: NDArray[np.float32]
    factor: int
    shape: tuple[int, int]

    @classmethod
    def blank(cls, shape: tuple[int, int], dtype: Any, factor: int) -> Reduced:
        """Nothing valid yet; fill it with `put`."""
        if factor < 1:
            raise BadInput(f"reduction factor is {factor}: it must be 1 or more.")
        small = (math.ceil(shape[0] / factor), math.ceil(shape[1] / factor))
        return cls(
            np.zeros(small, np.float32),
            np.zeros(small, dtype),
            np.zeros(small, dtype),
            np.zeros(small, np.float32),
            factor,
            (int(shape[0]), int(shape[1])),
        )

    @classmethod
    def of(cls, image: NDArray[Any], valid: NDArray[np.bool_], factor: int) -> Reduced:
        """From a whole image (y, x) and where it is valid (y, x)."""
        out = cls.blank((image.shape[0], image.shape[1]), image.dtype, factor)
        out.put((0, 0), image, valid)
        return out

    def put(self, at: tuple[int, int], image: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Fill in one piece of the section whose first pixel is `at` (y, x).

        `at` must be a multiple of the factor, and so must the piece's shape unless it ends
        where the section ends: otherwise a block would be seen in two halves (BadInput).
        """
        f = self.factor
        ends = [at[i] + image.shape[i] for i in (0, 1)]
        if any(a % f for a in at) or any(
            e % f and e != n for e, n in zip(ends, self.shape, strict=True)
        ):
            raise BadInput(f"piece at {at} of shape {image.shape} cuts blocks of {f} pixels.")
        if image.size == 0:
            return
        here = tuple(slice(a // f, math.ceil(e / f)) for a, e in zip(at, ends, strict=True))
        # rows and columns of a block that ends beyond the section repeat its last pixel, not seen
        pad = [(0, -n % f) for n in image.shape]
        values, ok = np.pad(image, pad, mode="edge"), np.pad(valid, pad)
        top = np.iinfo(image.dtype).max
        total = np.zeros(self.mean[here].shape, np.float64)
        count = np.zeros(total.shape, np.int32)
        low, high = np.full(total.shape, top, image.dtype), np.zeros(total.shape, image.dtype)
        for i in range(f):
            for j in range(f):
                v, seen = values[i::f, j::f], ok[i::f, j::f]
                total += v * seen
                count += seen
                np.minimum(low, np.where(seen, v, top), out=low)
                np.maximum(high, v * seen, out=high)
        self.mean[here] = (total / np.maximum(count, 1)).astype(np.float32)
        self.low[here] = np.where(count > 0, low, 0)
        self.high[here] = high
        inside = [np.minimum(f, n - np.arange(0, n, f)) for n in image.shape]
        self.cover[here] = (count / np.outer(*inside)).astype(np.float32)


def factor_for(pixel_nm: float, working_nm: float, shape: tuple[int, int], max_px: int) -> int:
    """How many pixels make a working pixel: near `working_nm`, more if over `max_px` in all."""
    factor = max(1, round(working_nm / pixel_nm))
    while math.ceil(shape[0] / factor) * math.ceil(shape[1] / factor) > max_px:
        factor += 1
    return factor


def enlarged(
    mask: NDArray[np.bool_], factor: int, shape: tuple[int, int], at: tuple[int, int] = (0, 0)
) -> NDArray[np.bool_]:
    """Part of a working-resolution mask in full pixels: `shape` (y, x) from pixel `at` on.

    `at` is a multiple of the factor.
    """
    y, x = at[0] // factor, at[1] // factor
    part = mask[y : y + math.ceil(shape[0] / factor), x : x + math.ceil(shape[1] / factor)]
    return np.repeat(np.repeat(part, factor, axis=0), factor, axis=1)[: shape[0], : shape[1]]


def check_image(image: NDArray[Any], valid: NDArray[np.bool_]) -> None:
    """Raise BadInput unless `image` is (y, x) uint8 or uint16 and `valid` a bool of its shape."""
    if image.ndim != 2 or image.dtype not in (np.uint8, np.uint16):
        raise BadInput(
            f"a section is (y, x) uint8 or uint16; this is {image.shape} {image.dtype}. "
            "Convert it with `petavox import`."
        )
    if valid.shape != image.shape or valid.dtype != bool:
        raise BadInput(
            f"the valid mask is {valid.shape} {valid.dtype}, the section {image.shape}: "
            "give a bool mask of the same shape."
        )
