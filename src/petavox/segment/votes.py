"""Votes of a face: which objects of two neighbouring blocks are one.

What it is: the contingency table of two labellings of the same voxels (the overlap of two blocks,
or the two planes of voxels on either side of a cut), and the rule that decides on it.
What it is not: reading blocks, or merging over many faces.

The rule (Januszewski et al. 2018, Methods, reconciliation, made strict): a and b are linked where
each is the other's largest partner, and their overlap is at least `share` of the smaller of the
two in the overlap. Beyond it: two are linked, largest partners or not, where one lies almost whole
inside the other; so an object that one block split and the other did not becomes one. Ties go to
the smaller id, so the result depends on nothing but the voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petavox.cooccurrence import counted
from petavox.errors import BadInput
from petavox.segment.links import Links


@dataclass(frozen=True)
class Rule:
    """When two objects that overlap are one.

    share: of the smaller object's voxels in the overlap, 0..1.  min_overlap: voxels.
    mutual: each must be the other's largest partner.
    inside, min_inside: share of the smaller one's voxels in the overlap, and voxels, from which it
    lies inside the other and is linked even if another is the larger partner; None: never.
    """

    share: float = 0.5
    min_overlap: int = 1
    mutual: bool = True
    inside: float | None = None
    min_inside: int = 1


@dataclass(frozen=True)
class Contingency:
    """How often ids of `a` meet ids of `b` at one voxel; 0 (nothing) is left out.

    a, b: uint64 ids of each pair, sorted by (a, b).  overlap: int64 voxels.
    size_a, size_b: voxels of the pair's a and b in the whole overlap, background included.
    """

    a: np.ndarray
    b: np.ndarray
    overlap: np.ndarray
    size_a: np.ndarray
    size_b: np.ndarray


def contingency(a: np.ndarray, b: np.ndarray) -> Contingency:
    """The contingency table of two labellings of the same voxels.

    a, b: arrays of one shape, unsigned ids, 0 = nothing.
    """
    if a.shape != b.shape:
        raise BadInput(f"labels of shape {a.shape} and {b.shape} are not of the same voxels.")
    first, second, voxels = counted(a, b)
    size_a, size_b = (_sizes(ids, voxels) for ids in (first, second))
    keep = (first != 0) & (second != 0)
    return Contingency(*(v[keep] for v in (first, second, voxels, size_a, size_b)))


def _sizes(ids: np.ndarray, voxels: np.ndarray) -> np.ndarray:
    """The voxels of each row's id over all rows."""
    _, place = np.unique(ids, return_inverse=True)
    sums = np.zeros(int(place.max(initial=-1)) + 1, np.int64)
    np.add.at(sums, place, voxels)
    return sums[place]


def decide(table: Contingency, rule: Rule, axis: int) -> Links:
    """Every pair of a face as a row of links, `accepted` where the rule holds.

    axis: of the face (0 z, 1 y, 2 x).
    """
    n = len(table.a)
    share = table.overlap / np.maximum(np.minimum(table.size_a, table.size_b), 1)
    accepted = (share >= rule.share) & (table.overlap >= rule.min_overlap)
    if rule.mutual:
        accepted &= _is_best(table.a, table.b, table.overlap)
        accepted &= _is_best(table.b, table.a, table.overlap)
    if rule.inside is not None:
        accepted |= (share >= rule.inside) & (table.overlap >= rule.min_inside)
    return Links(
        table.a,
        table.b,
        np.full(n, axis, np.uint8),
        table.overlap,
        table.size_a,
        table.size_b,
        accepted,
    )


def _is_best(of: np.ndarray, partner: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """True for the row of each `of` that has the largest overlap (ties: smallest partner)."""
    order = np.lexsort((partner, -overlap, of))
    first = np.ones(len(of), bool)
    first[1:] = of[order][1:] != of[order][:-1]
    best = np.zeros(len(of), bool)
    best[order[first]] = True
    return best


def partners(ids: np.ndarray, of: np.ndarray, other: np.ndarray, overlap: np.ndarray) -> np.ndarray:
    """The largest partner of each id, (n,) uint64; 0 for those that meet nothing.

    ids: (n,) uint64.  of, other, overlap: columns of a contingency table, whichever way round.
    """
    best = _is_best(of, other, overlap)
    order = np.argsort(of[best])
    known, partner = of[best][order], other[best][order]
    if len(known) == 0:
        return np.zeros(len(ids), np.uint64)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[at] == ids, partner[at], np.uint64(0)).astype(np.uint64)


def touching(plane: np.ndarray, *, min_voxels: int) -> np.ndarray:
    """Ids that reach a face with at least `min_voxels` voxels of its plane; uint64, sorted."""
    ids, counts = np.unique(plane, return_counts=True)
    return ids[(ids != 0) & (counts >= min_voxels)].astype(np.uint64)
