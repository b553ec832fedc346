"""Long straight structures in a mask.

What it is: an opening by line segments that tolerates gaps, and the connected parts of a mask.
What it is not: a judgement of what a line is (petavox.align.damage).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy import signal

EIGHT = np.ones((3, 3), bool)
"""Neighbours by side and by corner."""


def line_opening(mask: NDArray[np.bool_], length: float, share: float) -> NDArray[np.bool_]:
    """The pixels of `mask` that lie on a straight line of which `share` is in the mask.

    mask: (y, x) bool.  length: pixels.  Directions are as dense as a line's end needs to move by
    4 pixels. Work is done only on connected parts that reach far enough to hold such a line.
    """
    out = np.zeros(mask.shape, bool)
    n = max(3, round(length) | 1)
    kernels = _lines(n)
    for number, where, label in parts(mask):
        reach = math.hypot(where[0].stop - where[0].start, where[1].stop - where[1].start)
        part = label[where] == number
        if reach < share * n or part.sum() < share * n:
            continue
        crop = np.pad(part, n // 2).astype(np.float32)
        kept = np.zeros(crop.shape, bool)
        for kernel in kernels:
            hit = signal.fftconvolve(crop, kernel, "same") >= share * kernel.sum() - 0.5
            if hit.any():
                kept |= signal.fftconvolve(hit.astype(np.float32), kernel, "same") > 0.5
        inner = kept[n // 2 : n // 2 + part.shape[0], n // 2 : n // 2 + part.shape[1]]
        out[where] |= inner & part
    return out


def _lines(n: int) -> list[NDArray[np.float32]]:
    lines, half = [], n // 2
    directions = max(4, math.ceil(math.pi * n / 8))
    steps = np.linspace(-half, half, 2 * n + 1)
    for angle in np.pi * np.arange(directions) / directions:
        kernel = np.zeros((n, n), np.float32)
        y = np.rint(half + steps * np.sin(angle)).astype(int)
        x = np.rint(half + steps * np.cos(angle)).astype(int)
        kernel[y, x] = 1
        lines.append(kernel)
    return lines


def parts(mask: NDArray[np.bool_]) -> list[tuple[int, Any, NDArray[np.int32]]]:
    """The connected parts of a mask (y, x): number, slices of its hull, and the label image."""
    label, _ = ndi.label(mask, EIGHT)
    return [(i, w, label) for i, w in enumerate(ndi.find_objects(label), 1) if w is not None]
