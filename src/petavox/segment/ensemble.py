"""Ensemble: one segmentation from several of the same voxels, by what most of them hold together.

      pass 1   1 1 1 1 2 2      every combination of labels that occurs is a part; two parts
      pass 2   7 7 8 8 9 9      belong together as far as the passes that label both give them
      pass 3   5 5 5 5 5 5      one label:

               P P Q Q R R      share(P, Q) = 2/3, share(P, R) = share(Q, R) = 1/3

Parts are joined by average linkage: the two clusters with the largest share first, where the share
of clusters is that of their voxels drawn at random, until no share is above the one asked for. A
low one joins what any pass joined, unless the cluster as a whole is contradicted; a high one is the
oversegmentation consensus of all passes.

What it is: the clusters of parts. What it is not: volumes, or the choice of passes. (Floods of one
network with other seeds, steps, rounding, or of a turned image are worth it: where a flood stops
early is much a matter of chance, and several rarely stop, or run over, at one place.)

Sources: evidence accumulation, Fred & Jain 2005, IEEE TPAMI 27:835; the consensus of two passes is
that of Januszewski et al. 2018, Nature Methods 15:605.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from petavox.cooccurrence import grouped, summed
from petavox.segment.linkage import Linkage, with_largest
from petavox.segment.parts import Parts, parts_of, relabelled


def clustered(parts: Parts, *, share: float, least: int, min_size: int) -> np.ndarray:
    """The object of each part, (n,) uint64; 0 for parts that are in none.

    share: of two clusters, above which they are joined (0 to 1).  least: passes that must label a
    part, else it is in no object.  min_size: voxels, of parts and of objects.
    Objects are numbered from 1 in the order of their first part.
    """
    labelled = (parts.labels > 0).sum(1)
    kept = np.flatnonzero((labelled >= least) & (parts.voxels >= min_size))
    out = np.zeros(len(parts), np.uint64)
    if len(kept) == 0:
        return out
    cluster = Linkage(parts.labels[kept], parts.voxels[kept], share).run()
    sizes = np.bincount(cluster, parts.voxels[kept])
    ids, number = np.unique(cluster[sizes[cluster] >= min_size], return_inverse=True)
    out[kept[np.isin(cluster, ids)]] = number.astype(np.uint64) + np.uint64(1)
    return out


def held_together(parts: Parts, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objects that some pass held together although they were not joined: a < b, and voxels.

    ids: (n,) the object of each part, 0 = none. voxels: in each object of a pass the smaller of
    what it holds of a and of b, summed over the objects of a pass; the largest of all passes. An
    object of a pass tells of the pairs with the PARTNERS largest that it holds (all, of few): a
    merger over n objects is no n x n pairs.
    Three arrays of one length, sorted by (a, b); uint64, uint64, int64.
    """
    found = []
    for labels in parts.labels.T:
        here = (labels > 0) & (ids > 0)
        of_pass = [
            (np.minimum(a, b), np.maximum(a, b), n)
            for a, b, n in with_largest(*summed(labels[here], ids[here], parts.voxels[here]))
        ]
        if of_pass:
            found.append(summed(*(np.concatenate(column) for column in zip(*of_pass, strict=True))))
    if not found:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64)
    a, b, voxels = (np.concatenate(column) for column in zip(*found, strict=True))
    order, heads = grouped([a, b])
    if len(heads) == 0:
        return a, b, voxels
    return a[order][heads], b[order][heads], np.maximum.reduceat(voxels[order], heads)


def ensemble(
    passes: Sequence[np.ndarray], *, share: float, least: int = 1, min_size: int = 1000
) -> np.ndarray:
    """The ensemble of labellings of one subvolume; uint64, of their shape.

    passes: unsigned ids of one shape, 0 = nothing; the rest as for `clustered`.
    """
    parts = parts_of(passes)
    return relabelled(passes, parts, clustered(parts, share=share, least=least, min_size=min_size))
