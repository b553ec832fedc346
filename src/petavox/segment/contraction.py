"""Contraction: which of the likely pairs to join where other pairs speak against it.

A chain of likely pairs can join two large objects that touch elsewhere behind a clear membrane.
Here every pair has a weight, the logarithm of its odds over the odds asked; the pair of clusters
with the largest sum of weights between them is joined, again and again, while that sum is above 0.

      a ──+2── b ──+1── c         b and c join no further: between {a, b} and c the sum is
      └───────── -3 ────┘         1 - 3 < 0; the pair (b, c) is guarded

What it is: the guard of topology, on columns of pairs. What it is not: the odds, or files. It
holds the pairs of one volume in memory.

Source: greedy additive edge contraction for multicuts, Keuper et al. 2015, ICCV.
"""

from __future__ import annotations

import heapq

import numpy as np

from petavox.segment.unionfind import components


def contracted(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Which pairs end up inside one cluster and speak for it (weight > 0), (n,) bool.

    a, b: (n,) uint64, a[i] != b[i].  weight: (n,) float64.  Ties: the smaller ids first.
    """
    inside = np.zeros(len(a), bool)
    positive = weight > 0
    ids, roots = components(a[positive], b[positive])
    # only what likely pairs connect can be joined; each such piece stands alone
    place_a, place_b = (_place(ids, v) for v in (a, b))
    piece_a, piece_b = (
        np.where(p >= 0, roots[p], 0) if len(ids) else p for p in (place_a, place_b)
    )
    same = (place_a >= 0) & (place_b >= 0) & (piece_a == piece_b)
    rows = np.flatnonzero(same)
    if len(rows) == 0:
        return inside
    cluster = _clusters(len(ids), place_a[rows], place_b[rows], weight[rows])
    inside[rows] = cluster[place_a[rows]] == cluster[place_b[rows]]
    return inside & positive


def _place(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Places in sorted ids; -1 for those not there."""
    if len(ids) == 0:
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[at] == wanted, at, -1)


def _clusters(n: int, a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The cluster of each of n nodes, (n,) int64: its smallest node."""
    near: list[dict[int, float]] = [{} for _ in range(n)]
    for i, k, w in zip(a.tolist(), b.tolist(), weight.tolist(), strict=True):
        near[i][k] = near[k][i] = near[i].get(k, 0.0) + w
    parent = list(range(n))
    queue = [(-w, i, k) for i in range(n) for k, w in near[i].items() if i < k and w > 0]
    heapq.heapify(queue)
    while queue:
        minus, i, k = heapq.heappop(queue)
        # stale: one of the two was joined to another, or their sum has changed since
        if parent[i] != i or parent[k] != k or near[i].get(k) != -minus:
            continue
        parent[k] = i
        del near[i][k], near[k][i]
        for other, w in near[k].items():
            del near[other][k]
            total = near[i].get(other, 0.0) + w
            near[i][other] = near[other][i] = total
            if total > 0:
                heapq.heappush(queue, (-total, min(i, other), max(i, other)))
        near[k] = {}
    for i in range(n):
        # a node is joined to a smaller one, whose own cluster is known by now
        parent[i] = parent[parent[i]]
    return np.array(parent)
