"""Fine matches inside the overlap of two tiles, and how well the overlap agrees afterwards.

What it is: blocks on a grid, correlated to a fraction of a pixel. What it is not: the search for
the shift (petavox.align.seams).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from petavox.align import correlate, warp
from petavox.align.frames import Field, Lattice
from petavox.align.seams import StitchSettings, overlap, shown
from petavox.align.solve import Matches


def blocks(
    a: np.ndarray,
    b: np.ndarray,
    shift: np.ndarray,
    settings: StitchSettings,
    names: tuple[int, int],
    device: str = "cpu",
) -> tuple[Matches, tuple[float, float, float, float]]:
    """Sub-pixel block matches inside the overlap of two tiles whose shift is known to a few pixels.

    shift: q - p, pixels.  Returns matches in tile coordinates, and the grey levels in the overlap.
    """
    d = np.round(shift).astype(int)
    cut_a = overlap(a.shape, b.shape, -d, 0)
    low = np.array([c.start for c in cut_a])
    size = np.array([c.stop - c.start for c in cut_a])
    pa = a[cut_a]
    pb = b[low[0] + d[0] : low[0] + d[0] + size[0], low[1] + d[1] : low[1] + d[1] + size[1]]
    level = (
        (float(pa.mean()), float(pb.mean()), float(pa.std()), float(pb.std()))
        if pa.size
        else (0.0, 0.0, 1.0, 1.0)
    )
    side = int(min(settings.block_px, size.min()) // 8 * 8)
    none = np.zeros((0, 2))
    if side < 16:
        return Matches(*names, none, none, np.zeros(0), 1.0), level
    stride = max(side // 2, 8)
    axes = []
    for n in size:
        count = max(1, -(-(int(n) - side) // stride) + 1)
        axes.append(np.round(np.linspace(0, int(n) - side, count)).astype(int))
    y, x = (t.ravel() for t in np.meshgrid(*axes, indexing="ij"))
    ta, tb = (
        torch.as_tensor(np.ascontiguousarray(p), dtype=torch.float32, device=device)
        for p in (pa, pb)
    )
    there = [shown(p) for p in (pa, pb)]
    wa: Tensor | None = None
    wb: Tensor | None = None
    if any(m is not None for m in there):
        # a rim of zeros is no image: blocks with much of it are left out
        masks = [
            torch.as_tensor(np.ones(p.shape, bool) if m is None else m, device=device).float()
            for p, m in zip((pa, pb), there, strict=True)
        ]
        cut = [correlate.cut(m, y, x, side) for m in masks]
        full = torch.minimum(*(c.mean((1, 2)) for c in cut)).cpu().numpy() > 0.7
        if not full.any():
            return Matches(*names, none, none, np.zeros(0), 1.0), level
        y, x = y[full], x[full]
        wa, wb = (c[torch.as_tensor(full, device=device)] for c in cut)
    sa, sb = (correlate.spectra(correlate.cut(t, y, x, side), w) for t, w in ((ta, wa), (tb, wb)))
    weights = correlate.band(sa, sb, 1.5)
    found = correlate.peaks(sa, sb, weights, search=side // 3)
    good = found.confidence > 0.2
    if int(good.sum()) >= 12:
        weights, _ = correlate.coherent(sa, sb, found.shift, good)
        found = correlate.peaks(sa, sb, weights, search=side // 3)
    trust = found.confidence.cpu().numpy().astype(float)
    keep = trust > 0.15
    f = found.shift.cpu().numpy().astype(float)[keep]
    c = np.stack([y, x], 1)[keep] + (side - 1) / 2 + low
    return (
        Matches(
            *names, c - f / 2, c + d + f / 2, np.clip(trust[keep] / 0.5, 0.05, 1), float(stride)
        ),
        level,
    )


def overlap_correlation(
    a: np.ndarray, b: np.ndarray, to_a: Field, to_b: Field, places: np.ndarray
) -> float:
    """Normalised correlation of two tiles over their overlap after stitching.

    to_a, to_b: tile -> section.  places: points of tile a inside the overlap (n, 2), pixels; the
    box around them is compared, lightly blurred (1 px).
    """
    low, high = np.floor(places.min(0)), np.ceil(places.max(0))
    y, x = np.arange(low[0], high[0] + 1), np.arange(low[1], high[1] + 1)
    if len(y) < 8 or len(x) < 8:
        return float("nan")
    q = to_a.on_grid(y, x)
    lattice = Lattice.covering(q.reshape(-1, 2).min(0), q.reshape(-1, 2).max(0), 64.0)
    p = to_b.inverse(lattice)(q.reshape(-1, 2)).reshape(q.shape)
    piece = warp.reach(p, (b.shape[0], b.shape[1]))
    at = torch.as_tensor(p - [piece[0].start, piece[1].start], dtype=torch.float32)
    other = warp.sample(torch.as_tensor(np.ascontiguousarray(b[piece]), dtype=torch.float32), at)
    own = a[int(low[0]) : int(high[0]) + 1, int(low[1]) : int(high[1]) + 1]
    u = warp.blur(torch.as_tensor(np.ascontiguousarray(own), dtype=torch.float32), 1.0)
    v = warp.blur(other, 1.0)
    u, v = u - u.mean(), v - v.mean()
    return float((u * v).sum() / torch.sqrt(u.square().sum() * v.square().sum()).clamp_min(1e-6))
