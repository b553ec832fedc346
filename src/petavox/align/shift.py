"""What shift is left between neighbouring sections of an aligned volume.

>>> left = shift_field(before, section, valid_before, valid_section)   # doctest: +SKIP
>>> left.shift.shape                                  # (pairs, 2, gy, gx): y then x, pixels
>>> (left.magnitude >= 4).mean()                      # what a shift mask of 4 px keeps floods off

What it is: masked normalised cross-correlation of patches on a coarse grid, batched in torch,
with a sub-pixel peak (Padfield 2012, masked object registration in the Fourier domain). It is the
in-plane displacement field that the flood-filling network's shift mask reads.
What it is not: the alignment: nothing here is corrected.

Sign: the section shows at p + shift what the section before it shows at p.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from petavox.errors import BadInput
from petavox.settings import Settings

Floats = NDArray[np.float32]


class ShiftSettings(Settings):
    """How the shift is measured; lengths in the pixels of the given arrays.

    patch: side of what is compared.  step: of the grid.  reach: farthest shift looked for.
    least_cover: share of a patch that must be valid in both.  least_peak: correlation below
    which, and least_lead: lead over the best peak elsewhere below which, a patch is not trusted.
    batch: patches at once; memory is about batch x (patch + 2 reach)^2 x 100 bytes.
    """

    patch: int = 96
    step: int = 48
    reach: int = 12
    least_cover: float = 0.4
    least_peak: float = 0.15
    least_lead: float = 0.03
    batch: int = 64


@dataclass(frozen=True)
class ShiftField:
    """Shifts of pairs on a grid of cells of `step` px; cell (i, j) covers [i * step, ...).

    shift: (n, 2, gy, gx) float32, y then x, px.  Where nothing could be compared (blank in
    either section) it is 0; where both show tissue that does not match within the reach, nor in
    the cells around, both parts are reach + 1: not to be crossed.
    trusted: (n, gy, gx) bool, measured here.  peak: (n, gy, gx) float32, the correlation.
    """

    shift: Floats
    trusted: NDArray[np.bool_]
    peak: Floats

    @property
    def magnitude(self) -> Floats:
        """(n, gy, gx): length of the shift, px."""
        return np.hypot(self.shift[:, 0], self.shift[:, 1])


def shift_field(
    before: NDArray[Any],
    section: NDArray[Any],
    valid_before: NDArray[np.bool_],
    valid_section: NDArray[np.bool_],
    *,
    settings: ShiftSettings | None = None,
    device: str = "cpu",
) -> ShiftField:
    """The shift of each section against the one before it.

    before, section: (n, y, x), any numeric type; the valid masks bool of that shape.
    Raises BadInput for shapes that differ.
    """
    s = settings or ShiftSettings()
    shapes = {v.shape for v in (before, section, valid_before, valid_section)}
    if len(shapes) != 1 or before.ndim != 3:
        raise BadInput(f"sections and masks have the shapes {sorted(shapes)}: all must be one.")
    n, y, x = before.shape
    grid = (n, -(-y // s.step), -(-x // s.step))
    out = np.full((n, 2, *grid[1:]), np.nan, np.float32)
    peak = np.full(grid, np.nan, np.float32)
    trusted, covered = np.zeros(grid, bool), np.zeros(grid, bool)
    for k in range(n):
        found = _pair(before[k], section[k], valid_before[k], valid_section[k], s, device)
        raw, peak[k], trusted[k], covered[k] = found
        out[k] = _filled(raw, trusted[k], covered[k], s.reach + 1)
    return ShiftField(out, trusted, peak)


def _pair(
    before: NDArray[Any],
    section: NDArray[Any],
    valid_before: NDArray[np.bool_],
    valid_section: NDArray[np.bool_],
    s: ShiftSettings,
    device: str,
) -> tuple[Floats, Floats, NDArray[np.bool_], NDArray[np.bool_]]:
    """Raw shifts (2, gy, gx), peaks, and where they are trusted and covered, of one pair."""
    gy, gx = (-(-v // s.step) for v in before.shape)
    shift = np.zeros((2, gy, gx), np.float32)
    peak = np.full((gy, gx), np.nan, np.float32)
    trusted, covered = np.zeros((gy, gx), bool), np.zeros((gy, gx), bool)
    if shift.size == 0:
        return shift, peak, trusted, covered
    margin = s.patch // 2 + s.reach + s.step
    pads = ((margin, margin), (margin, margin))

    def padded(values: NDArray[Any], valid: NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
        values = values.astype(np.float32)
        if valid.any():
            values = (values - values[valid].mean()) / max(float(values[valid].std()), 1e-6)
        v = np.pad(np.where(valid, values, 0).astype(np.float32), pads)
        m = np.pad(valid, pads).astype(np.float32)
        return torch.from_numpy(v).to(device), torch.from_numpy(m).to(device)

    f, fm = padded(before, valid_before)
    g, gm = padded(section, valid_section)
    centres = [(i, j) for i in range(gy) for j in range(gx)]
    for start in range(0, len(centres), s.batch):
        part = centres[start : start + s.batch]
        corner = [[margin + s.step * c + s.step // 2 - s.patch // 2 for c in ij] for ij in part]
        a, am = (_cut(t, corner, s.patch) for t in (f, fm))
        wide = [[c - s.reach for c in yx] for yx in corner]
        b, bm = (_cut(t, wide, s.patch + 2 * s.reach) for t in (g, gm))
        score, cover = _ncc(a, am, b, bm, s)
        at, best, lead = _peaks(score)
        for m, (i, j) in enumerate(part):
            covered[i, j] = cover[m] >= s.least_cover
            peak[i, j] = best[m]
            edge = max(abs(at[m, 0]), abs(at[m, 1])) > s.reach - 1
            trusted[i, j] = (
                covered[i, j] and not edge and best[m] >= s.least_peak and lead[m] >= s.least_lead
            )
            shift[:, i, j] = at[m]
    return shift, peak, trusted, covered


def _cut(image: torch.Tensor, corners: list[list[int]], size: int) -> torch.Tensor:
    return torch.stack([image[y : y + size, x : x + size] for y, x in corners])


def _ncc(
    a: torch.Tensor, am: torch.Tensor, b: torch.Tensor, bm: torch.Tensor, s: ShiftSettings
) -> tuple[torch.Tensor, NDArray[np.float32]]:
    """Correlation (m, 2r+1, 2r+1) at every shift in reach, and the overlap's share at none."""
    whole = (am.amin((1, 2)) > 0) & (bm.amin((1, 2)) > 0)
    span = 2 * s.reach + 1
    score = torch.empty((len(a), span, span), device=a.device)
    cover = np.ones(len(a), np.float32)
    if whole.any():
        score[whole] = _plain_ncc(a[whole], b[whole], s)
    if not whole.all():
        rest = ~whole
        score[rest], cover[rest.cpu().numpy()] = _masked_ncc(
            a[rest], am[rest], b[rest], bm[rest], s
        )
    return score, cover


def _plain_ncc(a: torch.Tensor, b: torch.Tensor, s: ShiftSettings) -> torch.Tensor:
    """The same where all is valid, in 3 transforms instead of 12: window sums of b by integrals."""
    size, span, n = b.shape[-1], 2 * s.reach + 1, float(s.patch**2)
    a = a - a.mean((1, 2), keepdim=True)
    b = b - b.mean((1, 2), keepdim=True)
    top = torch.fft.irfft2(
        torch.fft.rfft2(a, (size, size)).conj() * torch.fft.rfft2(b), (size, size)
    )[:, :span, :span]

    def windows(t: torch.Tensor) -> torch.Tensor:
        total = torch.nn.functional.pad(t.cumsum(1).cumsum(2), (1, 0, 1, 0))
        p = s.patch
        return total[:, p:, p:] - total[:, :-p, p:] - total[:, p:, :-p] + total[:, :-p, :-p]

    va = (a * a).sum((1, 2))[:, None, None]
    vb = (windows(b * b) - windows(b) ** 2 / n).clamp_min(0)
    fit = (va > 1e-3 * n) & (vb > 1e-3 * n)
    return torch.where(fit, top / torch.sqrt(va * vb).clamp_min(1e-6), -1.0).clamp(-1, 1)


def _masked_ncc(
    a: torch.Tensor, am: torch.Tensor, b: torch.Tensor, bm: torch.Tensor, s: ShiftSettings
) -> tuple[torch.Tensor, NDArray[np.float32]]:
    """The same where parts of the patches are not valid."""
    size, span = b.shape[-1], 2 * s.reach + 1

    def spectrum(t: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft2(t, (size, size))

    fa, fa2, fam = spectrum(a).conj(), spectrum(a * a).conj(), spectrum(am).conj()
    fb, fb2, fbm = spectrum(b), spectrum(b * b), spectrum(bm)

    def correlate(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft2(left * right, (size, size))[:, :span, :span]

    n = correlate(fam, fbm).clamp_min(0)
    safe = n.clamp_min(1.0)
    sa, sb = correlate(fa, fbm), correlate(fam, fb)
    va = (correlate(fa2, fbm) - sa * sa / safe).clamp_min(0)
    vb = (correlate(fam, fb2) - sb * sb / safe).clamp_min(0)
    top = correlate(fa, fb) - sa * sb / safe
    share = n / s.patch**2
    # the float32 transforms leave a residue of some 1e-5 per pixel: less spread than 1e-3 is none
    fit = (share >= s.least_cover) & (va > 1e-3 * safe) & (vb > 1e-3 * safe)
    score = torch.where(fit, top / torch.sqrt(va * vb).clamp_min(1e-6), -1.0).clamp(-1, 1)
    return score, share[:, s.reach, s.reach].cpu().numpy()


def _peaks(score: torch.Tensor) -> tuple[Floats, Floats, Floats]:
    """Sub-pixel place (m, 2) of the best shift, its score, its lead over peaks over 3 px away."""
    values = score.cpu().numpy()
    m, span, _ = values.shape
    reach = span // 2
    flat = values.reshape(m, -1).argmax(1)
    y, x = np.divmod(flat, span)
    best = values[np.arange(m), y, x]
    at = np.stack([y, x], 1).astype(np.float32) - reach
    inner = (y > 0) & (y < span - 1) & (x > 0) & (x < span - 1)
    k = np.flatnonzero(inner)
    for axis, (dy, dx) in enumerate(((1, 0), (0, 1))):
        low, high = values[k, y[k] - dy, x[k] - dx], values[k, y[k] + dy, x[k] + dx]
        bend = low - 2 * best[k] + high
        at[k, axis] += np.where(bend < 0, 0.5 * (low - high) / np.minimum(bend, -1e-9), 0)
    ys, xs = np.mgrid[:span, :span]
    away = np.maximum(np.abs(ys - y[:, None, None]), np.abs(xs - x[:, None, None])) > 3
    second = np.where(away, values, -1.0).reshape(m, -1).max(1)
    return at, best, best - second


def _filled(
    raw: Floats, trusted: NDArray[np.bool_], covered: NDArray[np.bool_], unknown: float
) -> Floats:
    """Median of trusted cells around (3 by 3); untrusted ones from 5 by 5, else `unknown`.

    A single cell is not believed against its neighbours: one false peak would wall off a flood.
    """
    out = np.zeros_like(raw)
    if raw.size == 0:
        return out
    for axis in (0, 1):
        known = np.where(trusted, raw[axis], np.nan)
        near, wide = _nanmedian(known, 1, 1), _nanmedian(known, 2, 3)
        value = np.where(trusted, near, wide)
        out[axis] = np.where(covered, np.where(np.isnan(value), unknown, value), 0)
    return out


def _nanmedian(values: Floats, radius: int, least: int) -> Floats:
    side = 2 * radius + 1
    padded = np.pad(values, radius, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    flat = windows.reshape(*values.shape, -1)
    enough = np.isfinite(flat).sum(-1) >= least
    median = np.nanmedian(np.where(enough[..., None], flat, 0), axis=-1)
    return np.where(enough, median, np.nan).astype(np.float32)
