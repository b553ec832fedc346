"""Average linkage of parts: the two clusters with the largest share first, again and again.

Every cluster knows its best pair, and a queue holds the best of all. A cluster of many neighbours
ranks them in a heap of bounds. When it grows, only neighbours that hold a label whose weight in it
has risen are looked at again; the share of all others has fallen or stayed, so what is known of it
is a bound, and is worked out anew only when it comes first:

      {1: 1.0, 7: 0.2, 8: 0.8}  grows by a part (1, 9)        {1: 1.0, 7: 0.1, 8: 0.4, 9: 0.5}
                                only what holds 9 is looked at; 1 was all of it, and still is

So a merger over n parts that is joined whole takes n log n steps, not n x n.

What it is: clusters from labels and voxels. What it is not: which parts count
(petavox.segment.ensemble).

Source: Müllner 2011, arXiv:1109.2378 (generic linkage with lazily updated nearest neighbours).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np

PARTNERS = 64
"""Of what one object of a pass holds: as many of the largest are compared with all others."""
MANY = 512
"""Neighbours from which a cluster ranks them."""

Pair = tuple[float, int, int]
"""Minus the share of two clusters, the earlier one, the later one: the least comes first."""


class Linkage:
    """Average linkage of parts that share a label in some pass. Ties: the first parts first.

    Of the parts of one label each is compared with the PARTNERS largest (all, where it has no more
    parts), and a cluster with what any of its parts is: a merger over n parts is no n x n pairs.
    Of each cluster only the best pair waits in the queue.

    labels: (n, k) uint64, of k passes, 0 = nothing.  voxels: (n,).  share: above which two clusters
    are joined.
    """

    def __init__(self, labels: np.ndarray, voxels: np.ndarray, share: float) -> None:
        self.least = share
        n, k = labels.shape
        rows, sizes = labels.tolist(), voxels.tolist()
        self.held: list[list[dict[int, int]]] = [
            [{label: v} if label else {} for label in row]
            for row, v in zip(rows, sizes, strict=True)
        ]
        """Of a cluster, in each pass: label -> voxels."""
        self.total = [
            [v if label else 0 for label in row] for row, v in zip(rows, sizes, strict=True)
        ]
        self.near: list[set[int]] = [set() for _ in range(n)]
        for p in range(k):
            of = np.flatnonzero(labels[:, p])
            for small, large, _ in with_largest(labels[of, p], of, voxels[of]):
                for i, other in zip(small.tolist(), large.tolist(), strict=True):
                    self.near[i].add(other)
                    self.near[other].add(i)
        self.parent = list(range(n))
        self.version = [0] * n
        self.ranked: dict[int, list[tuple[float, int, int, int]]] = {}
        """Of clusters with many neighbours: bounds of pairs, with the neighbour's version."""
        self.unsure: dict[int, set[int]] = {}
        """Of the same: clusters of which no bound is known."""
        self.ranked_by: dict[int, set[int]] = {}
        """The other way round: in whose ranking a cluster stands."""
        self.where: list[dict[int, set[int]]] = []
        """In each pass: label -> clusters that hold it; empty until it is needed."""

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
        distance, i, k = self._best(owner)
        if -distance > self.least:
            heapq.heappush(queue, (distance, i, k, self.version[i], self.version[k], owner))

    def _best(self, owner: int) -> Pair:
        """The best pair of a cluster with any of its neighbours."""
        ranked, unsure = self.ranked.get(owner), self.unsure.get(owner, set())
        near = self.near[owner]
        # without bounds, or where they have become as many as there is to look at
        if ranked is None or len(unsure) + len(ranked) > 2 * len(near):
            pairs = [self._pair(owner, other) for other in near]
            if self.version[owner] and len(pairs) > MANY:
                self._rank(owner, pairs)
            else:
                self._forget_ranking(owner)
            return min(pairs, default=(0.0, 0, 0, 0))[:3]
        for other in unsure & near:
            heapq.heappush(ranked, self._pair(owner, other))
        unsure.clear()
        while ranked:
            _, i, k, version = ranked[0]
            other = k if owner == i else i
            if self.version[other] != version:
                heapq.heappop(ranked)  # it has changed, and stands there anew if it still is
                continue
            now = self._pair(owner, other)
            if now == ranked[0]:
                return now[:3]  # all others are bound by less, or by as much and come later
            heapq.heapreplace(ranked, now)
        return (0.0, 0, 0)

    def _pair(self, owner: int, other: int) -> tuple[float, int, int, int]:
        i, k = min(owner, other), max(owner, other)
        return (-self._share(i, k), i, k, self.version[other])

    def _rank(self, owner: int, pairs: list[tuple[float, int, int, int]]) -> None:
        """Keep the pairs of a cluster, all just worked out, as its ranking."""
        if not self.where:
            self.where = [{} for _ in self.total[owner]]
            for i, passes in enumerate(self.held):
                for place, labels in zip(self.where, passes, strict=False):
                    for label in labels:
                        place.setdefault(label, set()).add(i)
        self.ranked[owner], self.unsure[owner] = list(pairs), set()
        heapq.heapify(self.ranked[owner])
        for other in self.near[owner]:
            self.ranked_by.setdefault(other, set()).add(owner)

    def _share(self, i: int, k: int) -> float:
        together = both = 0.0
        for a, b, m, n in zip(
            self.held[i], self.held[k], self.total[i], self.total[k], strict=True
        ):
            if m and n:
                few, many = (a, b) if len(a) <= len(b) else (b, a)
                # whole numbers: exact, so that a share cannot rise by rounding
                together += sum(v * many.get(label, 0) for label, v in few.items()) / (m * n)
                both += 1.0
        return together / both if both else 0.0

    def _join(self, i: int, k: int) -> None:
        """k becomes part of i, i < k."""
        self._mark_risen(i, k)
        self.parent[k] = i
        self.version[i] += 1
        self.version[k] = -1
        for mine, theirs in zip(self.held[i], self.held[k], strict=True):
            for label, v in theirs.items():
                mine[label] = mine.get(label, 0) + v
        self.total[i] = [m + n for m, n in zip(self.total[i], self.total[k], strict=True)]
        for place, labels in zip(self.where, self.held[k], strict=False):
            for label in labels:
                place[label].discard(k)
                place[label].add(i)
        self.held[k] = []
        self._forget_ranking(k)
        for other in self.near[k]:
            self.near[other].discard(k)
            if other == i:
                continue
            self.near[other].add(i)
            if other not in self.near[i]:
                self.near[i].add(other)
                if i in self.ranked:
                    self.unsure[i].add(other)
                    self.ranked_by.setdefault(other, set()).add(i)
        self.near[k] = set()
        by = self.ranked_by.pop(k, set()) | self.ranked_by.pop(i, set())
        by -= {i, k}
        for owner in by:
            self.unsure[owner].add(i)
        if by:
            self.ranked_by[i] = by

    def _mark_risen(self, i: int, k: int) -> None:
        """Of what i has ranked: which pairs may rise when k becomes part of it."""
        if i not in self.ranked:
            return
        for p, labels in enumerate(self.held[k]):
            mine, total, theirs = self.held[i][p], self.total[i][p], self.total[k][p]
            if labels and not total:
                # one more pass is compared: all shares change
                self._forget_ranking(i)
                return
            for label, v in labels.items():
                if mine.get(label, 0) != total or v != theirs:
                    self.unsure[i] |= self.where[p][label]

    def _forget_ranking(self, owner: int) -> None:
        if self.ranked.pop(owner, None) is None:
            return
        del self.unsure[owner]
        for other in self.near[owner]:
            self.ranked_by.get(other, set()).discard(owner)


def with_largest(
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
