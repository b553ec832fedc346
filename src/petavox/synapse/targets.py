"""Targets: what the network is to say of each voxel, from masks or from a table of synapses.

What it is: arrays of bits, one bit for each class of a model in its order: uint8, 0 where a voxel
is of no class. What it is not: files, or knowledge of where masks come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from petavox.errors import BadInput
from petavox.space import Zyx


def bits(masks: Mapping[str, np.ndarray], classes: Sequence[str]) -> np.ndarray:
    """One array of bits from a bool mask for each class that is known; (z, y, x) uint8."""
    shape = next(iter(masks.values())).shape
    out = np.zeros(shape, np.uint8)
    for name, mask in masks.items():
        if name not in classes:
            raise BadInput(f"class '{name}' is not one of the model's: {', '.join(classes)}.")
        out |= (mask.astype(bool) * (1 << classes.index(name))).astype(np.uint8)
    return out


def known_bits(names: Sequence[str], classes: Sequence[str]) -> int:
    """The bits of the classes that an annotation speaks of; the others get no loss."""
    return sum(1 << classes.index(n) for n in names)


def from_table(
    labels: np.ndarray,
    start: Zyx,
    voxel_size: Sequence[float],
    positions: np.ndarray,
    pre: np.ndarray,
    post: np.ndarray,
    *,
    radius_nm: float = 120.0,
    depth_nm: float = 50.0,
    cleft_nm: float = 15.0,
) -> dict[str, np.ndarray]:
    """Masks cleft, pre and post from points and partners, where nobody has drawn them.

    labels: (z, y, x) segmentation, its first voxel at `start`.  positions: (n, 3) nm, zyx;
    voxel i covers [i, i + 1) times the voxel size.  pre, post: (n,) ids, one row a partner.
    Within `radius_nm` of a position the presynaptic side is what lies in the object `pre` within
    `depth_nm` of the object `post`, and the other way round; the cleft is what lies within
    `cleft_nm` of both.
    """
    size = np.asarray(list(voxel_size), float)
    out = {name: np.zeros(labels.shape, bool) for name in ("cleft", "pre", "post")}
    reach = np.ceil((radius_nm + depth_nm) / size).astype(int) + 1
    for place, a, b in zip(np.asarray(positions, float), pre, post, strict=True):
        middle = np.floor(place / size).astype(int) - np.array(start)
        low = np.maximum(middle - reach, 0)
        high = np.minimum(middle + reach + 1, labels.shape)
        if (low >= high).any():
            continue
        here = tuple(slice(p, q) for p, q in zip(low, high, strict=True))
        own = labels[here]
        if a == 0 or b == 0 or not (own == a).any() or not (own == b).any():
            continue
        axes = [
            (np.arange(p, q) + s + 0.5) * v - c
            for p, q, s, v, c in zip(low, high, start, size, place, strict=True)
        ]
        near = sum(np.square(np.meshgrid(*axes, indexing="ij"))) <= radius_nm**2
        to_a = ndimage.distance_transform_edt(own != a, sampling=size)
        to_b = ndimage.distance_transform_edt(own != b, sampling=size)
        out["cleft"][here] |= near & (to_a <= cleft_nm) & (to_b <= cleft_nm)
        out["pre"][here] |= near & (own == a) & (to_b <= depth_nm)
        out["post"][here] |= near & (own == b) & (to_a <= depth_nm)
    out["pre"] &= ~out["cleft"]
    out["post"] &= ~out["cleft"]
    return out
