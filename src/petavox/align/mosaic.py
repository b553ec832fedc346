"""Stitching: tiles with rough stage positions -> tile fields in the section.

What it is: neighbour pairs, the shift of each pair, the robust solve for positions, block matches
in the overlaps, the common lens field, the tiles' own fields, gain and offset. Tiles come as a
function number -> array. What it is not: files, or rendering (petavox.align.blend).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from petavox.align import correlate, warp
from petavox.align.frames import Field, Lattice
from petavox.align.solve import Matches, Stiffness, relax
from petavox.settings import Settings

Load = Callable[[int], np.ndarray]


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


@dataclass
class Mosaic:
    """One stitched section: fields tile -> section, gains, seams, and the tiles thrown out."""

    fields: dict[int, Field] = field(default_factory=dict)
    gains: dict[int, tuple[float, float]] = field(default_factory=dict)
    seams: list[Seam] = field(default_factory=list)
    residuals: dict[tuple[int, int], float] = field(default_factory=dict)
    cycle_px: float = 0.0
    failures: dict[int, str] = field(default_factory=dict)


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
    cut_a = _overlap(a.shape, b.shape, e, search)
    cut_b = _overlap(b.shape, a.shape, -e, search)
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


def _overlap(
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


def positions(
    stage: np.ndarray, seams: Sequence[Seam], settings: StitchSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Tile positions (n, 2) from the believed seams, with the stage as a weak prior; robust.

    Returns positions (pixels, y x) and the residual of each seam (pixels). Iteratively reweighted
    (Geman-McClure), so that one false pair cannot throw a tile off; a tile without a believed
    seam keeps its place relative to its neighbours' stage positions.
    """
    n = len(stage)
    good = [s for s in seams if s.trust >= settings.least_trust]
    out = np.array(stage, float)
    residual = np.full(len(seams), np.nan)
    if n == 0 or not good:
        return out, residual
    a = np.array([s.a for s in good])
    b = np.array([s.b for s in good])
    # the place p of tile a is q of tile b: position_a + p = position_b + q
    d = -np.array([s.shift for s in good])
    w0 = np.array([s.trust for s in good])
    w = w0.copy()
    import scipy.sparse as sp
    import scipy.sparse.linalg as sla

    m = len(good)
    rows = np.repeat(np.arange(m), 2)
    columns = np.stack([a, b], 1).ravel()
    edges = sp.csr_array((np.tile([-1.0, 1.0], m), (rows, columns)), shape=(m, n))
    stage_w = np.full(n, settings.stage_weight)
    for tolerance in (60.0, 20.0, 10.0, 6.0, 6.0):
        # neighbours without a believed seam hang together as the stage says
        loose = [s for s in seams if s.trust < settings.least_trust]
        weak = sp.csr_array((0, n))
        right = edges.T @ (w[:, None] * d) + stage_w[:, None] * stage
        normal = edges.T @ sp.diags_array(w) @ edges + sp.diags_array(stage_w)
        if loose:
            la, lb = np.array([s.a for s in loose]), np.array([s.b for s in loose])
            k = len(loose)
            weak = sp.csr_array(
                (
                    np.tile([-1.0, 1.0], k),
                    (np.repeat(np.arange(k), 2), np.stack([la, lb], 1).ravel()),
                ),
                shape=(k, n),
            )
            normal = normal + weak.T @ weak * (5 * settings.stage_weight)
            right = right + weak.T @ (5 * settings.stage_weight * (stage[lb] - stage[la]))
        out = np.asarray(sla.spsolve(normal.tocsc(), right)).reshape(n, 2)
        r = np.linalg.norm(out[b] - out[a] - d, axis=1)
        w = w0 / (1 + (r / tolerance) ** 2) ** 2
    ends = np.array([[s.a, s.b] for s in seams])
    shifts = np.array([s.shift for s in seams])
    residual = np.linalg.norm(out[ends[:, 1]] - out[ends[:, 0]] + shifts, axis=1)
    return out, residual


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
    cut_a = _overlap(a.shape, b.shape, -d, 0)
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


def lens(matches: Sequence[Matches], shape: tuple[int, int], nodes: int) -> Field:
    """The distortion common to all tiles, from all overlaps. Robust (Geman-McClure).

    Each pair's own shift is free, so only differences inside an overlap count. First a lens
    (Brown 1966: one radial and two decentring terms), then a general cubic polynomial on what is
    left, held back (ridge), because overlaps hardly see some of its terms: x^3 in x, for one.
    An affine part cannot be told from positions and is left at zero. shape: pixels of a tile.
    Returns tile -> undistorted tile, sampled on a control grid.
    """
    middle = (np.asarray(shape, float) - 1) / 2
    scale = float(max(shape)) / 2
    powers = [(i, n - i) for n in (2, 3) for i in range(n + 1)]

    def brown(p: np.ndarray) -> np.ndarray:
        y, x = ((p - middle) / scale).T
        rr = y**2 + x**2
        return np.stack(
            [
                np.stack([y * rr, x * rr], 1),
                np.stack([rr + 2 * y**2, 2 * y * x], 1),
                np.stack([2 * y * x, rr + 2 * x**2], 1),
            ],
            2,
        )  # (n, 2, 3)

    def cubic(p: np.ndarray) -> np.ndarray:
        y, x = ((p - middle) / scale).T
        terms = np.stack([y**i * x**j for i, j in powers], 1)
        zero = np.zeros_like(terms)
        return np.stack([np.concatenate([terms, zero], 1), np.concatenate([zero, terms], 1)], 1)

    lattice = Lattice.covering((0, 0), np.asarray(shape) - 1, max(shape) / nodes)
    displacement = np.zeros((len(lattice.points), 2))
    used = [m for m in matches if len(m.p) >= 4]
    if sum(len(m.p) for m in used) >= 200:
        rest = [m.p - m.q for m in used]
        weights = [m.weight.copy() for m in used]
        for basis, ridge in ((brown, 1e-6), (cubic, 2e-2)):
            coefficients = _common_terms(
                [basis(m.q) - basis(m.p) for m in used], rest, weights, ridge
            )
            rest = [
                t - (basis(m.q) - basis(m.p)) @ coefficients
                for m, t in zip(used, rest, strict=True)
            ]
            displacement += basis(lattice.points) @ coefficients
    return Field(lattice=lattice, displacement=displacement.reshape(*lattice.shape, 2))


def _common_terms(
    terms: list[np.ndarray], targets: list[np.ndarray], weights: list[np.ndarray], ridge: float
) -> np.ndarray:
    """Coefficients c with terms @ c = targets up to a free shift per list; robust.

    terms: per list (n, 2, m).  targets: (n, 2).  weights: (n,).
    """
    shares = [w.copy() for w in weights]
    size = terms[0].shape[2]
    out: np.ndarray = np.zeros(size)
    for _ in range(6):
        normal, right = np.zeros((size, size)), np.zeros(size)
        for g, t, w in zip(terms, targets, shares, strict=True):
            total = max(w.sum(), 1e-9)
            g0 = g - np.einsum("n,nij->ij", w, g) / total
            t0 = t - (w[:, None] * t).sum(0) / total
            normal += np.einsum("n,nij,nik->jk", w, g0, g0)
            right += np.einsum("n,nij,ni->j", w, g0, t0)
        normal += ridge * np.trace(normal) / size * np.eye(size) + 1e-12 * np.eye(size)
        out = np.linalg.solve(normal, right)
        for n, (g, t, own) in enumerate(zip(terms, targets, weights, strict=True)):
            r = t - g @ out
            away = np.linalg.norm(r - np.median(r, axis=0), axis=1)
            shares[n] = np.asarray(own / (1 + away**2) ** 2)
    return out


def settle(
    places: np.ndarray,
    seams: Sequence[Seam],
    shapes: np.ndarray,
    common: Field | None,
    settings: StitchSettings,
) -> tuple[dict[int, Field], dict[tuple[int, int], float]]:
    """Final fields tile -> section from block matches; the common lens, and a bend per tile.

    Returns fields (pixels) and the median residual of each seam (pixels).
    """
    base, lattices = {}, {}
    for i, at in enumerate(places):
        shape = shapes[i]
        spacing = float(max(shape)) / settings.tile_nodes
        lattices[i] = Lattice.covering((0, 0), shape - 1.0, spacing)
        base[i] = (common or Field()).moved(at)
    matches = [s.matches for s in seams if s.matches is not None and len(s.matches.p) >= 3]
    rigid = not settings.elastic
    solved = relax(
        base,
        lattices,
        matches,
        Stiffness(
            smooth=1e4 if rigid else settings.smooth_px,
            slope=1e4 if rigid else settings.slope_px,
            anchor=1e-5,
            tolerance=settings.tolerance_px,
            rounds=5,
        ),
    )
    residuals = {
        (m.a, m.b): float(np.median(r[w > 0.25])) if (w > 0.25).any() else float("nan")
        for m, r, w in zip(matches, solved.residuals, solved.inliers, strict=True)
    }
    return solved.fields, residuals


def gains(seams: Sequence[Seam], count: int) -> dict[int, tuple[float, float]]:
    """Gain and offset per tile, value * gain + offset, so that overlaps have one mean and spread.

    The mean gain of a section is 1 and the mean offset 0; ridge against drift over many tiles.
    """
    good = [s for s in seams if s.trust > 0 and s.level[2] > 1e-6 and s.level[3] > 1e-6]
    if not good or count == 0:
        return {i: (1.0, 0.0) for i in range(count)}
    a = np.array([s.a for s in good])
    b = np.array([s.b for s in good])
    level = np.array([s.level for s in good])

    def spread_out(difference: np.ndarray) -> np.ndarray:
        import scipy.sparse as sp
        import scipy.sparse.linalg as sla

        rows = np.repeat(np.arange(len(a)), 2)
        edges = sp.csr_array(
            (np.tile([-1.0, 1.0], len(a)), (rows, np.stack([a, b], 1).ravel())),
            shape=(len(a), count),
        )
        w = np.ones(len(a))
        x = np.zeros(count)
        for _ in range(3):
            normal = edges.T @ sp.diags_array(w) @ edges + 0.01 * sp.eye_array(count)
            x = np.asarray(sla.spsolve(normal.tocsc(), edges.T @ (w * difference)))
            r = np.abs(edges @ x - difference)
            w = 1 / (1 + (r / (3 * np.median(r) + 1e-6)) ** 2)
        return x - x.mean()

    log_gain = spread_out(np.log(level[:, 2] / level[:, 3]))
    g = np.exp(np.clip(log_gain, -0.7, 0.7))
    offset = spread_out(level[:, 0] * g[a] - level[:, 1] * g[b])
    return {i: (float(g[i]), float(offset[i])) for i in range(count)}


def cycle_residual(seams: Sequence[Seam], settings: StitchSettings) -> float:
    """Mean length (pixels) of the sum of shifts around all loops of three or four tiles."""
    edge: dict[tuple[int, int], np.ndarray] = {}
    links: dict[int, set[int]] = {}
    for s in seams:
        if s.trust >= settings.least_trust:
            edge[s.a, s.b], edge[s.b, s.a] = s.shift, -s.shift
            links.setdefault(s.a, set()).add(s.b)
            links.setdefault(s.b, set()).add(s.a)
    sums = []
    for i, near in links.items():
        for j in near:
            for k in links[j]:
                if k <= i or k == j:
                    continue
                if k in near and i < j < k:
                    sums.append(np.linalg.norm(edge[i, j] + edge[j, k] + edge[k, i]))
                for m in (links[k] & near) - {j}:
                    if i < min(j, k, m) and j < m:
                        sums.append(
                            np.linalg.norm(edge[i, j] + edge[j, k] + edge[k, m] + edge[m, i])
                        )
    return float(np.mean(sums)) if sums else 0.0


def measure(
    load: Load,
    stage: np.ndarray,
    shapes: np.ndarray,
    settings: StitchSettings,
    device: str = "cpu",
    run: Callable[..., Iterable[Any]] = map,
) -> tuple[np.ndarray, list[Seam], np.ndarray]:
    """Positions (n, 2), seams with block matches, and seam residuals of one section's tiles.

    load: tile number -> (h, w) array; called about four times per tile.  stage: (n, 2) pixels.
    run: like `map`; the map of a thread pool does pairs at once. Each pair is a task of its own.
    """
    pairs = neighbours(stage, shapes, least=settings.least_overlap_px)

    def rough_seam(pair: tuple[int, int]) -> Seam:
        i, j = pair
        return seam(load(i), load(j), stage[j] - stage[i], settings, pair, device)

    seams = list(run(rough_seam, pairs))
    places, residual = positions(stage, seams, settings)

    def fine_seam(s: Seam, r: float) -> Seam:
        shift = places[s.a] - places[s.b]
        matched, level = blocks(load(s.a), load(s.b), shift, settings, (s.a, s.b), device)
        believed = s.trust >= settings.least_trust and r < 8.0
        return replace(s, level=level, matches=matched if believed else None)

    return places, list(run(fine_seam, seams, residual)), residual


def finish(
    places: np.ndarray,
    seams: Sequence[Seam],
    shapes: np.ndarray,
    common: Field | None,
    settings: StitchSettings,
) -> Mosaic:
    """A section's fields and gains from what was measured and the common lens field."""
    fields, residuals = settle(places, seams, shapes, common, settings)
    failures = {}
    for i, f in fields.items():
        away = np.abs(f(shapes[i][None] / 2.0)[0] - (places[i] + shapes[i] / 2.0)).max()
        if not f.is_sound or away > 30:
            failures[i] = f"its field is not sound (centre moved by {away:.1f} px)"
            fields[i] = (common or Field()).moved(places[i])
    level = gains(seams, len(places)) if settings.even_out else {i: (1.0, 0.0) for i in fields}
    return Mosaic(fields, level, list(seams), residuals, cycle_residual(seams, settings), failures)


def common_lens(
    seams: Mapping[int, Sequence[Seam]], shapes: np.ndarray, settings: StitchSettings
) -> Field | None:
    """The lens field from the seams of many sections; None if switched off or tiles differ."""
    if not settings.lens or len(np.unique(shapes, axis=0)) != 1:
        return None
    matches = [s.matches for part in seams.values() for s in part if s.matches is not None]
    shape = (int(shapes[0][0]), int(shapes[0][1]))
    return lens(matches, shape, settings.tile_nodes)


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
