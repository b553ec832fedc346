"""Suspects: where an agglomeration is most likely wrong, and how much hangs on it.

    split    a pair that was not accepted: the chance that it should have been, times the volume
             of the smaller of its two objects
    merger   an accepted pair without which its object would fall apart: the chance that it should
             not have been, times the volume of the smaller part

The chance follows from the odds, relative to the odds asked for: r = odds / asked, a split with
chance r / (1 + r), a merger with 1 / (1 + r). An accepted pair on a cycle is no suspect: other
pairs hold its object together too.

What it is: a ranking of the edges of the agglomeration graph. What it is not: a look at voxels: a
merger inside one of the objects that were agglomerated is not seen here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from petavox.segment.agglomeration import ACCEPTED, UNSCORED, final_of

UNKNOWN = 0.1
"""Chance that a pair without scores should have been accepted, if no prior says."""


def suspects(
    edges: Mapping[str, np.ndarray], ids: np.ndarray, voxels: np.ndarray
) -> dict[str, np.ndarray]:
    """Suspects, the largest expected loss first (ties: smaller a, then b); columns of one length.

    edges: a, b, odds, odds_asked, decision, and chance (before the network was asked) or not.
    ids, voxels: of all objects before agglomeration.
    Returns edge (place in edges), kind ("split" or "merger"), object_a, object_b (final ids),
    chance, voxels (at stake), loss (chance x voxels).
    """
    a, b = edges["a"], edges["b"]
    ok = edges["decision"] == ACCEPTED
    order = np.argsort(ids)
    ids, voxels = ids[order], voxels[order]
    final = final_of(ids, a[ok], b[ok])
    names, place = np.unique(final, return_inverse=True)
    sizes = np.bincount(place, voxels, len(names)).astype(np.int64)
    at_a, at_b = np.searchsorted(ids, a), np.searchsorted(ids, b)
    relative = np.asarray(edges["odds"], np.float64) / edges["odds_asked"]
    chance = np.where(ok, 1 / (1 + relative), relative / (1 + relative))
    unscored = edges["decision"] == UNSCORED
    before = np.asarray(edges.get("chance", np.full(len(a), np.nan)), np.float64)
    chance[unscored] = np.where(np.isnan(before), UNKNOWN, before)[unscored]
    stake = np.minimum(sizes[place[at_a]], sizes[place[at_b]]) if len(a) else np.zeros(0, np.int64)
    # both objects of a pair may be one by way of others: then nothing is split
    stake[~ok & (place[at_a] == place[at_b])] = 0
    stake[ok] = bridges(at_a[ok], at_b[ok], voxels)
    loss = chance * stake
    kept = np.flatnonzero(loss > 0)
    kept = kept[np.lexsort((b[kept], a[kept], -loss[kept]))]
    return {
        "edge": kept,
        "kind": np.where(ok[kept], "merger", "split"),
        "object_a": final[at_a[kept]],
        "object_b": final[at_b[kept]],
        "chance": chance[kept],
        "voxels": stake[kept],
        "loss": loss[kept],
    }


def bridges(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What hangs on each edge of a graph: weight of the smaller side without it; 0 on cycles.

    a, b: (n,) places of nodes.  weight: of every node.  Two edges between the same two nodes are
    a cycle. Method: depth-first search with low points (Tarjan 1974), without recursion.
    """
    n = len(weight)
    order = np.argsort(np.concatenate([a, b]), kind="stable")
    ends = np.concatenate([b, a])[order]
    edge = np.concatenate([np.arange(len(a))] * 2)[order] if len(a) else np.zeros(0, np.int64)
    first = np.searchsorted(np.concatenate([a, b])[order], np.arange(n + 1))
    seen, low = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    below = np.asarray(weight, np.int64).copy()
    out = np.zeros(len(a), np.int64)
    clock = 0
    for root in np.unique(a):
        if seen[root] >= 0:
            continue
        found: list[tuple[int, int]] = []  # bridges of this component: edge, weight below it
        stack = [(int(root), -1, int(first[root]))]
        seen[root] = low[root] = clock
        clock += 1
        while stack:
            node, came, k = stack.pop()
            if k < first[node + 1]:
                stack.append((node, came, k + 1))
                other, e = int(ends[k]), int(edge[k])
                if e == came:
                    continue
                if seen[other] >= 0:
                    low[node] = min(low[node], seen[other])
                else:
                    seen[other] = low[other] = clock
                    clock += 1
                    stack.append((other, e, int(first[other])))
            elif stack:
                parent = stack[-1][0]
                low[parent] = min(low[parent], low[node])
                below[parent] += below[node]
                if low[node] > seen[parent]:
                    found.append((came, int(below[node])))
        for e, part in found:
            out[e] = min(part, int(below[root]) - part)
    return out
