"""Partners: which object is presynaptic at a cleft, and which ones are postsynaptic.

    cleft + pre, post, objects around it
      tally      in each piece of space near the cleft: sums of what the network says of each object
      evidence   of all pieces: for each object, the volume that is called pre, and post
      partners   one presynaptic object, and one or more others that are postsynaptic

What it is: the decision at one cleft, on small arrays around it; a synapse may have several
partners, as most of the fly's have (polyadic). What it is not: blocks, or tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    max_box_nm3: float = Field(3e10, gt=0)
    """Clefts in a larger box get no partners, and are counted as clefts_too_large: so large are
    folds and cracks that were taken for a cleft."""


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


TALLY = np.dtype([("id", "<u8"), ("said", "<i8", 2), ("sure", "<i8", 2), ("sure_said", "<i8", 2)])
"""Of an object: sums over its voxels near a cleft, of pre and of post. said: probability times 255.
sure: voxels that are called so (0.5 or more), and sure_said: theirs. Whole numbers, so that sums of
pieces do not depend on how they were cut."""


class Partners(NamedTuple):
    """The decision. pre: id, 0 = nobody.  posts: ids with their scores, strongest first."""

    pre: int
    pre_score: float
    posts: tuple[tuple[int, float], ...]


def tally(
    own: np.ndarray,
    other: np.ndarray,
    pre: np.ndarray,
    post: np.ndarray,
    labels: np.ndarray,
    voxel_size: Sequence[float],
    reach_nm: float,
    here: tuple[slice, slice, slice] = (slice(None),) * 3,
) -> np.ndarray:
    """What the voxels of one piece of space say of a cleft near it, as TALLY.

    own: (z, y, x) bool, the cleft.  other: bool, other clefts; a voxel nearer to one of those says
    nothing here.  here: the piece in those arrays, which must hold all that lies within `reach_nm`
    of it.  pre, post: uint8 of the piece alone, probability times 255.  labels: its objects.
    """
    size = [float(v) for v in voxel_size]
    if not own.any():
        return np.zeros(0, TALLY)
    far = ndimage.distance_transform_edt(~own, sampling=size)[here]
    near = (far <= reach_nm) & (labels != 0)
    if other.any():
        near &= far <= ndimage.distance_transform_edt(~other, sampling=size)[here]
    ids, which = np.unique(labels[near], return_inverse=True)
    out = np.zeros(len(ids), TALLY)
    out["id"] = ids
    for side, said in enumerate((pre[near].astype(np.int64), post[near].astype(np.int64))):
        sure = said >= 128
        out["said"][:, side] = np.bincount(which, said, minlength=len(ids))
        out["sure"][:, side] = np.bincount(which[sure], minlength=len(ids))
        out["sure_said"][:, side] = np.bincount(which[sure], said[sure], minlength=len(ids))
    return out


def evidence(tallies: Iterable[np.ndarray], voxel_size: Sequence[float]) -> Evidence:
    """What all pieces of space around one cleft say together: the same, however it was cut."""
    rows = np.concatenate([np.zeros(0, TALLY), *tallies])
    ids, which = np.unique(rows["id"], return_inverse=True)
    whole = np.zeros(len(ids), TALLY)
    for name in ("said", "sure", "sure_said"):
        np.add.at(whole[name], which, rows[name])
    nm3 = whole["said"] / 255.0 * float(np.prod([float(v) for v in voxel_size]))
    mean = whole["sure_said"] / 255.0 / np.maximum(whole["sure"], 1)
    return Evidence(ids, nm3[:, 0], nm3[:, 1], mean[:, 0], mean[:, 1])


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
