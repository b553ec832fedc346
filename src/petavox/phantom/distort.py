"""Known distortions of sections: similarity, elastic field, lens, folds and cracks, and back.

What it is: functions of points (n, 2), (y, x), float64, pixels, each with its inverse. What it
is not: images (petavox.phantom.tiles) or nm (TilesTruth has both).

      tile p ──lens, stage──▶ section x ──folds, cracks──▶ whole x' ──elastic, turn──▶ aligned u

Several lines are undone one after the other: the second lies in the tissue that the first has
been taken out of, so where they cross, the first breaks the second.

Folds hide tissue: across a fold, x' jumps. Cracks show none: all of the gap maps to one line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from petavox.phantom.rng import uniform


@dataclass(frozen=True)
class Line:
    """A fold or a crack: a wavy line in section space, pixels.

    A point is s along and d across the line through `centre` with direction `along` (y, x). The
    line runs over |s| <= length / 2 and tapers to nothing at its ends.
    """

    kind: str
    centre: tuple[float, float]
    along: tuple[float, float]
    length: float
    width: float
    """fold: tissue that it hides; crack: its gap; px, at the middle of the line"""
    wave: tuple[float, float, float]
    """amplitude px, period px, phase of the line's bends"""
    reach: float
    """px over which the tissue beside the line is moved"""

    def _place(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        q = x - np.array(self.centre)
        t = np.array(self.along)
        n = np.array([-t[1], t[0]])
        s = q[..., 0] * t[0] + q[..., 1] * t[1]
        bend = self.wave[0] * np.sin(2 * np.pi * s / self.wave[1] + self.wave[2])
        d = q[..., 0] * n[0] + q[..., 1] * n[1] - bend
        inside = np.clip(1 - (2 * s / self.length) ** 2, 0, None)
        return d, self.width * np.minimum(1.0, 2.5 * inside), n

    def unfold(self, x: np.ndarray) -> np.ndarray:
        """Section -> whole tissue."""
        d, w, n = self._place(x)
        return x + self._move(d, w)[..., None] * n

    def _move(self, d: np.ndarray, w: np.ndarray) -> np.ndarray:
        side, far = np.sign(d), np.abs(d)
        if self.kind == "fold":
            return side * w / 2 * np.exp(-far / self.reach)
        beyond = np.maximum(far - w / 2, 0)
        return -side * np.where(far < w / 2, far, w / 2 * np.exp(-beyond / self.reach))

    def fold(self, whole: np.ndarray) -> np.ndarray:
        """Whole tissue -> section; NaN for tissue hidden in a fold."""
        goal, w, n = self._place(whole)  # s is the same on both sides: the move is across
        side, far = np.sign(goal), np.abs(goal)
        d = far.copy()
        for _ in range(60):
            if self.kind == "fold":
                d = far - w / 2 * np.exp(-d / self.reach)
            else:
                d = far + w / 2 * np.exp(-np.maximum(d - w / 2, 0) / self.reach)
        out = whole + (side * d - goal)[..., None] * n
        if self.kind == "fold":
            out = np.where((far < w / 2)[..., None], np.nan, out)
        return out

    def cover(self, x: np.ndarray) -> np.ndarray:
        """Where the damage shows: the dark band of a fold, the gap of a crack.

        x: points as `unfold` takes them, that is with the lines before this one undone.
        """
        d, w, _ = self._place(x)
        return np.abs(d) < w / 2


@dataclass(frozen=True)
class Blob:
    """A grain of dust: an irregular dark spot in section space."""

    centre: tuple[float, float]
    radius: float
    lobes: tuple[float, float, float]

    def cover(self, x: np.ndarray) -> np.ndarray:
        """Where the section shows it."""
        q = x - np.array(self.centre)
        a = np.arctan2(q[..., 0], q[..., 1])
        r = self.radius * (
            1 + 0.2 * np.sin(2 * a + self.lobes[0]) + 0.15 * np.sin(3 * a + self.lobes[1])
        )
        r = r + self.radius * 0.1 * np.sin(5 * a + self.lobes[2])
        return np.hypot(q[..., 0], q[..., 1]) < r


@dataclass(frozen=True)
class SectionWarp:
    """One section: whole tissue x' -> aligned u, with damage between the section and the whole.

    u = matrix (x' - centre) + centre + shift + E(x'); E is a cubic spline on control points
    `step` px apart, the first at -pad.
    """

    matrix: np.ndarray
    shift: np.ndarray
    centre: np.ndarray
    control: np.ndarray
    """(2, rows, columns) float64 px: displacement along y and x at the control points"""
    step: float
    pad: float
    lines: tuple[Line, ...] = ()
    blobs: tuple[Blob, ...] = ()
    _spline: list[np.ndarray] = field(default_factory=list, repr=False, compare=False)

    def elastic(self, x: np.ndarray) -> np.ndarray:
        """E at points (..., 2)."""
        if not self._spline:
            self._spline.extend(
                ndimage.spline_filter(c, order=3, mode="mirror") for c in self.control
            )
        q = (x + self.pad) / self.step
        at = [q[..., 0], q[..., 1]]
        return np.stack(
            [
                ndimage.map_coordinates(c, at, order=3, mode="mirror", prefilter=False)
                for c in self._spline
            ],
            -1,
        )

    def whole_to_aligned(self, x: np.ndarray) -> np.ndarray:
        """x' -> u."""
        q = x - self.centre
        m = self.matrix
        turned = np.stack(
            [q[..., 0] * m[0, 0] + q[..., 1] * m[0, 1], q[..., 0] * m[1, 0] + q[..., 1] * m[1, 1]],
            -1,
        )
        return turned + self.centre + self.shift + self.elastic(x)

    def section_to_aligned(self, x: np.ndarray) -> np.ndarray:
        """Section -> aligned. Points in a crack's gap go to its line."""
        x = np.asarray(x, float)
        for line in self.lines:
            x = line.unfold(x)
        return self.whole_to_aligned(x)

    def aligned_to_section(self, u: np.ndarray, rounds: int = 60) -> np.ndarray:
        """Aligned -> section, within 1e-6 px; NaN for tissue hidden in a fold."""
        u = np.asarray(u, float)
        back = np.linalg.inv(self.matrix)

        def turned(q: np.ndarray) -> np.ndarray:
            return np.stack([q[..., 0] * back[k, 0] + q[..., 1] * back[k, 1] for k in (0, 1)], -1)

        x = turned(u - self.centre - self.shift) + self.centre
        for _ in range(rounds):
            wrong = self.whole_to_aligned(x) - u
            x = x - turned(wrong)
            if wrong.size == 0 or np.abs(wrong).max() < 1e-7:
                break
        for line in reversed(self.lines):
            x = line.fold(x)
        return x

    def damaged(self, x: np.ndarray) -> np.ndarray:
        """Kind of damage at section points: 0 none, 1 fold, 2 crack, 3 dust; uint8."""
        out = np.zeros(x.shape[:-1], np.uint8)
        undone = np.asarray(x, float)
        for line in self.lines:
            out[line.cover(undone)] = 1 if line.kind == "fold" else 2
            undone = line.unfold(undone)
        for blob in self.blobs:
            out[blob.cover(x)] = 3
        return out

    def facts(self) -> dict[str, Any]:
        """What JSON keeps of the damage."""
        return {"lines": [vars(v) for v in self.lines], "blobs": [vars(b) for b in self.blobs]}


def smooth_field(
    seed: int, extent: tuple[float, float], amplitude: float, sigma: float, step: float, pad: float
) -> np.ndarray:
    """A smooth random displacement: (2, rows, columns) px on control points, -pad .. extent + pad.

    amplitude: standard deviation, px.  sigma: of the Gaussian that smooths white noise, px.
    """
    shape = [int(np.ceil((e + 2 * pad) / step)) + 1 for e in extent]
    margin = int(np.ceil(4 * sigma / step))
    rows, columns = (np.arange(n + 2 * margin) for n in shape)
    u = [
        uniform(seed + 7 * i, np.arange(2)[:, None, None], rows[None, :, None], columns[None, None])
        for i in range(4)
    ]
    white = u[0] + u[1] - u[2] - u[3]
    smooth = ndimage.gaussian_filter(white, (0, sigma / step, sigma / step))
    # scaled by what the filter leaves of the noise's variance, not by the sample: a field much
    # wider than the section is a shift and must not be blown up
    s = max(sigma / step, 1e-6)
    kept = np.sqrt(1 / 3) / (2 * s * np.sqrt(np.pi)) if s > 0.5 else np.sqrt(1 / 3)
    inner = (slice(None), slice(margin, margin + shape[0]), slice(margin, margin + shape[1]))
    return smooth[inner] * (amplitude / kept)


def lens(p: np.ndarray, shape: tuple[int, int], amount: float) -> np.ndarray:
    """Displacement of tile pixels by the lens: cubic in the radius, `amount` px at the edges."""
    half = np.array(shape) / 2
    r = (np.asarray(p, float) - half) / half
    return amount * r * (r[..., 0:1] ** 2 + r[..., 1:2] ** 2)


def unlens(q: np.ndarray, shape: tuple[int, int], amount: float, rounds: int = 40) -> np.ndarray:
    """The tile pixel p with p + lens(p) = q."""
    p = np.array(q, float)
    for _ in range(rounds):
        last, p = p, q - lens(p, shape, amount)
        if p.size == 0 or np.nanmax(np.abs(p - last), initial=0) < 1e-9:
            break
    return p
