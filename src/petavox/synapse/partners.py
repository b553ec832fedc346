"""Partners: which object is presynaptic at a cleft, and which ones are postsynaptic.

    cleft + pre, post, objects around it
      evidence   for each object near the cleft: the volume that the network calls pre, and post
      partners   one presynaptic object, and one or more others that are postsynaptic

What it is: the decision at one cleft, on a small array around it; a synapse may have several
partners, as most of the fly's have (polyadic). What it is not: blocks, or tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field
from scipy import ndimage

from petavox.settings import Settings


class PartnerSettings(Settings):
    """How partners are chosen."""

    reach_nm: float = Field(60.0, gt=0)
    """Voxels so near to the cleft speak for their objects."""
    post_share: float = Field(0.06, gt=0, le=1)
    """Of the strongest postsynaptic object's evidence that another partner has at least."""
    min_side_nm3: float = Field(10_000.0, ge=0)
    """Evidence (volume times probability) below which an object is no partner."""


class Evidence(NamedTuple):
    """Of each object near a cleft: nm3 weighted by probability, and the mean over its own voxels.

    ids: (n,) uint64 ascending, without 0.  pre, post: (n,) float64 nm3.  pre_mean, post_mean:
    (n,) float64, mean probability over the object's voxels that are called so (0.5 or more).
    """

    ids: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    pre_mean: np.ndarray
    post_mean: np.ndarray


class Partners(NamedTuple):
    """The decision. pre: id, 0 = nobody.  posts: ids with their scores, strongest first."""

    pre: int
    pre_score: float
    posts: tuple[tuple[int, float], ...]


def evidence(
    own: np.ndarray,
    other: np.ndarray,
    pre: np.ndarray,
    post: np.ndarray,
    labels: np.ndarray,
    voxel_size: Sequence[float],
    reach_nm: float,
) -> Evidence:
    """What the voxels near one cleft say.

    own: (z, y, x) bool, the cleft.  other: bool, other clefts; a voxel nearer to one of those says
    nothing here.  pre, post: uint8, probability times 255.  labels: objects.
    The arrays must hold everything within `reach_nm` of the cleft, and other clefts within twice
    that.
    """
    size = [float(v) for v in voxel_size]
    far = ndimage.distance_transform_edt(~own, sampling=size)
    near = far <= reach_nm
    if other.any():
        near &= far <= ndimage.distance_transform_edt(~other, sampling=size)
    near &= labels != 0
    ids, which = np.unique(labels[near], return_inverse=True)
    n, volume = len(ids), float(np.prod(size))
    sums = []
    means = []
    for said in (pre[near].astype(np.int64), post[near].astype(np.int64)):
        total = np.bincount(which, said, minlength=n) / 255.0
        sure = said >= 128
        count = np.bincount(which[sure], minlength=n)
        mean = np.bincount(which[sure], said[sure], minlength=n) / 255.0 / np.maximum(count, 1)
        sums.append(total * volume)
        means.append(mean)
    return Evidence(ids.astype(np.uint64), sums[0], sums[1], means[0], means[1])


def partners(found: Evidence, settings: PartnerSettings) -> Partners:
    """One presynaptic object and all postsynaptic ones.

    The presynaptic object is the one with most evidence of being so, less half of what speaks for
    the other side; its score is its share of all such evidence. Of the others those are
    postsynaptic whose evidence is at least `post_share` of the strongest's; the score is the mean
    probability of the voxels that say so. Ties go to the smaller id.
    """
    if not len(found.ids):
        return Partners(0, 0.0, ())
    balance = found.pre - 0.5 * found.post
    best = int(np.argmax(balance))
    pre, pre_score = 0, 0.0
    rest = np.ones(len(found.ids), bool)
    if found.pre[best] >= max(settings.min_side_nm3, 1e-9) and balance[best] > 0:
        pre = int(found.ids[best])
        pre_score = float(found.pre[best] / found.pre.sum())
        rest[best] = False
    strength = np.where(rest, found.post, 0.0)
    least = max(settings.min_side_nm3, settings.post_share * float(strength.max(initial=0.0)), 1e-9)
    chosen = np.flatnonzero(strength >= least)
    chosen = chosen[np.lexsort((found.ids[chosen], -strength[chosen]))]
    posts = tuple((int(found.ids[k]), float(found.post_mean[k])) for k in chosen)
    return Partners(pre, pre_score, posts)
