"""How good each section is: focus, contrast, saturation, missing area, noise, entropy.

>>> measure(image, valid).focus                                       # doctest: +SKIP
0.021

What it is: one row of numbers per section, gathered piece by piece so that a section never has to
be in memory, and the marking of rows that stand out from their neighbours in the stack. What it is
not: a verdict on one section alone; focus of tissue A and of tissue B cannot be compared, focus of
one section and of the next can.

- mean, contrast: grey levels of the valid pixels; contrast is the 95th minus the 5th percentile
  as a share of the type's range.
- saturated: share of valid pixels at the lowest or highest value of the type, if more pile up
  there than at the value beside it.
- missing: share of pixels that are not valid.
- noise: standard deviation of the pixel noise in grey levels, from the median absolute diagonal
  Haar detail (Donoho and Johnstone 1994).
- focus: spectral power between 3 and 8 pixels per cycle over that between 16 and 64, after the
  noise floor (2 to 2.2 pixels per cycle) is taken off; the median over patches of 128 px with a
  Hann window. Blur lowers it at once; gain and offset do not change it.
- entropy: of the grey-level histogram (256 bins), in bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from petavox.align.reduced import check_image
from petavox.settings import Settings

PATCH = 128
"""Side of the patches whose spectrum is taken, px."""


@dataclass(frozen=True)
class SectionQuality:
    """The measures of one section; NaN where there is too little to measure."""

    mean: float
    contrast: float
    saturated: float
    missing: float
    noise: float
    focus: float
    entropy: float


MEASURES = tuple(f.name for f in fields(SectionQuality))
"""Names of the measures, in the order of the table."""


@dataclass
class Gathering:
    """Measures of one section, gathered from pieces that tile it.

    shape: (y, x) of the section.  dtype: uint8 or uint16.  most: patches looked at, at most.
    Pieces must start at multiples of PATCH for their patches to be whole; any other cut changes
    only which patches are seen.
    """

    shape: tuple[int, int]
    dtype: Any
    most: int = 256
    histogram: NDArray[np.int64] = field(init=False)
    spectra: list[tuple[int, int, float]] = field(default_factory=list)
    details: list[tuple[int, int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.histogram = np.zeros(np.iinfo(self.dtype).max + 1, np.int64)
        whole = max(1, self.shape[0] // PATCH) * max(1, self.shape[1] // PATCH)
        self.every = max(1, math.ceil(math.sqrt(whole / self.most)))

    def put(self, at: tuple[int, int], image: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Add one piece (y, x) whose first pixel is `at`."""
        seen = image if valid.all() else image[valid]
        self.histogram += np.bincount(seen.ravel(), minlength=len(self.histogram))
        for y in range(0, image.shape[0], PATCH):
            for x in range(0, image.shape[1], PATCH):
                row, column = (at[0] + y) // PATCH, (at[1] + x) // PATCH
                if row % self.every or column % self.every:
                    continue
                window = np.s_[y : y + PATCH, x : x + PATCH]
                part, ok = image[window], valid[window]
                if part.size == 0 or ok.mean() < 0.9:
                    continue
                filled = np.where(ok, part, part[ok].mean()).astype(np.float64)
                noise = _noise(filled)
                if math.isfinite(noise):
                    self.details.append((row, column, noise))
                sharp = _band_ratio(filled)
                if math.isfinite(sharp):
                    self.spectra.append((row, column, sharp))

    def result(self) -> SectionQuality:
        """The measures of what was put in."""
        counts, total = self.histogram, int(self.histogram.sum())
        size = self.shape[0] * self.shape[1]
        missing = 1.0 - total / size if size else 1.0
        if total == 0:
            nan = math.nan
            return SectionQuality(nan, nan, nan, missing, nan, nan, nan)
        values = np.arange(len(counts))
        low, high = percentiles(counts, [5, 95])
        at_ends = 0
        if counts[0] > counts[1]:
            at_ends += int(counts[0])
        if counts[-1] > counts[-2]:
            at_ends += int(counts[-1])
        p = counts.reshape(256, -1).sum(1) / total
        p = p[p > 0]
        return SectionQuality(
            mean=float((values * counts).sum() / total),
            contrast=float(high - low) / (len(counts) - 1),
            saturated=at_ends / total,
            missing=missing,
            noise=_median(self.details),
            focus=_median(self.spectra),
            entropy=float(abs((p * np.log2(p)).sum())),
        )


def measure(image: NDArray[Any], valid: NDArray[np.bool_]) -> SectionQuality:
    """The measures of a section (y, x) uint8 or uint16 with its valid mask (y, x) bool."""
    check_image(image, valid)
    got = Gathering((image.shape[0], image.shape[1]), image.dtype)
    got.put((0, 0), image, valid)
    return got.result()


def percentiles(histogram: NDArray[np.int64], which: Sequence[float]) -> list[int]:
    """The grey levels below or at which `which` percent of a histogram's pixels lie."""
    below = np.cumsum(histogram)
    wanted = [max(1, math.ceil(below[-1] * q / 100)) for q in which]
    return [int(np.searchsorted(below, w)) for w in wanted]


class OutlierSettings(Settings):
    """When a section stands out from its neighbours.

    window: sections on either side it is compared with.  spreads: robust standard deviations
    (1.4826 x median absolute deviation) it must be off.  least: smallest relative change that
    counts, so that a stack without any spread does not flag trifles.
    """

    window: int = 25
    spreads: float = 5.0
    least: float = 0.15


_SIDES = {  # which side of the neighbours is bad, and the words for it
    "mean": (("too dark", -1), ("too bright", 1)),
    "contrast": (("low contrast", -1), ("high contrast", 1)),
    "saturated": (("saturated", 1),),
    "missing": (("missing area", 1),),
    "noise": (("noisy", 1),),
    "focus": (("out of focus", -1),),
    "entropy": (("few grey levels", -1),),
}
_FLOORS = {"saturated": 0.01, "missing": 0.05}  # shares: absolute changes that count


def outliers(
    rows: Sequence[SectionQuality], settings: OutlierSettings | None = None
) -> list[tuple[str, ...]]:
    """What is wrong with each section, in words, compared with its neighbours in the stack.

    A section with nothing measurable is "blank". Fewer than five measurable sections in the
    window: only blank ones are named, for there is nothing to compare with.
    """
    s = settings or OutlierSettings()
    out: list[list[str]] = [["blank"] if math.isnan(r.mean) else [] for r in rows]
    for name in MEASURES:
        values = np.array([getattr(r, name) for r in rows], float)
        for k, value in enumerate(values):
            if math.isnan(rows[k].mean) or math.isnan(value):
                continue
            near = values[max(0, k - s.window) : k + s.window + 1]
            near = near[np.isfinite(near)]
            if len(near) < 5:
                continue
            middle = float(np.median(near))
            spread = 1.4826 * float(np.median(np.abs(near - middle)))
            least = _FLOORS.get(name, s.least * abs(middle))
            off = value - middle
            if abs(off) > max(s.spreads * spread, least):
                out[k] += [words for words, side in _SIDES[name] if side * off > 0]
    return [tuple(words) for words in out]


def _median(found: list[tuple[int, int, float]]) -> float:
    return float(np.median([v for _, _, v in found])) if found else math.nan


def _noise(patch: NDArray[np.float64]) -> float:
    y, x = patch.shape[0] // 2 * 2, patch.shape[1] // 2 * 2
    if y * x < 64:
        return math.nan
    p = patch[:y, :x]
    detail = (p[::2, ::2] - p[1::2, ::2] - p[::2, 1::2] + p[1::2, 1::2]) / 2
    size = np.abs(detail)
    middle = float(np.median(size))
    # grey levels are whole, so details come in halves: look inside the median's own half
    low, high = max(0.0, middle - 0.25), middle + 0.25
    below, at = float((size < low).mean()), float(((size >= low) & (size < high)).mean())
    if at > 0:
        middle = low + (high - low) * min(1.0, max(0.0, (0.5 - below) / at))
    return middle / 0.6745


def _band_ratio(patch: NDArray[np.float64]) -> float:
    if min(patch.shape) < PATCH or patch.std() == 0:
        return math.nan
    power, radius = np.abs(np.fft.rfft2((patch - patch.mean()) * _HANN)) ** 2, _RADIUS
    floor = float(np.median(power[(radius > 1 / 2.2) & (radius <= 0.5)])) / math.log(2)
    fine = power[(radius > 1 / 8) & (radius <= 1 / 3)] - floor
    coarse = power[(radius > 1 / 64) & (radius <= 1 / 16)] - floor
    low = float(coarse.mean())
    return max(0.0, float(fine.mean()) / low) if low > 0 else math.nan


_HANN = np.outer(np.hanning(PATCH), np.hanning(PATCH))
_RADIUS = np.hypot(np.fft.fftfreq(PATCH)[:, None], np.fft.rfftfreq(PATCH)[None])
