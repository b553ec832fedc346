"""Shifts between many pairs of small windows at once, by FFT cross-correlation.

What it is: windows (cut, soft-masked, tapered) -> spectra -> weighted cross-correlation ->
sub-pixel peaks with confidences; and the weights, which are the band-pass. What it is not: the
choice of windows or what is done with the shifts.

The weights W(f) of a cross-correlation sum_f W(f) conj(A(f)) B(f) e^(2 pi i f d) decide its
precision. `band` is a difference of Gaussians on whitened spectra: good for search. Once shifts
are known roughly, `coherent` measures how far the two images agree at each radial frequency and
weighs each by coherence^2 / (1 - coherence^2), the maximum-likelihood estimator of a delay
(Hannan & Thomson 1973; Knapp & Carter 1976): fine texture that persists from section to section
counts, noise and what changed do not.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@functools.cache
def _taper(shape: tuple[int, int], device: str) -> Tensor:
    y, x = (torch.hann_window(n + 2, periodic=False)[1:-1] for n in shape)
    return torch.sqrt(y[:, None] * x[None, :]).to(device)


@functools.cache
def _radius(size: int, device: str) -> tuple[Tensor, Tensor]:
    """Frequency in cycles per pixel on the half plane of rfft2, and its bin (0 .. size // 2)."""
    f = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)[None, :])
    return f.to(device), torch.clamp((f * size).round().long(), max=size // 2).to(device)


@functools.cache
def _untapered(size: int, reach: int, device: str) -> Tensor:
    """What undoes the taper's own correlation, which pulls peaks to zero shift; at most 2."""
    f = torch.fft.rfft2(_taper((size, size), "cpu").double())
    own = torch.fft.irfft2(f.abs().square(), s=(size, size))
    own = torch.fft.fftshift(own / own[0, 0])
    middle = size // 2
    part = own[middle - reach : middle + reach + 1, middle - reach : middle + reach + 1]
    return (1 / part.clamp_min(0.5)).float().to(device)


def cut(image: Tensor, y: np.ndarray, x: np.ndarray, size: int) -> Tensor:
    """Windows of size x size pixels whose first pixels are at (y[i], x[i]); (n, size, size)."""
    at = torch.as_tensor(y * image.shape[1] + x, device=image.device)
    all_windows = image.as_strided(
        (image.shape[0] * image.shape[1],), (1,)
    )  # one flat view; windows are gathered from it row by row
    line = torch.arange(size, device=image.device)
    offsets = (line[:, None] * image.shape[1] + line[None, :]).reshape(-1)
    return all_windows[at[:, None] + offsets[None]].reshape(len(y), size, size)


def spectra(windows: Tensor, weight: Tensor | None = None) -> Tensor:
    """Spectra (n, s, s // 2 + 1) of windows (n, s, s), each of zero mean and unit energy.

    weight: (n, s, s) in 0..1, soft mask of what may count; the mean is taken inside it.
    A Hann taper (square root, as both windows carry it) keeps the rim from counting.
    """
    taper = _taper((windows.shape[1], windows.shape[2]), str(windows.device))
    w = taper.expand_as(windows) if weight is None else taper * weight
    mean = (windows * w).sum((1, 2), keepdim=True) / w.sum((1, 2), keepdim=True).clamp_min(1e-6)
    x = (windows - mean) * w
    energy = x.square().sum((1, 2), keepdim=True).sqrt()
    return torch.fft.rfft2(x / energy.clamp_min(1e-6))


def power(a: Tensor) -> Tensor:
    """Mean power per radial frequency bin of spectra (n, s, s // 2 + 1); (s // 2 + 1,)."""
    size = a.shape[1]
    _, bins = _radius(size, str(a.device))
    p = (a.real.square() + a.imag.square()).mean(0).reshape(-1)
    total = torch.zeros(size // 2 + 1, device=a.device).index_add_(0, bins.reshape(-1), p)
    count = torch.zeros_like(total).index_add_(0, bins.reshape(-1), torch.ones_like(p))
    return total / count.clamp_min(1)


def band(a: Tensor, b: Tensor, sigma: float, *, ratio: float = 4.0, whiten: float = 0.5) -> Tensor:
    """Band-pass weights: a difference of Gaussians (sigma and ratio * sigma pixels), whitened.

    a, b: spectra.  whiten: 0 leaves the power as it is, 1 is phase correlation.
    """
    f, bins = _radius(a.shape[1], str(a.device))
    k = (2 * np.pi * f) ** 2 / 2
    dog = torch.exp(-k * sigma**2) - torch.exp(-k * (ratio * sigma) ** 2)
    level = torch.sqrt(power(a) * power(b)).clamp_min(1e-9)
    w = dog / level[bins] ** whiten
    return w / w.max()


def coherent(
    a: Tensor, b: Tensor, shift: Tensor, good: Tensor, *, floor: float = 0.03
) -> tuple[Tensor, float]:
    """Maximum-likelihood weights from the coherence of windows whose shifts are known.

    a, b: spectra (n, s, s // 2 + 1).  shift: (n, 2) y x, found before.  good: (n,) bool.
    floor: coherence that chance alone explains; taken off.
    Returns the weights, and the information that a window holds on the shift, in 1 / pixel^2:
    sum_f (2 pi f)^2 coherence^2 / (1 - coherence^2), the inverse of the least variance that any
    estimate can have (Cramer-Rao bound; Knapp & Carter 1976), both up to the window's taper.
    """
    size = a.shape[1]
    f, bins = _radius(size, str(a.device))
    a, b, shift = a[good], b[good], shift[good]
    fy = torch.fft.fftfreq(size, device=a.device)
    fx = torch.fft.rfftfreq(size, device=a.device)
    phase_y = torch.polar(torch.ones_like(fy).expand(len(a), -1), 2 * np.pi * shift[:, :1] * fy)
    phase_x = torch.polar(torch.ones_like(fx).expand(len(a), -1), 2 * np.pi * shift[:, 1:] * fx)
    cross = torch.einsum("nyx,ny,nx->yx", a.conj() * b, phase_y, phase_x).real / len(a)
    flat = bins.reshape(-1)
    zeros = torch.zeros(size // 2 + 1, device=a.device)
    total = zeros.clone().index_add_(0, flat, cross.reshape(-1))
    count = zeros.clone().index_add_(0, flat, torch.ones_like(cross).reshape(-1))
    level = torch.sqrt(power(a) * power(b)).clamp_min(1e-12)
    c = (total / count.clamp_min(1) / level - floor).clamp(0, 0.98)
    ratio = c**2 / (1 - c**2)
    ratio[0] = 0
    # near the sampling limit agreement is the sampling's, not tissue's
    ratio[int(0.4 * size) :] = 0
    information = float(((2 * np.pi * f).square() * ratio[bins]).sum())
    return (ratio / level)[bins], information


@dataclass(frozen=True)
class Peaks:
    """Shifts and how far to trust them; all (n,), shift (n, 2) in pixels, y x.

    The content at p in the first window lies at p + shift in the second.
    mirror: 1 - highest value of the correlation with the mirrored window / peak: chance level.
    second: 1 - highest value elsewhere / peak: how unique the place is.
    score: normalised correlation at the peak, after weighting.
    """

    shift: Tensor
    mirror: Tensor
    second: Tensor
    score: Tensor

    @property
    def confidence(self) -> Tensor:
        """The smaller of the two confidences, 0..1."""
        return torch.minimum(self.mirror, self.second).clamp(0, 1)


def peaks(
    a: Tensor, b: Tensor, weights: Tensor, *, search: int, apart: int = 4, mirror: bool = True
) -> Peaks:
    """Sub-pixel peaks of the weighted cross-correlations of spectra (n, s, s // 2 + 1).

    Or of several channels, summed: spectra (channels, n, ...), weights (channels, s, s // 2 + 1).

    search: largest shift along y or x, pixels (at most s // 2 - 1).
    apart: how far from the peak another one counts as a second one, pixels.
    mirror: also correlate with the mirrored window; else its confidence is that of `second`.
    """
    if a.dim() == 3:
        a, b, weights = a[None], b[None], weights[None]
    n, size = a.shape[1], a.shape[2]
    reach = int(min(max(search, 2), size // 2 - 1))
    wa = a * weights[:, None]
    full = torch.fft.irfft2((wa.conj() * b).sum(0), s=(size, size))
    near = torch.cat([full[:, -reach:], full[:, : reach + 1]], 1)
    near = torch.cat([near[:, :, -reach:], near[:, :, : reach + 1]], 2)
    side = 2 * reach + 1
    near = near * _untapered(size, reach, str(a.device))
    best, where = near.reshape(n, -1).max(1)
    py, px = where // side, where % side
    rows = torch.arange(n, device=a.device)
    cy, cx = py.clamp(1, side - 2), px.clamp(1, side - 2)
    sub_y = vertex(near[rows, cy - 1, px], near[rows, cy, px], near[rows, cy + 1, px])
    sub_x = vertex(near[rows, py, cx - 1], near[rows, py, cx], near[rows, py, cx + 1])
    on_rim = (py != cy) | (px != cx)
    shift = torch.stack([py + sub_y - reach, px + sub_x - reach], 1)
    line = torch.arange(side, device=a.device)
    close = ((line[None] - py[:, None]).abs() <= apart)[:, :, None] & (
        (line[None] - px[:, None]).abs() <= apart
    )[:, None, :]
    second = near.masked_fill(close, 0.0).reshape(n, -1).max(1).values
    mirrored = second
    if mirror:
        mirrored = torch.fft.irfft2((wa * b).sum(0), s=(size, size)).reshape(n, -1).max(1).values
    top = best.clamp_min(1e-12)
    norm = sum(
        torch.sqrt(energy(u, w) * energy(v, w)) for u, v, w in zip(a, b, weights, strict=True)
    )
    norm = torch.as_tensor(norm).clamp_min(1e-12)
    zero = torch.zeros_like(best)
    return Peaks(
        shift,
        torch.where(on_rim, zero, 1 - mirrored / top),
        torch.where(on_rim, zero, 1 - second / top),
        best / norm,
    )


def energy(a: Tensor, weights: Tensor) -> Tensor:
    """Energy of windows under the weights, on the scale of `irfft2`, (n,)."""
    size = a.shape[1]
    twice = torch.full((a.shape[2],), 2.0, device=a.device)
    twice[0] = 1.0
    if size % 2 == 0:
        twice[-1] = 1.0
    return ((a.real.square() + a.imag.square()) * weights * twice).sum((1, 2)) / size**2


def vertex(left: Tensor, middle: Tensor, right: Tensor) -> Tensor:
    """Place of a parabola's top through three equidistant values, -0.5..0.5 of the middle."""
    bend = left + right - 2 * middle
    return torch.where(bend < 0, 0.5 * (left - right) / bend, 0.0).clamp(-0.5, 0.5)


def good_size(n: int) -> int:
    """The next even size with small prime factors, for FFTs."""
    n += n % 2
    while True:
        m = n
        for p in (2, 3, 5):
            while m % p == 0:
                m //= p
        if m == 1:
            return n
        n += 2
