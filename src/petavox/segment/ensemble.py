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

import heapq
from collections.abc import Iterator, Sequence

import numpy as np

from petavox.cooccurrence import grouped, summed
from petavox.segment.parts import Parts, parts_of, relabelled

PARTNERS = 64
"""Of what one object of a pass holds: as many of the largest are compared with all others."""


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
    cluster = _Linkage(parts.labels[kept], parts.voxels[kept], share).run()
    sizes = np.bincount(cluster, parts.voxels[kept])
    ids, number = np.unique(cluster[sizes[cluster] >= min_size], return_inverse=True)
    out[kept[np.isin(cluster, ids)]] = number.astype(np.uint64) + np.uint64(1)
    return out


class _Linkage:
    """Average linkage of parts that share a label in some pass. Ties: the first parts first.

    Of the parts of one label each is compared with the PARTNERS largest (all, where it has no more
    parts), and a cluster with what any of its parts is: a merger over n parts is no n x n pairs.
    Of each cluster only the best pair waits in the queue.
    """

    def __init__(self, labels: np.ndarray, voxels: np.ndarray, share: float) -> None:
        self.least = share
        n, k = labels.shape
        rows = labels.tolist()
        self.held: list[list[dict[int, float]]] = [
            [{label: float(v)} if label else {} for label in row]
            for row, v in zip(rows, voxels.tolist(), strict=True)
        ]
        """Of a cluster, in each pass: label -> voxels."""
        self.total = [[float(v) if label else 0.0 for label in row]
                      for row, v in zip(rows, voxels.tolist(), strict=True)]  # fmt: skip
        self.near: list[set[int]] = [set() for _ in range(n)]
        for p in range(k):
            of = np.flatnonzero(labels[:, p])
            for small, large, _ in _with_largest(labels[of, p], of, voxels[of]):
                for i, other in zip(small.tolist(), large.tolist(), strict=True):
                    self.near[i].add(other)
                    self.near[other].add(i)
        self.parent = list(range(n))
        self.version = [0] * n

    def run(self) -> np.ndarray:
        """The cluster of each part, (n,) int64: its first part."""
        queue: list[tuple[float, int, int, int, int, int]] = []
        for i in range(len(self.near)):
            self._propose(queue, i)
        while queue:
            _, i, k, version_i, version_k, owner = heapq.heappop(queue)
            if (self.version[i], self.version[k]) == (version_i, version_k):
                self._join(i, k)
                self._propose(queue, i)
            elif self.version[owner] == (version_i if owner == i else version_k):
                # its partner has grown since, or is part of another
                self._propose(queue, owner)
        for i in range(len(self.parent)):
            # a cluster is joined to an earlier one, whose own place is known by now
            self.parent[i] = self.parent[self.parent[i]]
        return np.array(self.parent)

    def _propose(self, queue: list[tuple[float, int, int, int, int, int]], owner: int) -> None:
        """The best pair of a cluster into the queue, if any is good enough."""
        pairs = ((min(owner, other), max(owner, other)) for other in self.near[owner])
        distance, i, k = min(((-self._share(i, k), i, k) for i, k in pairs), default=(0.0, 0, 0))
        if -distance > self.least:
            heapq.heappush(queue, (distance, i, k, self.version[i], self.version[k], owner))

    def _share(self, i: int, k: int) -> float:
        together = both = 0.0
        for a, b, m, n in zip(
            self.held[i], self.held[k], self.total[i], self.total[k], strict=True
        ):
            if m and n:
                few, many = (a, b) if len(a) <= len(b) else (b, a)
                together += sum(v * many.get(label, 0.0) for label, v in few.items()) / (m * n)
                both += 1.0
        return together / both if both else 0.0

    def _join(self, i: int, k: int) -> None:
        """k becomes part of i, i < k."""
        self.parent[k] = i
        self.version[i] += 1
        self.version[k] = -1
        for mine, theirs in zip(self.held[i], self.held[k], strict=True):
            for label, v in theirs.items():
                mine[label] = mine.get(label, 0.0) + v
        self.total[i] = [m + n for m, n in zip(self.total[i], self.total[k], strict=True)]
        self.held[k] = []
        for other in self.near[k]:
            self.near[other].discard(k)
            if other != i:
                self.near[other].add(i)
                self.near[i].add(other)
        self.near[k] = set()


def _with_largest(
    groups: np.ndarray, members: np.ndarray, voxels: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs within groups of which one is among the PARTNERS largest of the group.

    groups, members, voxels: (n,); a member is in a group once. Gives (smaller, larger, voxels of
    the smaller) for the largest of all groups, then for the second, ... Of equal ones the first
    counts as larger.
    """
    order = np.lexsort((members, -voxels, groups))
    groups, members, voxels = groups[order], members[order], voxels[order]
    new = np.ones(len(groups), bool)
    new[1:] = groups[1:] != groups[:-1]
    first = np.flatnonzero(new)
    start = np.repeat(first, np.diff(first, append=len(groups)))
    rows = np.arange(len(groups))
    for place in range(PARTNERS):
        rows = rows[rows - start[rows] > place]
        if len(rows) == 0:
            return
        yield members[rows], members[start[rows] + place], voxels[rows]


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
            for a, b, n in _with_largest(*summed(labels[here], ids[here], parts.voxels[here]))
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
