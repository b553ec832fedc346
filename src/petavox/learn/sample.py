"""A sample: an image with its labels and what is known of them; its symmetries.

What it is: three arrays of one shape, and functions that move the voxels of all three alike.
What it is not: the damage of sections (petavox.learn.damage), or chance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from petavox.space import Zyx


class Sample(NamedTuple):
    """image: float32 in 0..1.  labels: integers.  known: bool.  All (z, y, x)."""

    image: np.ndarray
    labels: np.ndarray
    known: np.ndarray


def permuted(sample: Sample, axes: list[int]) -> Sample:
    """Axes in another order; [0, 2, 1] transposes in plane."""
    return Sample(*(a.transpose(axes) for a in sample))


def flipped(sample: Sample, axes: list[bool]) -> Sample:
    """Mirrored along the axes (zyx) that are True."""
    which = tuple(i for i, wanted in enumerate(axes) if wanted)
    return Sample(*(np.flip(a, which) for a in sample))


def cut(sample: Sample, core: Zyx) -> Sample:
    """The middle `core` voxels."""
    z, y, x = (
        slice((n - c) // 2, (n - c) // 2 + c) for n, c in zip(sample.image.shape, core, strict=True)
    )
    return Sample(*(a[z, y, x] for a in sample))
