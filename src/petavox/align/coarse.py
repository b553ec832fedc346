"""Rough alignment of two sections from their thumbnails: any rotation, flip, scale, shift.

What it is: a scan of rotations, each a batched FFT correlation of band-passed, soft-masked
thumbnails; narrow first (sections usually come nearly upright), all round and flipped if that
finds nothing; then a finer scan of rotation and scale. What it is not: an estimate to rely on to
better than a thumbnail's pixel or two; the pyramid refines it.

How far a result is trusted: 1 - best value at other rotations / value at the best, the chance
level being measured in the same pictures. A narrow scan measures chance on few rotations, so a
trust that is not plain there is measured again all round: with a section turned by 170 degrees the
best of twenty wrong rotations can lead the others by a quarter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from petavox.align import warp
from petavox.align.correlate import good_size
from petavox.align.frames import Field

BELIEVED = 0.22
"""Trust from which a rough alignment counts as found."""
PLAIN = 0.45
"""Trust of a narrow scan from which all other rotations need not be looked at."""


@dataclass(frozen=True)
class Thumbnail:
    """A small section: image (h, w) band-passed, zero outside; `factor` full pixels per pixel."""

    image: Tensor
    factor: int


@dataclass(frozen=True)
class Rough:
    """A rough transform a -> b (full pixels), the normalised correlation, and the trust 0..1."""

    transform: Field
    score: float
    trust: float
    degrees: float
    scale: float
    flipped: bool

    @property
    def found(self) -> bool:
        """True if the trust suffices."""
        return self.trust >= BELIEVED


def thumbnail(
    image: np.ndarray, valid: np.ndarray, factor: int, *, sigma: float = 1.2, device: str = "cpu"
) -> Thumbnail:
    """A thumbnail from a section already averaged down by `factor`."""
    values = torch.as_tensor(image, dtype=torch.float32, device=device)
    mask = torch.as_tensor(valid, dtype=torch.float32, device=device)
    wide = 5 * sigma
    weight = warp.blur(mask, wide).clamp_min(1e-3)
    low = warp.blur(values * mask, wide) / weight
    narrow = warp.blur(mask, sigma).clamp_min(1e-3)
    fine = (warp.blur(values * mask, sigma) / narrow - low) * mask
    # local contrast is evened out, so that one dark blob does not decide
    contrast = torch.sqrt(
        warp.blur(fine.square(), 2 * wide) / warp.blur(mask, 2 * wide).clamp_min(1e-3)
    )
    typical = contrast[mask > 0].median() if bool((mask > 0).any()) else contrast.mean()
    return Thumbnail(fine / (contrast + 0.3 * typical).clamp_min(1e-6) * mask, factor)


def rough(
    a: Thumbnail,
    b: Thumbnail,
    *,
    narrow: float = 12.0,
    whole_circle: bool = True,
    device: str = "cpu",
) -> Rough:
    """How section b lies relative to section a.

    narrow: degrees searched at first, either way.  whole_circle: search all rotations and flips
    if nothing is found there plainly.
    """
    radius = max(max(a.image.shape), max(b.image.shape)) / 2
    step = float(np.clip(np.rad2deg(1.6 / radius), 0.6, 4.0))
    n = int(np.ceil(narrow / step))
    angles = step * np.arange(-n, n + 1)
    best = _scan(a, b, angles, [1.0], [False], step)
    if best.trust < PLAIN and whole_circle:
        around = step * np.arange(int(np.ceil(360 / step)))
        best = _scan(a, b, around, [1.0], [False, True], step)
    fine = best.degrees + step * np.array([-0.67, -0.33, 0.0, 0.33, 0.67])
    refined = _scan(a, b, fine, [0.98, 0.99, 1.0, 1.01, 1.02], [best.flipped], step)
    return Rough(
        refined.transform,
        refined.score,
        best.trust,
        refined.degrees,
        refined.scale,
        refined.flipped,
    )


def _scan(
    a: Thumbnail,
    b: Thumbnail,
    angles: np.ndarray,
    scales: Sequence[float],
    flips: Sequence[bool],
    step: float,
) -> Rough:
    """The best of all combinations; trust from the rotations more than three steps away."""
    size = good_size(int(1.5 * max(max(a.image.shape), max(b.image.shape))))
    fa = torch.fft.rfft2(a.image, s=(size, size))
    centre_a = (np.asarray(a.image.shape) - 1) / 2
    centre_b = (np.asarray(b.image.shape) - 1) / 2
    norm_a = float(a.image.square().sum().sqrt())
    tried: list[tuple[float, float, float, bool, np.ndarray, np.ndarray]] = []
    jobs = [(float(t), float(s), f) for f in flips for s in scales for t in angles]
    h, w = a.image.shape
    for i in range(0, len(jobs), 16):
        part = jobs[i : i + 16]
        matrices = [_matrix(*job) for job in part]
        turned = torch.stack([_turned(b, m, centre_b, (h, w), centre_a) for m in matrices])
        fb = torch.fft.rfft2(turned, s=(size, size))
        c = torch.fft.irfft2(fa.conj() * fb, s=(size, size)).reshape(len(part), -1)
        top, where = c.max(1)
        norm_b = turned.square().sum((1, 2)).sqrt()
        score = top / (norm_a * norm_b).clamp_min(1e-6)
        for job, m, s, p in zip(part, matrices, score.tolist(), where.tolist(), strict=True):
            d = np.array([p // size, p % size], float)
            d = np.where(d > size / 2, d - size, d)
            tried.append((s, job[0], job[1], job[2], m, d))
    score, degrees, scale, flipped, matrix, shift = max(tried, key=lambda t: t[0])
    others = [
        t[0]
        for t in tried
        if t[3] != flipped or abs((t[1] - degrees + 180) % 360 - 180) > 3.01 * step
    ]
    trust = 1 - max(others) / score if others and score > 0 else 0.0
    # p in a lies, in the turned b, at p + shift; and that shows b at matrix (p - centre) + centre
    half = (a.factor - 1) / 2
    full_a = centre_a * a.factor + half
    full_b = centre_b * b.factor + (b.factor - 1) / 2
    ratio = b.factor / a.factor
    whole = matrix * ratio
    transform = Field.affine(whole, full_b + whole @ (shift * a.factor - full_a))
    return Rough(transform, score, max(trust, 0.0), degrees, scale, flipped)


def _matrix(degrees: float, scale: float, flipped: bool) -> np.ndarray:
    t = np.deg2rad(degrees)
    turn = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    return scale * turn @ np.diag([1.0, -1.0 if flipped else 1.0])


def _turned(
    b: Thumbnail,
    matrix: np.ndarray,
    centre_b: np.ndarray,
    shape: tuple[int, int],
    centre_a: np.ndarray,
) -> Tensor:
    """b seen in a frame of a's shape: pixel p shows b at matrix (p - centre_a) + centre_b."""
    pull = Field.affine(matrix, centre_b - matrix @ centre_a)
    at = torch.as_tensor(warp.grid(pull, (0, 0), shape), dtype=torch.float32, device=b.image.device)
    return warp.sample(b.image, at, cubic=False) * warp.inside(
        at, (b.image.shape[0], b.image.shape[1])
    )
