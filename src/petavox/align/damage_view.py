"""What the detectors of damage look at: a section in units of its own spread.

What it is: the settings, and smoothing, background, gradient and texture of a reduced section.
What it is not: the detectors (petavox.align.damage).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from petavox.align.lines import EIGHT
from petavox.settings import Settings

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]


class DamageSettings(Settings):
    """What counts as damage. Lengths in nm, areas in square micrometres.

    working_nm, max_working_px: resolution looked at.  smooth_nm: sigma at which bands are seen.
    background_nm: sigma of shading to ignore.  line_nm, line_share: straight length of a fold or
    crack, and the share of it that must be dark (bright).  fold_depth, crack_height, dust_depth:
    units of the section's spread.  band_edge: a fold found there reaches to this share of its
    depth, a crack, whose neighbours may be pale processes, to halfway between that and all.
    thin_*: the same at a sigma of 20 nm, for bands about as thin as 100 nm, which must be longer.
    dust_nm, dust_max_um2: least diameter, largest area.
    dust_rim: steepness of the rim, in units of the section's 95th percentile gradient; from
    dust_large_um2 on, where no tissue is as dark, dust_large_rim.
    flat_um2: least constant area.  empty_um2, empty_texture: least area without texture, and its
    texture relative to the section's median.  margin_nm: added around folds, cracks and dust.
    """

    working_nm: float = 20.0
    max_working_px: int = 1 << 24
    smooth_nm: float = 50.0
    background_nm: float = 3000.0
    line_nm: float = 1500.0
    line_share: float = 0.9
    fold_depth: float = 2.0
    crack_height: float = 2.5
    band_edge: float = 0.7
    thin_line_nm: float = 2500.0
    thin_share: float = 0.85
    thin_fold_depth: float = 1.4
    thin_crack_height: float = 1.6
    dust_depth: float = 2.3
    dust_nm: float = 60.0
    dust_max_um2: float = 1.5
    dust_rim: float = 1.3
    dust_large_um2: float = 0.06
    dust_large_rim: float = 1.0
    flat_um2: float = 0.04
    empty_um2: float = 1.5
    empty_texture: float = 0.3
    margin_nm: float = 100.0


class View:
    """A reduced section as the detectors see it: level in units of spread, gradient, texture."""

    def __init__(self, mean: Floats, tissue: Bools, nm: float, s: DamageSettings) -> None:
        self.nm, self.mean, self.tissue = nm, mean, tissue
        fine = _smooth(mean, tissue, 20.0 / nm)
        mild = _smooth(mean, tissue, s.smooth_nm / nm)
        low, mid, high = np.percentile(mild[tissue], [25, 50, 75])
        # damage must not pull the background towards itself
        calm = np.clip(mild, mid - 2 * (mid - low), mid + 2 * (high - mid))
        slow = _slow(calm, tissue, s.background_nm / nm) - mid
        self.level = self._spreads(mild - slow)
        self.fine = self._spreads(fine - slow)
        self.gradient = ndi.maximum_filter(ndi.gaussian_gradient_magnitude(fine, 1.0), 3)
        core = ndi.binary_erosion(tissue, EIGHT, iterations=3)
        self.steep = float(np.percentile(self.gradient[core], 95)) if core.any() else 0.0

    def _spreads(self, values: Floats) -> Floats:
        # quartiles, scaled to a standard deviation: a fold over a tenth of a tile moves them little
        low, mid, high = np.percentile(values[self.tissue], [25, 50, 75])
        # a spread of nothing (a constant section) must not make everything an outlier
        least = 1e-3 + abs(mid) * 0.02
        down, up = max(1.4826 * (mid - low), least), max(1.4826 * (high - mid), least)
        off = values - mid
        return np.where(off < 0, off / down, off / up).astype(np.float32)

    def textureless(self, s: DamageSettings) -> Bools:
        """Where the local spread (sigma 150 nm) is a small part of the section's median one."""
        sigma = 150.0 / self.nm
        m1 = _smooth(self.mean, self.tissue, sigma)
        m2 = _smooth((self.mean - m1) ** 2, self.tissue, sigma)
        rough = np.sqrt(np.maximum(m2, 0))
        return rough < s.empty_texture * float(np.median(rough[self.tissue]))

    def dark_spots(self, s: DamageSettings) -> Bools:
        """Darker than membranes at a fine scale (sigma 20 nm)."""
        return self.fine <= -s.dust_depth

    def rim(self, where: Any, part: Bools) -> float:
        """Mean gradient around a spot, in units of the section's 95th percentile."""
        grown = tuple(
            slice(max(0, w.start - 2), min(n, w.stop + 2))
            for w, n in zip(where, self.mean.shape, strict=True)
        )
        inside = np.zeros([g.stop - g.start for g in grown], bool)
        inside[
            tuple(
                slice(w.start - g.start, w.stop - g.start)
                for w, g in zip(where, grown, strict=True)
            )
        ] = part
        rim = ndi.binary_dilation(inside, EIGHT) & ~inside
        if not rim.any() or self.steep <= 0:
            return 0.0
        return float(self.gradient[grown][rim].mean()) / self.steep


def _smooth(values: Floats, where: Bools, sigma: float) -> Floats:
    """Gaussian mean over `where` only (normalised convolution); the mean value elsewhere."""
    if sigma < 0.3:
        return values.astype(np.float32)
    sigma = min(sigma, max(values.shape))
    weight = ndi.gaussian_filter(where.astype(np.float32), sigma, truncate=3.0)
    total = ndi.gaussian_filter(np.where(where, values, 0).astype(np.float32), sigma, truncate=3.0)
    return np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), values[where].mean())


def _slow(values: Floats, where: Bools, sigma: float) -> Floats:
    """`_smooth` for a wide sigma, done on block means: the cost does not grow with sigma."""
    g = int(sigma // 8)
    if g < 2 or min(values.shape) < 2 * g:
        return _smooth(values, where, sigma)
    pad = [(0, -n % g) for n in values.shape]
    shape = [(n + p[1]) // g for n, p in zip(values.shape, pad, strict=True)]

    def blocks(a: Floats) -> Floats:
        return np.pad(a, pad).reshape(shape[0], g, shape[1], g).sum((1, 3), dtype=np.float32)

    weight = ndi.gaussian_filter(blocks(where.astype(np.float32)), sigma / g, truncate=3.0)
    total = ndi.gaussian_filter(blocks(np.where(where, values, 0)), sigma / g, truncate=3.0)
    small = np.where(weight > 1e-3, total / np.maximum(weight, 1e-3), values[where].mean())
    large = ndi.zoom(small.astype(np.float32), g, order=1, mode="nearest", grid_mode=True)
    return large[: values.shape[0], : values.shape[1]]
