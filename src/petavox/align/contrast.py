"""Even contrast: normalisation of sections, and CLAHE. Neither ever inverts.

What it is: functions from histograms to lookup tables, and from an image and tables to an image.
Histograms can be gathered piece by piece and tables applied to any piece: blocks give exactly what
the whole section gives. What it is not: colour, denoising, or a stage.

normalize: each section's grey levels are mapped by a rising piecewise line that takes its
quantiles to those wanted: fixed ones, or the median of the neighbouring sections' (which follows
the slow trend of a stack and removes the jumps).
clahe: contrast limited adaptive histogram equalisation (Zuiderveld 1994): the lookup tables of
the tiles of a grid, each with its histogram clipped, blended bilinearly at every pixel.

A value of 0 means no image. It stays 0, and nothing else becomes 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from petavox.align.quality import percentiles
from petavox.errors import BadInput

KNOTS = (1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 99.0)
"""Percentiles that normalisation brings to their place."""


def histogram(image: NDArray[Any]) -> NDArray[np.int64]:
    """Counts of each grey level of a uint8 or uint16 array, 0 (no image) left out."""
    _check(image.dtype)
    counts = np.bincount(image.ravel(), minlength=np.iinfo(image.dtype).max + 1)
    counts[0] = 0
    return counts.astype(np.int64)


def knots(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The grey levels at KNOTS; all NaN for a histogram without pixels."""
    if counts.sum() == 0:
        return np.full(len(KNOTS), np.nan)
    return np.array(percentiles(counts, KNOTS), float)


def fixed_targets(levels: int, low: float = 0.12, high: float = 0.88) -> tuple[float, float]:
    """The grey levels wanted for the first and last knot, of a type with so many levels."""
    return low * (levels - 1), high * (levels - 1)


def neighbour_targets(stack: NDArray[np.float64], window: int, z: int) -> NDArray[np.float64]:
    """The median knots (k,) of the sections within `window` of `z`; (sections, k) are given."""
    near = stack[max(0, z - window) : z + window + 1]
    near = near[np.isfinite(near[:, 0])]
    return np.median(near, axis=0) if len(near) else np.full(stack.shape[1], np.nan)


def table_to_knots(
    own: NDArray[np.float64], wanted: NDArray[np.float64], levels: int
) -> NDArray[Any]:
    """Lookup table (levels,) of a rising piecewise line that takes grey levels `own` to `wanted`.

    Both ascending, of one length; beyond their ends the line goes on. A section without image
    (NaN) is left as it is.
    """
    dtype = _dtype(levels)
    values = np.arange(levels, dtype=np.float64)
    if not (np.isfinite(own).all() and np.isfinite(wanted).all()):
        return values.astype(dtype)
    xs, at = np.unique(own, return_index=True)  # equal knots: keep the first
    ys = np.maximum.accumulate(wanted[at])
    if len(xs) == 1:
        line = values + (ys[0] - xs[0])
    else:
        line = np.interp(values, xs, ys)
        # beyond the outer knots go on with the slope of the whole line, not that of its end
        slope = (ys[-1] - ys[0]) / (xs[-1] - xs[0])
        line = np.where(values < xs[0], ys[0] + (values - xs[0]) * slope, line)
        line = np.where(values > xs[-1], ys[-1] + (values - xs[-1]) * slope, line)
    table = np.clip(np.rint(line), 1, levels - 1)
    table[0] = 0
    return table.astype(dtype)


class TileTables:
    """The lookup tables of CLAHE for one section, and the histograms they come from.

    shape: (y, x) of the section.  levels: 256 or 65536.  tile: px.  clip: the highest share a
    bin may have, in units of an even histogram's (1 = no contrast gained, 4 = strong).
    strength: 0..1, how much of the result is the equalised value.
    Memory: 4 bytes x 256 bins per tile, eight times that while histograms are gathered.
    """

    bins = 256

    def __init__(
        self, shape: tuple[int, int], levels: int, *, tile: int, clip: float, strength: float = 1.0
    ) -> None:
        if tile < 8:
            raise BadInput(f"clahe tile is {tile} px: it must be 8 or more, such as 256.")
        if clip < 1:
            raise BadInput(f"clahe clip is {clip:g}: it must be 1 or more, such as 2.")
        if not 0 <= strength <= 1:
            raise BadInput(f"clahe strength is {strength:g}: it must lie in 0..1.")
        self.shape, self.levels, self.tile = shape, levels, tile
        self.clip, self.strength = clip, strength
        self.grid = (max(1, round(shape[0] / tile)), max(1, round(shape[1] / tile)))
        self.counts = np.zeros((*self.grid, self.bins), np.int64)
        self.tables: NDArray[np.float32] | None = None

    def _tile_of(self, axis: int, at: int, n: int) -> NDArray[np.int64]:
        pixel = np.arange(at, at + n, dtype=np.int64)
        return np.minimum(pixel * self.grid[axis] // self.shape[axis], self.grid[axis] - 1)

    def gather(self, at: tuple[int, int], image: NDArray[Any]) -> None:
        """Add a piece (y, x) of the section whose first pixel is `at`; 0 is not counted."""
        _check(image.dtype)
        if image.size == 0:
            return
        rows = self._tile_of(0, at[0], image.shape[0])
        columns = self._tile_of(1, at[1], image.shape[1])
        shift = (self.levels // self.bins).bit_length() - 1
        for r in range(int(rows[0]), int(rows[-1]) + 1):
            y0, y1 = np.searchsorted(rows, [r, r + 1])
            for c in range(int(columns[0]), int(columns[-1]) + 1):
                x0, x1 = np.searchsorted(columns, [c, c + 1])
                part = image[y0:y1, x0:x1]
                part = part[part > 0]
                self.counts[r, c] += np.bincount(part >> shift, minlength=self.bins)

    def finish(self) -> None:
        """Turn the histograms into tables. A tile without image takes the section's own."""
        total = self.counts.reshape(-1, self.bins).sum(0)
        gy, gx = self.grid
        self.tables = np.empty((gy, gx, self.bins + 1), np.float32)
        whole = self._rise(total)
        for r in range(gy):
            for c in range(gx):
                counts = self.counts[r, c]
                # a tile with a few pixels at the rim of the image says little of its own
                weight = min(1.0, counts.sum() / (0.25 * self.tile * self.tile))
                self.tables[r, c] = weight * self._rise(counts) + (1 - weight) * whole
        self.counts = np.zeros((0, 0, self.bins), np.int64)

    def _rise(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Grey level at the lower edge of each bin (bins + 1,), rising."""
        edges = np.linspace(0, self.levels - 1, self.bins + 1)
        n = counts.sum()
        if n == 0:
            return edges
        share = counts / n
        limit = self.clip / self.bins
        # what is clipped is spread evenly, again under the limit: min(share + t, limit) sums to 1
        low, high = 0.0, limit
        for _ in range(40):
            middle = (low + high) / 2
            if np.minimum(share + middle, limit).sum() < 1:
                low = middle
            else:
                high = middle
        share = np.minimum(share + high, limit)
        rise = np.concatenate([[0.0], np.cumsum(share)])
        return rise / rise[-1] * (self.levels - 1)

    def apply(self, at: tuple[int, int], image: NDArray[Any]) -> NDArray[Any]:
        """The piece (y, x) at `at`, equalised; type kept; 0 stays 0 and nothing else is 0."""
        if self.tables is None:
            raise BadInput("clahe tables are not finished: gather all pieces, then finish().")
        _check(image.dtype)
        if image.size == 0:
            return image.copy()
        y0, y1, wy = self._between(0, at[0], image.shape[0])
        x0, x1, wx = self._between(1, at[1], image.shape[1])
        # between bin edges go straight: 16-bit values are not cut down to 256
        step = (self.levels - 1) / self.bins
        place = image.astype(np.float32) / np.float32(step)
        low = np.minimum(place.astype(np.int32), self.bins - 1)
        part = place - low
        out: NDArray[np.floating[Any]] = np.zeros(image.shape, np.float32)
        for rows, fy in ((y0, 1 - wy), (y1, wy)):
            for columns, fx in ((x0, 1 - wx), (x1, wx)):
                r, c = rows[:, None], columns[None]
                value = self.tables[r, c, low] * (1 - part) + self.tables[r, c, low + 1] * part
                out += fy[:, None] * fx[None] * value
        out = self.strength * out + np.float32(1 - self.strength) * image
        clipped = np.clip(np.rint(out), 1, self.levels - 1)
        return np.where(image == 0, 0, clipped).astype(image.dtype)

    def _between(
        self, axis: int, at: int, n: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """For n pixels from `at`: the tiles before and after, and the share of the latter."""
        size = self.shape[axis] / self.grid[axis]
        place = (np.arange(at, at + n) + 0.5) / size - 0.5
        place = np.clip(place, 0, self.grid[axis] - 1)
        first = np.minimum(place.astype(np.int64), max(0, self.grid[axis] - 2))
        second = np.minimum(first + 1, self.grid[axis] - 1)
        return first, second, (place - first).astype(np.float32)


def normalize(
    image: NDArray[Any], low: float | None = None, high: float | None = None
) -> NDArray[Any]:
    """A section (y, x) with its 1st and 99th percentile brought to grey levels low and high.

    low, high: default 12 % and 88 % of the type's range.
    """
    levels = np.iinfo(image.dtype).max + 1
    a, b = fixed_targets(levels)
    wanted = np.array([a if low is None else low, b if high is None else high])
    table = table_to_knots(knots(histogram(image))[[0, -1]], wanted, levels)
    return np.asarray(table[image])


def clahe(
    image: NDArray[Any], *, tile: int = 256, clip: float = 2.0, strength: float = 1.0
) -> NDArray[Any]:
    """A section (y, x) uint8 or uint16 equalised by CLAHE; see TileTables."""
    levels = np.iinfo(_check(image.dtype)).max + 1
    shape = (image.shape[0], image.shape[1])
    tables = TileTables(shape, levels, tile=tile, clip=clip, strength=strength)
    tables.gather((0, 0), image)
    tables.finish()
    return tables.apply((0, 0), image)


def _dtype(levels: int) -> Any:
    return np.uint8 if levels == 256 else np.uint16


def _check(dtype: Any) -> Any:
    if dtype not in (np.uint8, np.uint16):
        raise BadInput(f"contrast works on uint8 or uint16 images, not {dtype}.")
    return dtype


__all__ = [
    "KNOTS",
    "TileTables",
    "clahe",
    "fixed_targets",
    "histogram",
    "knots",
    "neighbour_targets",
    "normalize",
    "table_to_knots",
]
