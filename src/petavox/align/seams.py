"""Which tiles of a section overlap, and by how much each pair is shifted.

What it is: the settings of stitching, neighbour pairs, and the masked normalised correlation of a
pair's overlap. What it is not: the fine matches (petavox.align.seam_blocks), or what all pairs
together say (petavox.align.places).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from petavox.align import correlate, warp
from petavox.align.solve import Matches
from petavox.settings import Settings


class StitchSettings(Settings):
    """How tiles are stitched; lengths in pixels."""

    search_px: int = 24
    """Error of the stage positions that is searched; three times that if nothing is found."""
    least_overlap_px: int = 16
    """Overlaps narrower than this are not matched."""
    block_px: int = 64
    """Side of the blocks matched inside overlaps; cut down to the overlap."""
    least_trust: float = 0.25
    """Confidence from which the shift of a pair is believed."""
    stage_weight: float = 0.002
    """Weight of a stage position against a believed pair."""
    lens: bool = True
    """Estimate one distortion common to all tiles."""
    elastic: bool = True
    """Let each tile bend a little of its own."""
    smooth_px: float = 400.0
    """Stiffness of a tile's own field; what varies over less than three times this is noise."""
    slope_px: float = 60.0
    """Resistance of a tile to stretch and shear."""
    tolerance_px: float = 3.0
    """Residual at which a match has lost three quarters of its weight."""
    tile_nodes: int = 5
    """Cells of a tile's control grid along its longer side."""
    even_out: bool = True
    """Correct gain and offset of each tile so that overlaps agree."""


@dataclass(frozen=True)
class Seam:
    """What two overlapping tiles say: q - p of one place, pixels y x, in tile coordinates.

    trust: 0..1.  score: normalised correlation at the shift.  matches: blocks inside the overlap.
    level: (mean a, mean b, spread a, spread b) of the grey values there.
    """

    a: int
    b: int
    shift: np.ndarray
    trust: float
    score: float
    widened: bool = False
    level: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    matches: Matches | None = None


def neighbours(positions: np.ndarray, shapes: np.ndarray, *, least: int) -> list[tuple[int, int]]:
    """Pairs of tiles (n) that overlap by `least` pixels both ways, after the stage positions.

    positions: (n, 2) first pixels, y x.  shapes: (n, 2).  A pair that meets only in a corner, in
    less than twice `least` pixels both ways, is left out where both have better neighbours.
    """
    order = np.argsort(positions[:, 0], kind="stable")
    pairs = []
    for at, i in enumerate(order):
        for j in order[at + 1 :]:
            if positions[j, 0] >= positions[i, 0] + shapes[i, 0]:
                break
            low = np.maximum(positions[i], positions[j])
            high = np.minimum(positions[i] + shapes[i], positions[j] + shapes[j])
            size = high - low
            longer = 0.2 * min(shapes[i].min(), shapes[j].min())
            if size.min() >= least and size.max() >= max(longer, 2 * least):
                pairs.append((int(min(i, j)), int(max(i, j))))
    return sorted(pairs)


def seam(
    a: np.ndarray,
    b: np.ndarray,
    expected: np.ndarray,
    settings: StitchSettings,
    names: tuple[int, int],
    device: str = "cpu",
) -> Seam:
    """The shift between two tiles; searches `search_px` around `expected`, then once wider.

    a, b: whole tiles (h, w).  expected: b's first pixel in a's coordinates, pixels y x.
    """
    best: Seam | None = None
    for widened, search in ((False, settings.search_px), (True, 3 * settings.search_px)):
        found = _shift(a, b, expected, search, settings.least_overlap_px, device)
        if found is None:
            continue
        shift, trust, score = found
        if best is None or trust > best.trust:
            best = Seam(*names, shift, trust, score, widened)
        if trust >= settings.least_trust:
            break
    if best is None:
        return Seam(*names, -np.asarray(expected, float), 0.0, 0.0)
    return best


def _shift(
    a: np.ndarray, b: np.ndarray, expected: np.ndarray, search: int, least: int, device: str
) -> tuple[np.ndarray, float, float] | None:
    """Masked normalised correlation of the expected overlap, grown by `search`; half resolution
    where there is room. Returns q - p (pixels), trust, score."""
    e = np.round(expected).astype(int)
    cut_a = overlap(a.shape, b.shape, e, search)
    cut_b = overlap(b.shape, a.shape, -e, search)
    pa, pb = a[cut_a], b[cut_b]
    if min(*pa.shape, *pb.shape) < least:
        return None
    factor = 2 if min(*pa.shape, *pb.shape) >= 64 else 1
    (fa, ma), (fb, mb) = (_reduced(p, factor, device) for p in (pa, pb))
    value, mirrored, count = _masked_ncc(fa, fb, ma, mb)
    sy, sx = value.shape
    origin = np.array([c.start for c in cut_a]) - np.array([c.start for c in cut_b])
    expect = np.round((origin - e) / factor).astype(int)  # index where the stage puts the peak
    reach = search // factor
    yy = (np.arange(sy) + sy // 2) % sy - sy // 2
    xx = (np.arange(sx) + sx // 2) % sx - sx // 2
    near = (np.abs(yy - expect[0]) <= reach)[:, None] & (np.abs(xx - expect[1]) <= reach)[None]
    full = count[int(expect[0]) % sy, int(expect[1]) % sx].clamp_min(1)
    # a small overlap agrees by chance more easily
    value = value * torch.sqrt((count / full).clamp(0, 1)) * (count > 0.25 * full)
    inside = torch.where(torch.as_tensor(near, device=device), value, -1.0)
    where = int(inside.argmax())
    y, x = where // sx, where % sx
    top = float(inside[y, x])
    chance = float((mirrored * (count > 0.25 * full)).max())
    rows = torch.arange(sy, device=device)
    columns = torch.arange(sx, device=device)
    far = (((rows - y).abs() > 3) & ((rows - y).abs() < sy - 3))[:, None] | (
        ((columns - x).abs() > 3) & ((columns - x).abs() < sx - 3)
    )[None]
    second = float(torch.where(far, inside, -1.0).max())
    if top <= 0:
        return np.asarray(-e, float), 0.0, max(top, 0.0)
    sub = [
        float(correlate.vertex(value[y - 1, x], value[y, x], value[(y + 1) % sy, x])),
        float(correlate.vertex(value[y, x - 1], value[y, x], value[y, (x + 1) % sx])),
    ]
    d = np.array([yy[y] + sub[0], xx[x] + sub[1]]) * factor
    # content at p in crop a is at p + d in crop b
    shift = d - origin
    trust = max(0.0, 1 - max(chance, second, 0.0) / top)
    return shift, trust, top


def overlap(
    shape: Sequence[int], other: Sequence[int], offset: np.ndarray, grow: int
) -> tuple[slice, slice]:
    """The part of a tile of `shape` that a tile of shape `other` at `offset` covers, grown."""
    y, x = (
        slice(max(0, int(o) - grow), max(0, min(n, int(o) + m + grow)))
        for o, n, m in zip(offset, shape, other, strict=True)
    )
    return y, x


def _band(t: Tensor, sigma: float) -> Tensor:
    return warp.blur(t, sigma) - warp.blur(t, 5 * sigma)


def shown(image: np.ndarray) -> np.ndarray | None:
    """Where a tile has an image, (h, w) bool, if it has a rim of zeros; None if it has not.

    Tiles whose lens was corrected before carry such rims. Single dark pixels are image.
    """
    there = image > 0
    if there.mean() > 0.998:
        return None
    return warp.closed(there, 3)


def _reduced(image: np.ndarray, factor: int, device: str) -> tuple[Tensor, Tensor]:
    """A piece of a tile averaged down and band-passed, 0 where it shows nothing; and its mask."""
    there = shown(image)
    small, valid = warp.average_down(image, there, factor)
    t, mask = (torch.as_tensor(x, device=device) for x in (small, valid))
    if there is None or not bool(mask.any()):
        return _band(t, 1.2), torch.ones_like(t)
    band = _band(torch.where(mask, t, t[mask].mean()), 1.2)
    # the step at the rim is not image either
    inner = torch.as_tensor(_shrunk(valid, 3), device=device)
    return band * inner, inner.float()


def _shrunk(valid: np.ndarray, by: int) -> np.ndarray:
    t = torch.from_numpy(~valid).float()[None, None]
    grown = torch.nn.functional.max_pool2d(t, 2 * by + 1, stride=1, padding=by)
    return np.asarray(grown[0, 0].numpy() < 0.5)


def _masked_ncc(
    a: Tensor, b: Tensor, mask_a: Tensor, mask_b: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised correlation of all overlaps of two images (index: shift, wrapped); the same with
    b turned by 180 degrees, which tells what chance gives; and the pixels of each overlap.

    mask_a, mask_b: 1 where the images, 0 elsewhere, show something.
    """
    size = tuple(correlate.good_size(n + m) for n, m in zip(a.shape, b.shape, strict=True))
    fa = torch.fft.rfft2(torch.stack([a, a.square(), mask_a]), s=size).conj()
    c = b.flip(0, 1)
    fb = torch.fft.rfft2(torch.stack([b, c, mask_b, b.square(), c.square()]), s=size)
    top, mirrored, under_a, under_b, under_c, count = torch.fft.irfft2(
        torch.stack(
            [
                fa[0] * fb[0],
                fa[0] * fb[1],
                fa[1] * fb[2],
                fa[2] * fb[3],
                fa[2] * fb[4],
                fa[2] * fb[2],
            ]
        ),
        s=size,
    )
    under, under_mirrored = under_a * under_b, under_a * under_c
    floor = float(under.max()) * 1e-4 + 1e-12
    return (
        top / torch.sqrt(under.clamp_min(floor)),
        mirrored / torch.sqrt(under_mirrored.clamp_min(floor)),
        count.round(),
    )
