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
import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from petavox.cooccurrence import summed
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
    cluster = _Linkage(parts.labels[kept], parts.voxels[kept], share).run()
    sizes = np.bincount(cluster, parts.voxels[kept])
    ids, number = np.unique(cluster[sizes[cluster] >= min_size], return_inverse=True)
    out[kept[np.isin(cluster, ids)]] = number.astype(np.uint64) + np.uint64(1)
    return out


class _Linkage:
    """Average linkage of parts that share a label in some pass. Ties: the first parts first."""

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
            order = np.argsort(labels[:, p], kind="stable")
            cuts = np.flatnonzero(np.diff(labels[order, p])) + 1
            for members in np.split(order, cuts):
                if labels[members[0], p]:
                    some = members.tolist()
                    for i in some:
                        self.near[i].update(some)
        for i in range(n):
            self.near[i].discard(i)
        self.parent = list(range(n))
        self.version = [0] * n

    def run(self) -> np.ndarray:
        """The cluster of each part, (n,) int64: its first part."""
        queue: list[tuple[float, int, int, int, int]] = []
        for i, near in enumerate(self.near):
            for k in near:
                if i < k:
                    self._propose(queue, i, k)
        while queue:
            _, i, k, version_i, version_k = heapq.heappop(queue)
            # stale: one of the two has grown since, or is part of another
            if (self.version[i], self.version[k]) != (version_i, version_k):
                continue
            self._join(i, k)
            for other in self.near[i]:
                self._propose(queue, min(i, other), max(i, other))
        for i in range(len(self.parent)):
            # a cluster is joined to an earlier one, whose own place is known by now
            self.parent[i] = self.parent[self.parent[i]]
        return np.array(self.parent)

    def _propose(self, queue: list[tuple[float, int, int, int, int]], i: int, k: int) -> None:
        share = self._share(i, k)
        if share > self.least:
            heapq.heappush(queue, (-share, i, k, self.version[i], self.version[k]))

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


def held_together(parts: Parts, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Objects that some pass held together although they were not joined: a < b, and voxels.

    ids: (n,) the object of each part, 0 = none. voxels: in each object of a pass the smaller of
    what it holds of a and of b, summed over the objects of a pass; the largest of all passes.
    Three arrays of one length, sorted by (a, b); uint64, uint64, int64.
    """
    most: dict[tuple[int, int], int] = {}
    for labels in parts.labels.T:
        here = (labels > 0) & (ids > 0)
        groups, objects, voxels = summed(labels[here], ids[here], parts.voxels[here])
        of_pass: Counter[tuple[int, int]] = Counter()
        cuts = np.flatnonzero(np.diff(groups)) + 1
        for some, sizes in zip(np.split(objects, cuts), np.split(voxels, cuts), strict=True):
            held = list(zip(some.tolist(), sizes.tolist(), strict=True))
            for (a, m), (b, n) in itertools.combinations(held, 2):
                of_pass[a, b] += min(m, n)
        for pair, n in of_pass.items():
            most[pair] = max(most.get(pair, 0), n)
    pairs = sorted(most)
    a, b = (np.array([p[k] for p in pairs], np.uint64) for k in (0, 1))
    return a, b, np.array([most[p] for p in pairs], np.int64)


def ensemble(
    passes: Sequence[np.ndarray], *, share: float, least: int = 1, min_size: int = 1000
) -> np.ndarray:
    """The ensemble of labellings of one subvolume; uint64, of their shape.

    passes: unsigned ids of one shape, 0 = nothing; the rest as for `clustered`.
    """
    parts = parts_of(passes)
    return relabelled(passes, parts, clustered(parts, share=share, least=least, min_size=min_size))
