"""From geometry to grey values: membranes, organelles, texture, blur, noise.

What it is: one function per layer, each a function of the place in the world alone, so that
blocks meet without a seam. What it is not: the order of blocks (petavox.phantom.tissue).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from petavox.phantom.looks import Look
from petavox.phantom.rng import smooth_on_grid, uniform, white
from petavox.space import Box


def wall_distance(margin: np.ndarray, voxel_size: Sequence[float]) -> np.ndarray:
    """Distance to the nearest wall, nm, from the margin: margin / its slope, float32.

    The margin is a valley at the wall, so its slope is the steeper of the two one-sided ones.
    Needs one voxel more on each side than its result is good for.
    """
    square = np.zeros(margin.shape, np.float32)
    for axis, v in enumerate(voxel_size):
        step = np.abs(np.diff(margin, axis=axis)) / np.float32(v)
        steepest = np.zeros(margin.shape, np.float32)
        n = margin.shape[axis]
        for part in (slice(0, n - 1), slice(1, n)):
            view = steepest[tuple(part if a == axis else slice(None) for a in range(3))]
            np.maximum(view, step, out=view)
        steepest *= steepest
        square += steepest
    slope = np.clip(np.sqrt(square), np.float32(0.7), np.float32(2.0))
    return margin / slope


def cytoplasm(
    box: Box,
    voxel_size: Sequence[float],
    tone: np.ndarray,
    thick: np.ndarray,
    look: Look,
    seed: int,
    scale: float,
) -> np.ndarray:
    """Grey of cytoplasm: a tone per neurite, grain at two sizes, dark threads in thick ones.

    tone: relative grey per voxel.  thick: 0..1 per voxel, where threads (reticulum) may run.
    """
    axes = [np.arange(a, b) * v for a, b, v in zip(box.start, box.stop, voxel_size, strict=True)]
    out = np.float32(look.cytoplasm) * tone
    # noise finer than a voxel along an axis is white there: keep knots at least 1.5 voxels apart
    for salt, knots, share in ((300, 15.0, 1.0), (301, 42.0, 0.6), (302, 160.0, 0.7)):
        spacing = [max(knots * scale, 1.5 * v) for v in voxel_size]
        noise = smooth_on_grid(seed + salt, axes, spacing)
        noise *= np.float32(look.texture * share * 4.0)
        if salt == 302:
            noise *= 0.5
        out += noise
    spots = smooth_on_grid(seed + 303, axes, [max(26.0 * scale, 1.5 * v) for v in voxel_size])
    np.clip(spots - np.float32(0.18), 0, None, out=spots)
    spots *= np.float32(-9.0 * look.texture)
    spots *= 0.35 + 0.65 * thick
    out += spots
    threads = np.abs(smooth_on_grid(seed + 304, axes, 95.0 * scale))
    where = smooth_on_grid(seed + 305, axes, 240.0 * scale) > 0.08
    line = np.exp(-((threads / np.float32(0.035)) ** 2)) * where
    out -= np.float32(2.2 * look.texture) * line * thick
    return out


def blurred(image: np.ndarray, voxel_size: Sequence[float], look: Look) -> np.ndarray:
    """Gaussian blur by the look's nm, cut off at 4 sigma."""
    sigma = [
        look.blur_z_nm / voxel_size[0],
        look.blur_nm / voxel_size[1],
        look.blur_nm / voxel_size[2],
    ]
    return ndimage.gaussian_filter(image, [s if s > 0.15 else 0.0 for s in sigma], mode="nearest")


def blur_reach(voxel_size: Sequence[float], look: Look) -> tuple[int, int, int]:
    """Voxels that the blur looks beyond a box, zyx."""
    z, y, x = voxel_size
    return (
        int(4 * look.blur_z_nm / z + 0.5) + 1,
        int(4 * look.blur_nm / y + 0.5) + 1,
        int(4 * look.blur_nm / x + 0.5) + 1,
    )


def exposed(image: np.ndarray, box: Box, look: Look, seed: int) -> np.ndarray:
    """The detector: contrast of each section, streaks, noise, bits: uint8 or uint16."""
    z = np.arange(box.start[0], box.stop[0])
    gain = 1 + look.section_gain * (2 * uniform(seed + 320, z) - 1)
    offset = look.section_offset * (2 * uniform(seed + 321, z) - 1)
    middle = np.float32(look.cytoplasm)
    image = (image - middle) * gain[:, None, None].astype(np.float32) + middle
    image += offset[:, None, None].astype(np.float32)
    if look.streaks:
        x = np.arange(box.start[2], box.stop[2])
        lines = 2 * uniform(seed + 322, z[:, None], x[None]) - 1
        image += (1.7 * look.streaks * lines[:, None, :]).astype(np.float32)
    image += np.float32(look.noise) * white(seed + 323, box.start, box.shape)
    if look.bits == 16:
        return np.clip(np.rint(image * np.float32(160.0) + 8000), 0, 65535).astype(np.uint16)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
