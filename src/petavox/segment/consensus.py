"""Oversegmentation consensus: what two segmentations of the same voxels both hold together.

Every pair (a, b) of objects that meet becomes an object of its own: wherever one of the two sees
a boundary, there is one. Mergers that only one of them made disappear; splits of both stay.

    A  1 1 1 1 1 2 2 0        b = 0 counts as a partner; a = 0 stays 0
    B  7 7 7 8 8 8 0 8        the largest part of a keeps a's id
       1 1 1 3 3 4 2 0        ties: the smallest b; new ids count on from A's largest

What it is: the table of pairs, which adds up over blocks; the id of each pair; the relabelling of
arrays. What it is not: volumes, or the choice of the two segmentations.

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods ("Oversegmentation consensus").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from petavox import cooccurrence
from petavox.errors import BadInput

MIN_SIZE = 1000
"""Voxels from which a pair is kept as an object, as published."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of ids that meet, sorted by (a, b), with their voxels; a > 0, b may be 0.

    a, b: (n,) uint64.  voxels: (n,) int64.
    """

    a: np.ndarray
    b: np.ndarray
    voxels: np.ndarray

    def __len__(self) -> int:
        return len(self.a)


NO_PAIRS = Pairs(np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, np.int64))
"""The table of nothing."""


def pairs_of(a: np.ndarray, b: np.ndarray) -> Pairs:
    """Pairs of two labellings of the same voxels.

    a, b: arrays of one shape, unsigned ids, 0 = nothing.
    """
    if a.shape != b.shape:
        raise BadInput(f"labels of shape {a.shape} and {b.shape} are not of the same voxels.")
    here = a > 0
    return Pairs(*cooccurrence.counted(a[here], b[here])) if here.any() else NO_PAIRS


def added(tables: Iterable[Pairs]) -> Pairs:
    """The sum of the tables of blocks that tile a volume: the table of the volume."""
    parts = list(tables)
    if not parts:
        return NO_PAIRS
    a, b, voxels = (np.concatenate([getattr(p, k) for p in parts]) for k in ("a", "b", "voxels"))
    return Pairs(*cooccurrence.summed(a, b, voxels))


def consensus_ids(pairs: Pairs, min_size: int = MIN_SIZE) -> np.ndarray:
    """The id of each pair, (n,) uint64; 0 for those of fewer than `min_size` voxels.

    The largest pair of each a keeps a's id (of equal ones, the one with the smallest b); the
    others count on from the largest a, in the order of (a, b).
    """
    if len(pairs) == 0:
        return np.zeros(0, np.uint64)
    order = np.lexsort((pairs.b, -pairs.voxels, pairs.a))
    first = np.ones(len(pairs), bool)
    first[1:] = pairs.a[order][1:] != pairs.a[order][:-1]
    largest = np.zeros(len(pairs), bool)
    largest[order[first]] = True
    kept = pairs.voxels >= min_size
    ids = np.where(largest & kept, pairs.a, np.uint64(0))
    new = kept & ~largest
    start = int(pairs.a.max())
    if start + int(new.sum()) >= 1 << 64:
        raise BadInput(
            f"the largest id is {start}: there is no room above it for {int(new.sum())} new "
            "objects; renumber the first segmentation."
        )
    ids[new] = np.uint64(start) + np.arange(1, int(new.sum()) + 1, dtype=np.uint64)
    return ids


def relabelled(a: np.ndarray, b: np.ndarray, pairs: Pairs, ids: np.ndarray) -> np.ndarray:
    """The labels of the pairs' ids; uint64, of the shape of a and b.

    pairs, ids: of a volume that holds these voxels. Raises BadInput for a pair not among them.
    """
    out = np.zeros(a.shape, np.uint64)
    here = a > 0
    if not here.any():
        return out
    ids_a, at_a = np.unique(a[here].astype(np.uint64), return_inverse=True)
    ids_b, at_b = np.unique(b[here].astype(np.uint64), return_inverse=True)
    cells, place = np.unique(at_a.astype(np.int64) * len(ids_b) + at_b, return_inverse=True)
    found = _find(pairs, ids_a[cells // len(ids_b)], ids_b[cells % len(ids_b)])
    out[here] = ids[found][place]
    return out


def _find(pairs: Pairs, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Places of the pairs (a[i], b[i]) in the table."""
    known_a, known_b = np.unique(pairs.a), np.unique(pairs.b)
    if len(pairs) == 0 or not (np.isin(a, known_a).all() and np.isin(b, known_b).all()):
        raise BadInput("the voxels hold pairs of objects that are not in the table of pairs.")
    width = len(known_b)

    def code(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.searchsorted(known_a, x) * width + np.searchsorted(known_b, y)

    known, wanted = code(pairs.a, pairs.b), code(a, b)
    place = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    if not np.array_equal(known[place], wanted):
        raise BadInput("the voxels hold pairs of objects that are not in the table of pairs.")
    return place


def consensus(a: np.ndarray, b: np.ndarray, min_size: int = MIN_SIZE) -> np.ndarray:
    """The consensus of two labellings of one subvolume; uint64, of their shape.

    a, b: unsigned ids, 0 = nothing.  min_size: voxels; smaller pairs become 0.
    """
    pairs = pairs_of(a, b)
    return relabelled(a, b, pairs, consensus_ids(pairs, min_size))
