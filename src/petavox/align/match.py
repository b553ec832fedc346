"""Matches between neighbouring sections at one level of the pyramid.

What it is: sections warped into the common frame by what is known so far, cut into overlapping
windows on one lattice, correlated. `window_spectra` (one section) and `compare` (two sections)
are pure; a section's spectra serve all its pairs. What it is not: the solve, or the levels.

Content at c - d/2 of the warped section a lies at c + d/2 of the warped section b; the pull
fields say which points of the sections these are. So the matches are exact however far the
sections are from aligned, and no field is ever approximated by adding increments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from petavox.align import correlate, warp
from petavox.align.frames import Field
from petavox.align.solve import Matches

LEAST_COVER = 0.55
"""Share of a window (tapered) that must be valid in both sections."""
SAMPLE = 128
"""Windows from which the coherence of a pair is measured."""


@dataclass(frozen=True)
class Windows:
    """First pixels (y, x) of square windows on the common frame at one level, (n,) each.

    size: pixels of the level.  stride: pixels of the level.  factor: full pixels per level pixel.
    """

    y: np.ndarray
    x: np.ndarray
    size: int
    stride: int
    factor: int

    @property
    def centres(self) -> np.ndarray:
        """Centres in full pixels, (n, 2)."""
        at = np.stack([self.y, self.x], 1) + (self.size - 1) / 2
        return at * self.factor + (self.factor - 1) / 2


def windows_over(
    low: np.ndarray, high: np.ndarray, *, size: int, stride: int, factor: int, most: int
) -> list[Windows]:
    """Windows that cover low..high (full pixels, y x), in square groups of at most `most`."""
    begin = np.floor(np.asarray(low) / factor).astype(int)
    end = np.ceil(np.asarray(high) / factor).astype(int)
    axes = []
    for a, b in zip(begin, end, strict=True):
        count = max(1, -(-(b - a - size) // stride) + 1)
        middle = (a + b - size - (count - 1) * stride) // 2
        axes.append(middle + stride * np.arange(count))
    side = max(1, int(np.sqrt(most)))
    groups = []
    for i in range(0, len(axes[0]), side):
        for j in range(0, len(axes[1]), side):
            y, x = np.meshgrid(axes[0][i : i + side], axes[1][j : j + side], indexing="ij")
            groups.append(Windows(y.ravel(), x.ravel(), size, stride, factor))
    return groups


@dataclass(frozen=True)
class Spectra:
    """Spectra (channels, n, s, s // 2 + 1) of one section's windows, and how much is valid (n,)."""

    values: Tensor
    cover: np.ndarray


def warped(
    image: np.ndarray,
    valid: np.ndarray,
    pull: Field,
    start: tuple[int, int],
    shape: tuple[int, int],
    factor: int,
    device: str,
) -> tuple[Tensor, Tensor]:
    """A piece of a section in the common frame, and its soft mask; both (h, w) float32.

    image, valid: the section at this level, (h, w).  pull: common -> section, full pixels.
    start: first pixel of the piece, in pixels of the level.
    """
    half = (factor - 1) / 2
    y = (start[0] + np.arange(shape[0])) * factor + half
    x = (start[1] + np.arange(shape[1])) * factor + half
    at = (pull.on_grid(y, x) - half) / factor
    piece = warp.reach(at, image.shape)
    source, mask = image[piece], valid[piece]
    if source.size == 0 or not mask.any():
        zero = torch.zeros(shape, device=device)
        return zero, zero
    at -= [piece[0].start, piece[1].start]
    values = torch.as_tensor(np.ascontiguousarray(source), dtype=torch.float32, device=device)
    ok = torch.as_tensor(np.ascontiguousarray(mask), device=device)
    values = torch.where(ok, values, values[ok].mean())
    coordinates = torch.as_tensor(at, dtype=torch.float32, device=device)
    soft = warp.sample(ok.float(), coordinates, cubic=False) * warp.inside(
        coordinates, source.shape
    )
    return warp.sample(values, coordinates), soft


def window_spectra(
    image: np.ndarray,
    valid: np.ndarray,
    pull: Field,
    windows: Windows,
    device: str = "cpu",
    texture: np.ndarray | None = None,
) -> Spectra:
    """Warp what the windows need of a section, cut them, transform them.

    texture: a second channel (petavox.align.texture), of the image's shape.
    """
    start = (int(windows.y.min()), int(windows.x.min()))
    shape = (
        int(windows.y.max()) - start[0] + windows.size,
        int(windows.x.max()) - start[1] + windows.size,
    )
    values, soft = warped(image, valid, pull, start, shape, windows.factor, device)
    y, x = windows.y - start[0], windows.x - start[1]
    weight = correlate.cut(soft, y, x, windows.size)
    channels = [correlate.spectra(correlate.cut(values, y, x, windows.size), weight)]
    if texture is not None:
        grain, _ = warped(texture, valid, pull, start, shape, windows.factor, device)
        channels.append(correlate.spectra(correlate.cut(grain, y, x, windows.size), weight))
    return Spectra(torch.stack(channels), weight.mean((1, 2)).cpu().numpy())


def compare(
    a: Spectra,
    b: Spectra,
    pulls: tuple[Field, Field],
    windows: Windows,
    names: tuple[int, int],
    *,
    search: int,
    sigma: float = 1.5,
    least: float = 0.12,
) -> Matches:
    """Matches of two sections whose windows were transformed; weights are confidences.

    pulls: common -> section of a and of b.  search: largest shift, pixels of the level.
    sigma: of the band-pass before the coherence is known, pixels of the level.
    least: confidence below which a window gives no match.
    """
    use = np.flatnonzero((a.cover > LEAST_COVER) & (b.cover > LEAST_COVER))
    at = torch.as_tensor(use, device=a.values.device)
    sa, sb = a.values[:, at], b.values[:, at]
    stride = float(windows.stride * windows.factor)
    if not len(use):
        none = np.zeros((0, 2))
        return Matches(*names, none, none, np.zeros(0), stride)
    weights = torch.zeros(sa.shape[0], *sa.shape[2:], device=sa.device)
    weights[0] = correlate.band(sa[0], sb[0], sigma)
    # the coherence needs no more than some hundred windows, evenly taken; the second round
    # measures it with the better shifts of the first
    some = slice(None, None, max(1, -(-len(use) // SAMPLE)))
    ta, tb = sa[:, some], sb[:, some]
    information = 0.0
    for _ in range(2):
        tried = correlate.peaks(ta, tb, weights, search=search, mirror=False)
        good = tried.confidence > max(least, 0.15)
        if int(good.sum()) < 12:
            break
        channels, parts = zip(
            *(correlate.coherent(u, v, tried.shift, good) for u, v in zip(ta, tb, strict=True)),
            strict=True,
        )
        if max(float(c.max()) for c in channels) <= 0:
            break
        weights, information = torch.stack(channels), sum(parts) / windows.factor**2
    found = correlate.peaks(sa, sb, weights, search=search)
    confidence = found.confidence.cpu().numpy().astype(float)
    keep = confidence > least
    d = found.shift.cpu().numpy().astype(float)[keep] * windows.factor
    c = windows.centres[use][keep]
    cover = np.minimum(a.cover, b.cover)[use][keep]
    weight = np.clip(confidence[keep] / 0.4, 0.05, 1) * np.clip(cover, 0, 1)
    return Matches(
        *names, pulls[0](c - d / 2), pulls[1](c + d / 2), weight, stride, information=information
    )


def patch_correlation(
    a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], patch: int, sigma: float = 1.0
) -> np.ndarray:
    """Normalised correlation of two aligned images by patch, (ny, nx); NaN where not both valid.

    a, b: (image, soft mask) in one frame, (h, w).  patch: pixels.  sigma: blur first, pixels.
    """
    h, w = (n // patch * patch for n in a[0].shape)
    if h == 0 or w == 0:
        return np.full((0, 0), np.nan, np.float32)

    def tiles(t: Tensor) -> Tensor:
        t = t[:h, :w].reshape(h // patch, patch, w // patch, patch)
        return t.permute(0, 2, 1, 3).reshape(h // patch, w // patch, -1)

    m = tiles(((a[1] > 0.99) & (b[1] > 0.99)).float())
    n = m.sum(-1, keepdim=True)
    x, y = (tiles(warp.blur(t[0], sigma)) for t in (a, b))
    x = (x - (x * m).sum(-1, keepdim=True) / n.clamp_min(1)) * m
    y = (y - (y * m).sum(-1, keepdim=True) / n.clamp_min(1)) * m
    norm = torch.sqrt(x.square().sum(-1) * y.square().sum(-1))
    value = (x * y).sum(-1) / norm.clamp_min(1e-6)
    bad = (n[..., 0] < 0.5 * patch * patch) | (norm < 1e-6)
    return np.asarray(torch.where(bad, torch.nan, value).cpu().numpy())


def inlier_share(matches: Sequence[Matches]) -> float:
    """Weighted share of matches that the solve believed, 0..1."""
    total = sum(float(m.weight.sum()) for m in matches)
    left = sum(float((m.weight * m.inlier).sum()) for m in matches if len(m.inlier))
    return left / total if total else 0.0
