"""Do axes, voxel size and labels fit an image? Statistics of arrays that tell.

What it is: three measures. (1) The length over which voxels look alike, along each axis: tissue
has no preferred direction, so in nm the three should agree; where they agree better after the
voxel size is reordered, the order is wrong. (2) The same for labels, as mean run lengths. (3) The
correlation of label boundaries with the image's membranes under every permutation and flip of
axes, and at which shift it is best.
What it is not: reading (petavox.volume.check does that), or registration.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

from petavox.space import Zyx, zyx

LIKE = 1 / math.e
"""The autocorrelation at which voxels no longer count as alike."""


def likeness_lengths(image: np.ndarray) -> tuple[float, float, float]:
    """Voxels along z, y, x over which the autocorrelation falls to 1/e; NaN where it never does.

    image: (z, y, x). Linear between whole lags; lags up to half of the side. Of large images only
    every so many lines are taken, some two million voxels for each axis.
    """
    step = max(1, math.isqrt(image.size // 2_000_000))
    z, y, x = (
        _likeness_length(np.ascontiguousarray(lines, np.float32))
        for lines in (
            np.moveaxis(image, axis, 0)[:, step // 2 :: step, step // 2 :: step]
            for axis in range(3)
        )
    )
    return (z, y, x)


def _likeness_length(values: np.ndarray) -> float:
    before = 1.0
    for lag in range(1, values.shape[0] // 2 + 1):
        now = _correlation(values[:-lag], values[lag:])
        if not math.isfinite(now):
            return math.nan
        if now <= LIKE:
            return lag - 1 + (before - LIKE) / (before - now)
        before = now
    return math.nan


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    scale = math.sqrt(float(np.vdot(a, a)) * float(np.vdot(b, b)))
    return float(np.vdot(a, b)) / scale if scale > 0 else math.nan


def run_lengths(labels: np.ndarray) -> tuple[float, float, float]:
    """Mean voxels from one change of id to the next along z, y, x; NaN where none changes."""
    out = []
    for axis in range(3):
        moved = np.moveaxis(labels, axis, 0)
        changes = int(np.count_nonzero(moved[1:] != moved[:-1]))
        out.append(moved[1:].size / changes if changes else math.nan)
    return (out[0], out[1], out[2])


def spread(lengths: Sequence[float], voxel_size: Iterable[float]) -> float:
    """The longest over the shortest of three lengths in nm; 1 where all agree; NaN ones left out.

    lengths: voxels, zyx.  voxel_size: nm, zyx.
    """
    nm = [n * v for n, v in zip(lengths, voxel_size, strict=True) if math.isfinite(n)]
    return max(nm) / min(nm) if len(nm) > 1 else 1.0


def best_order(lengths: Sequence[float], voxel_size: Iterable[float]) -> tuple[Zyx, float]:
    """The reordering of a voxel size that makes the lengths agree best, and its spread.

    The order (0, 1, 2) is as declared; it wins ties.
    """
    orders = [zyx(p) for p in itertools.permutations(range(3))]
    sizes = list(voxel_size)
    return min(((o, spread(lengths, [sizes[i] for i in o])) for o in orders), key=lambda f: f[1])


@dataclass(frozen=True)
class Turn:
    """A permutation of axes and then flips: what could make labels fit an image.

    order: which axis of the labels becomes z, y, x.  flipped: axes reversed afterwards.
    """

    order: Zyx
    flipped: tuple[bool, bool, bool]

    @property
    def is_identity(self) -> bool:
        """True if it changes nothing."""
        return self.order == (0, 1, 2) and not any(self.flipped)

    def __str__(self) -> str:
        if self.is_identity:
            return "as they are"
        parts = []
        if self.order != (0, 1, 2):
            parts.append("axes taken in the order " + " ".join("zyx"[i] for i in self.order))
        if any(self.flipped):
            names = ", ".join(a for a, f in zip("zyx", self.flipped, strict=True) if f)
            parts.append(f"{names} reversed")
        return ", then ".join(parts)

    def of(self, values: np.ndarray) -> np.ndarray:
        """The array (z, y, x) after this turn, as a view."""
        step = tuple(slice(None, None, -1 if f else 1) for f in self.flipped)
        return values.transpose(self.order)[step]


def turns(labels: Sequence[int], image: Sequence[int]) -> Iterator[Turn]:
    """All turns that give labels of one shape the shape of the image; identity first if it does."""
    for order in itertools.permutations(range(3)):
        if all(labels[i] == n for i, n in zip(order, image, strict=True)):
            for z, y, x in itertools.product((False, True), repeat=3):
                yield Turn(zyx(order), (z, y, x))


def membranes(image: np.ndarray) -> np.ndarray:
    """How dark voxels are against their surroundings: (z, y, x) float32, mean 0, deviation 1."""
    values = image.astype(np.float32)
    dark = ndimage.uniform_filter(values, 15) - ndimage.gaussian_filter(values, 1.0)
    return _standard(dark)


def boundaries(labels: np.ndarray) -> np.ndarray:
    """1 where a voxel and one of its six neighbours have different ids: (z, y, x) float32."""
    edge = np.zeros(labels.shape, bool)
    for axis in range(3):
        a, e = np.moveaxis(labels, axis, 0), np.moveaxis(edge, axis, 0)
        differ = a[1:] != a[:-1]
        e[1:] |= differ
        e[:-1] |= differ
    return edge.astype(np.float32)


def fits(image: np.ndarray, labels: np.ndarray) -> list[tuple[Turn, float]]:
    """Correlation of label boundaries with membranes for every possible turn, best first.

    image: (z, y, x).  labels: (z, y, x) before turning.  The magnitude is compared: a stain may
    make membranes bright.
    """
    dark, edge = membranes(image), _standard(boundaries(labels))
    found = [
        (turn, float(np.vdot(dark, np.ascontiguousarray(turn.of(edge))) / dark.size))
        for turn in turns(labels.shape, image.shape)
    ]
    return sorted(found, key=lambda f: -abs(f[1]))


def best_shift(image: np.ndarray, labels: np.ndarray) -> tuple[Zyx, float, float]:
    """The shift of the labels at which their boundaries fit the membranes best.

    Returns (shift in voxels zyx, correlation there, correlation unshifted); shifts up to a quarter
    of each side. Both arrays (z, y, x) of one shape.
    """
    dark, edge = membranes(image), _standard(boundaries(labels))
    shape = [fft.next_fast_len(n + n // 4, real=True) for n in dark.shape]
    product = fft.rfftn(dark, shape) * np.conj(fft.rfftn(edge, shape))
    cross = fft.irfftn(product, shape) / dark.size
    for axis, n in enumerate(dark.shape):  # far shifts are out of the question
        moved = np.moveaxis(cross, axis, 0)
        moved[n // 4 + 1 : moved.shape[0] - n // 4] = 0
    at = np.unravel_index(int(np.argmax(np.abs(cross))), cross.shape)
    shift = [int(i) if i <= n // 2 else int(i) - n for i, n in zip(at, cross.shape, strict=True)]
    return zyx(shift), float(cross[at]), float(cross[0, 0, 0])


def _standard(values: np.ndarray) -> np.ndarray:
    values = values - values.mean(dtype=np.float64)
    deviation = float(np.sqrt(np.vdot(values, values) / values.size))
    return np.asarray(values / deviation if deviation > 0 else values, np.float32)
