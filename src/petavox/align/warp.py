"""Resampling of images through coordinates, in batches on any device.

What it is: cubic and linear sampling (torch grid_sample), averaging down, masks. Blocks of any
size from images of any size: coordinates are local to the piece that is passed, so that sections
wider than 32,767 px keep their precision. What it is not: the choice of the coordinates.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from petavox.align.frames import Field


def sample(image: Tensor, coordinates: Tensor, *, cubic: bool = True) -> Tensor:
    """image at coordinates; outside, the nearest pixel of the rim.

    image: (h, w) float32.  coordinates: (..., 2) float32, y x, pixel centres at integers.
    cubic: cubic convolution (a = -0.75), else bilinear.
    """
    h, w = image.shape
    scale = torch.tensor([2.0 / max(w - 1, 1), 2.0 / max(h - 1, 1)], device=image.device)
    shape = coordinates.shape[:-1]
    grid = coordinates.flip(-1).reshape(1, -1, shape[-1], 2) * scale - 1
    out = F.grid_sample(
        image[None, None],
        grid,
        mode="bicubic" if cubic else "bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return out.reshape(shape)


def inside(coordinates: Tensor, shape: tuple[int, int]) -> Tensor:
    """True where coordinates (..., 2) lie on the pixels of an image of `shape`."""
    top = torch.tensor([shape[0] - 0.5, shape[1] - 0.5], device=coordinates.device)
    return ((coordinates > -0.5) & (coordinates < top)).all(-1)


def grid(
    field: Field, start: tuple[int, int], shape: tuple[int, int], step: float = 1.0
) -> np.ndarray:
    """The field at the pixels of a block: points step * (start + index), (h, w, 2) float64."""
    y = (start[0] + np.arange(shape[0])) * step
    x = (start[1] + np.arange(shape[1])) * step
    return field.on_grid(y, x)


def reach(coordinates: np.ndarray, shape: tuple[int, int], margin: int = 3) -> tuple[slice, slice]:
    """The piece of an image of `shape` that sampling at `coordinates` (h, w, 2) needs."""
    # one axis at a time: a reduction over all but a last axis of two is ten times slower
    axes = (coordinates[..., 0], coordinates[..., 1])
    low = np.floor([c.min() for c in axes]).astype(int) - margin
    high = np.ceil([c.max() for c in axes]).astype(int) + margin + 1
    (y, x) = (
        slice(int(np.clip(a, 0, n)), int(np.clip(b, 0, n)))
        for a, b, n in zip(low, high, shape, strict=True)
    )
    return y, x


def average_down(
    image: np.ndarray, valid: np.ndarray | None, factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """Means of factor x factor pixels that are valid, and where at least half of them were.

    image: (h, w) of any type.  valid: (h, w) bool, or None for all.  The last row and column may
    be short. Returns (float32, bool); where nothing is valid the mean is 0. The centre of coarse
    pixel j is fine pixel factor * j + (factor - 1) / 2.
    """
    h, w = image.shape
    H, W = -(-h // factor), -(-w // factor)
    pad = ((0, H * factor - h), (0, W * factor - w))
    whole = np.ones((h, w), bool) if valid is None else valid
    v = np.pad(whole, pad).reshape(H, factor, W, factor).sum((1, 3), dtype=np.float32)
    masked = image if valid is None else np.where(valid, image, 0)
    a = np.pad(masked, pad).reshape(H, factor, W, factor).sum((1, 3), dtype=np.float32)
    return a / np.maximum(v, 1), v >= factor * factor / 2


def closed(valid: np.ndarray, radius: int) -> np.ndarray:
    """A mask with its holes up to 2 * radius pixels across filled (closing with a square)."""
    if radius < 1:
        return valid
    k = 2 * radius + 1
    t = torch.from_numpy(np.pad(valid, radius).astype(np.float32))[None, None]
    t = F.max_pool2d(t, k, stride=1, padding=radius)
    t = -F.max_pool2d(-t, k, stride=1, padding=radius)
    return np.asarray(t[0, 0, radius:-radius, radius:-radius].numpy() > 0.5)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (h, w) or (n, h, w) float32, edges reflected where they are long enough."""
    if sigma <= 0:
        return image
    radius = max(1, int(3 * sigma + 0.5))
    t = torch.arange(-radius, radius + 1, dtype=torch.float32, device=image.device)
    k = torch.exp(-0.5 * (t / sigma) ** 2)
    k = k / k.sum()
    x = image.reshape(-1, 1, *image.shape[-2:])
    for axis in (2, 3):
        pad = [radius, radius, 0, 0] if axis == 3 else [0, 0, radius, radius]
        mode = "reflect" if x.shape[axis] > radius else "replicate"
        kernel = k.reshape(1, 1, 1, -1) if axis == 3 else k.reshape(1, 1, -1, 1)
        x = F.conv2d(F.pad(x, pad, mode=mode), kernel)
    return x.reshape(image.shape)


def wide_blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (h, w) float32 by a wide sigma, made on averages of several pixels.

    Many times faster than `blur`; on white noise it differs by a tenth of what is left of it, on
    what is smooth by less. The same as `blur` below 6 px.
    """
    factor = int(sigma // 3)
    h, w = image.shape
    if factor < 2 or min(h, w) < 4 * factor:
        return blur(image, sigma)
    x = image[None, None]
    x = F.pad(x, [0, -w % factor, 0, -h % factor], mode="replicate")
    small = F.avg_pool2d(x, factor)
    # averaging and linear interpolation blur too, by factor^2 / 12 and factor^2 / 6
    rest = float(np.sqrt(max(sigma**2 - factor**2 / 4, 0.0))) / factor
    wide = blur(small[0, 0], rest)[None, None]
    grown = F.interpolate(wide, scale_factor=factor, mode="bilinear", align_corners=False)
    return grown[0, 0, :h, :w]
