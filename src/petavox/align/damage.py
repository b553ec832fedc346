"""Where a section is damaged: folds, cracks, dust, blank, saturated and empty areas.

>>> found = masks(image, valid, pixel_nm=4.0)                          # doctest: +SKIP
>>> found.match_mask                     # (y, x) bool: True where matching may look
>>> found.render_mask                    # (y, x) bool: True where the pixel shows tissue
>>> [(f.kind, f.area_um2) for f in found.findings]                     # doctest: +SKIP

What it is: pure, deterministic functions of one section or one tile. They work on a reduced copy
whose pixel is a whole number of pixels near `working_nm` (20 nm), or coarser where the section
would have more than `max_working_px` of them: memory beside the input is at most about 60 bytes
per working pixel, 1 GB with the default. What it is not: a learned detector, or a judge of focus
(petavox.align.quality).

How. Grey values are smoothed a little, a slow background is taken off, and what is left is
measured in units of the section's own spread (median to 16th and to 84th percentile).
- fold: a band darker than tissue gets at that scale, straight over at least `line_nm`. A line is
  slid over the dark pixels in all directions and kept where `line_share` of it is dark (an opening
  by line segments that tolerates gaps; Soille and Talbot 2001, directional morphological
  filtering): mitochondria, as dark but short, and membranes, long but thin, fall out.
- crack: the same for bands brighter than tissue, and long bands of one constant value.
- dust: small and darker than membranes, with a rim as sharp as the section's sharpest edges.
- blank: nothing there: not valid, or one constant value. saturated: constant at the type's top.
- empty: a large area without texture (resin, film).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from petavox.align.damage_view import DamageSettings, View
from petavox.align.lines import EIGHT, line_opening, parts
from petavox.align.reduced import Reduced, check_image, enlarged, factor_for

Bools = NDArray[np.bool_]
Floats = NDArray[np.float32]

KINDS = ("fold", "crack", "dust", "blank", "saturated", "empty")
"""Kinds of findings. None is matched; blank areas and cracks are not shown either."""


@dataclass(frozen=True)
class Finding:
    """One damaged place.

    kind: one of KINDS.  box: (y0, x0, y1, x1), half-open, in pixels of the input.
    area_um2: square micrometres.  score: how far beyond its threshold, 1 = just there.
    """

    kind: str
    box: tuple[int, int, int, int]
    area_um2: float
    score: float


@dataclass(frozen=True)
class Damage:
    """Masks of one section, at the working resolution, and what was found.

    match, render: (y, x) bool, working resolution.  kinds: (y, x) uint8, 0 where sound, else 1 +
    the place in KINDS.  factor: input pixels per working pixel.  shape: of the input.
    """

    match: Bools
    render: Bools
    kinds: NDArray[np.uint8]
    findings: tuple[Finding, ...]
    factor: int
    shape: tuple[int, int]

    @property
    def match_mask(self) -> Bools:
        """(y, x) bool in the input's pixels: True where matches may be sought."""
        return enlarged(self.match, self.factor, self.shape)

    @property
    def render_mask(self) -> Bools:
        """(y, x) bool in the input's pixels: True where the pixel is to be shown."""
        return enlarged(self.render, self.factor, self.shape)

    def count(self, kind: str) -> int:
        """Number of findings of a kind."""
        return sum(f.kind == kind for f in self.findings)


def masks(
    image: NDArray[Any],
    valid: Bools,
    pixel_nm: float,
    settings: DamageSettings | None = None,
) -> Damage:
    """Damage of a section or tile.

    image: (y, x) uint8 or uint16, any size, also one pixel high or empty.  valid: (y, x) bool,
    False where there is no image.  pixel_nm: edge of a pixel.
    Raises BadInput for another type or shape.
    """
    check_image(image, valid)
    s = settings or DamageSettings()
    factor = factor_for(pixel_nm, s.working_nm, (image.shape[0], image.shape[1]), s.max_working_px)
    return find(Reduced.of(image, valid, factor), pixel_nm, s)


def find(small: Reduced, pixel_nm: float, settings: DamageSettings | None = None) -> Damage:
    """Damage of a section given as its reduced copy; see `masks`."""
    s = settings or DamageSettings()
    nm = pixel_nm * small.factor
    um2 = (nm / 1000) ** 2
    findings: list[Finding] = []
    hurt = {kind: np.zeros(small.mean.shape, bool) for kind in KINDS}

    def keep(kind: str, label: NDArray[np.int32], number: int, where: Any, score: float) -> None:
        part = label[where] == number
        hurt[kind][where] |= part
        y, x, f = where[0], where[1], small.factor
        box = (
            y.start * f,
            x.start * f,
            min(y.stop * f, small.shape[0]),
            min(x.stop * f, small.shape[1]),
        )
        findings.append(
            Finding(kind, box, round(float(part.sum()) * um2, 4), round(float(score), 3))
        )

    if small.mean.size == 0:
        none = np.zeros(small.mean.shape, bool)
        return Damage(none, none, none.astype(np.uint8), (), small.factor, small.shape)
    flat = _flat(small, max(1, round(s.flat_um2 / um2)))
    for number, where, label in parts(flat):
        here = label[where] == number
        value = small.mean[where][here & (small.cover[where] > 0)]
        long = _is_long(here, s.line_nm / nm)
        if long and not _touches_rim(where, small.mean.shape):
            kind = "crack"
        elif len(value) and float(value.min()) >= np.iinfo(small.low.dtype).max:
            kind = "saturated"
        else:
            kind = "blank"
        keep(kind, label, number, where, 1.0)

    tissue = ~flat & (small.cover > 0)
    if int(tissue.sum()) >= 64:
        view = View(small.mean, tissue, nm, s)
        empty = view.textureless(s) & tissue
        for number, where, label in parts(empty):
            here = label[where] == number
            if here.sum() * um2 >= s.empty_um2:
                keep("empty", label, number, where, 1.0)
        # a working pixel at the rim of a blank area is partly blank: too dark to be judged
        rim = ndi.binary_dilation(flat, EIGHT, iterations=2)
        open_ = tissue & ~rim & ~hurt["empty"]
        for kind, side, limit, thin in (
            ("fold", -1, s.fold_depth, s.thin_fold_depth),
            ("crack", 1, s.crack_height, s.thin_crack_height),
        ):
            height, fine = side * view.level, side * view.fine
            lines = line_opening((height >= limit) & open_, s.line_nm / nm, s.line_share)
            if lines.any():
                edge = limit * (s.band_edge if kind == "fold" else (1 + s.band_edge) / 2)
                wide = line_opening((height >= edge) & open_, s.line_nm / nm, s.line_share)
                lines = ndi.binary_propagation(lines, EIGHT, mask=lines | wide)
            lines |= line_opening((fine >= thin) & open_, s.thin_line_nm / nm, s.thin_share)
            height = np.maximum(height / limit, fine / thin)
            for number, where, label in parts(lines):
                here = label[where] == number
                if here.sum() * um2 < s.flat_um2 / 2:  # a splinter of a band found beside it
                    hurt[kind][where] |= here
                    continue
                keep(kind, label, number, where, np.median(height[where][here]))
        bands = ndi.binary_dilation(hurt["fold"] | hurt["crack"], EIGHT, iterations=3)
        for number, where, label in parts(view.dark_spots(s) & open_ & ~bands):
            here = label[where] == number
            area = here.sum() * um2
            if math.pi / 4 * (s.dust_nm / 1000) ** 2 <= area <= s.dust_max_um2:
                least = s.dust_large_rim if area >= s.dust_large_um2 else s.dust_rim
                rim = view.rim(where, here)
                if rim >= least:
                    keep("dust", label, number, where, rim / least)

    reach = max(1, round(s.margin_nm / nm))
    wide = _dilated(hurt["fold"] | hurt["crack"] | hurt["dust"], reach)
    nothing = hurt["blank"] | (small.cover == 0)
    hidden = nothing | hurt["crack"]
    match = ~(wide | nothing | hurt["saturated"] | hurt["empty"]) & (small.cover >= 0.5)
    findings.sort(key=lambda f: (KINDS.index(f.kind), f.box))
    kinds = np.zeros(small.mean.shape, np.uint8)
    for code in range(len(KINDS), 0, -1):  # where kinds meet, the first of KINDS is named
        kinds[hurt[KINDS[code - 1]]] = code
    return Damage(match, ~hidden, kinds, tuple(findings), small.factor, small.shape)


def _flat(small: Reduced, least: int) -> Bools:
    """Constant or invalid areas of at least `least` working pixels.

    Constant means the same value over a neighbourhood of 3 by 3 working pixels.
    """
    high = ndi.maximum_filter(small.high, 3)
    low = ndi.minimum_filter(small.low, 3)
    seen = small.cover > 0
    same = ndi.binary_dilation((high == low) & seen, EIGHT)
    # the dilation gives back the rim that the filters took, as long as it is itself constant
    flat = (same & (small.high == small.low) & seen) | ~seen
    label, _ = ndi.label(flat, EIGHT)
    size = np.bincount(label.ravel())
    size[0] = 0
    return (size >= least)[label] | ~seen


def _is_long(part: Bools, length: float) -> bool:
    """True for a band: its hull reaches `length`, and it is eight times longer than wide."""
    reach = math.hypot(*part.shape)
    return reach >= length and part.sum() * 8 <= reach * reach


def _touches_rim(where: Any, shape: tuple[int, ...]) -> bool:
    """True if a part lies along the rim, as the blank margin of a rotated section does."""
    return any(w.start == 0 or w.stop == n for w, n in zip(where, shape, strict=True))


def _dilated(mask: Bools, reach: int) -> Bools:
    if not mask.any():
        return mask
    return ndi.distance_transform_edt(~mask) <= reach
