"""Oversegmentation consensus: what two segmentations of the same voxels both hold together.

Every pair (a, b) of objects that meet becomes an object of its own: wherever one of the two sees
a boundary, there is one. Mergers that only one of them made disappear; splits of both stay.

    A  1 1 1 1 1 2 2 0        b = 0 counts as a partner; a = 0 stays 0
    B  7 7 7 8 8 8 0 8        the largest part of a keeps a's id
       1 1 1 3 3 4 2 0        ties: the smallest b; new ids count on from A's largest

What it is: the id of each pair. What it is not: the table of pairs (petavox.segment.parts),
volumes, or the choice of the two segmentations.

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods ("Oversegmentation consensus").
"""

from __future__ import annotations

import numpy as np

from petavox.errors import BadInput
from petavox.segment.parts import Parts, parts_of, relabelled

MIN_SIZE = 1000
"""Voxels from which a pair is kept as an object, as published."""


def consensus_ids(parts: Parts, min_size: int = MIN_SIZE) -> np.ndarray:
    """The id of each part (a, b) of two passes, (n,) uint64.

    0 for those of fewer than `min_size` voxels, and where a is 0.
    The largest pair of each a keeps a's id (of equal ones, the one with the smallest b); the
    others count on from the largest a, in the order of (a, b).
    """
    if len(parts) == 0:
        return np.zeros(0, np.uint64)
    if parts.labels.shape[1] != 2:
        raise BadInput(
            f"the oversegmentation consensus is one of two segmentations, not of "
            f"{parts.labels.shape[1]}; give share to make an ensemble of more."
        )
    a, b = parts.labels.T
    order = np.lexsort((b, -parts.voxels, a))
    first = np.ones(len(parts), bool)
    first[1:] = a[order][1:] != a[order][:-1]
    largest = np.zeros(len(parts), bool)
    largest[order[first]] = True
    kept = (parts.voxels >= min_size) & (a > 0)
    ids = np.where(largest & kept, a, np.uint64(0))
    new = kept & ~largest
    start = int(a.max())
    if start + int(new.sum()) >= 1 << 64:
        raise BadInput(
            f"the largest id is {start}: there is no room above it for {int(new.sum())} new "
            "objects; renumber the first segmentation."
        )
    ids[new] = np.uint64(start) + np.arange(1, int(new.sum()) + 1, dtype=np.uint64)
    return ids


def consensus(a: np.ndarray, b: np.ndarray, min_size: int = MIN_SIZE) -> np.ndarray:
    """The consensus of two labellings of one subvolume; uint64, of their shape.

    a, b: unsigned ids, 0 = nothing.  min_size: voxels; smaller pairs become 0.
    """
    parts = parts_of([a, b])
    return relabelled([a, b], parts, consensus_ids(parts, min_size))
