"""Tiles with a rim of zeros, as tiles whose lens was corrected have: the rim is no image."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from petavox.align import seam_blocks, seams


def rimmed(image: np.ndarray, rim: int) -> np.ndarray:
    """A tile whose outermost pixels, in a slanted band, are 0."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    h, w = image.shape
    inside = (y > rim + x / 40) & (y < h - rim - x / 50) & (x > rim + y / 30) & (x < w - rim)
    return np.where(inside, image, 0).astype(np.uint8)


def test_a_black_rim_does_not_decide_the_shift(rng):
    field = ndi.gaussian_filter(rng.standard_normal((260, 460)), 2.0)
    tissue = np.clip(128 + 40 * field / field.std(), 1, 255)
    a, b = rimmed(tissue[:240, :240], 9), rimmed(tissue[7:247, 170:410], 9)
    found = seams.seam(a, b, np.array([0.0, 166.0]), seams.StitchSettings(), (0, 1))
    assert found.trust > 0.4
    assert np.abs(-found.shift - [7, 170]).max() < 0.6
    matches, _ = seam_blocks.blocks(a, b, found.shift, seams.StitchSettings(), (0, 1))
    assert len(matches.p) >= 3
    assert np.abs(np.median(matches.p - matches.q, 0) - [7, 170]).max() < 0.1


def test_a_few_dark_pixels_are_no_rim(rng):
    image = np.full((100, 100), 90, np.uint8)
    image[rng.integers(0, 100, 15), rng.integers(0, 100, 15)] = 0
    assert seams.shown(image) is None
