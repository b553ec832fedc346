"""Suspects: where an agglomeration is most likely wrong, and how much hangs on it.

    split    a pair that was not accepted: the chance that it should have been, times what joining
             its two objects would save
    merger   an accepted pair without which its object would fall apart: the chance that it should
             not have been, times what parting the two sides would save

What is saved is variation of information: objects of s and l voxels that are one body cost
s log2((s + l) / s) + l log2((s + l) / l) bits x voxels while they are apart, and as much while
they are joined but are two. So the first places of the list are those where a look is expected to
gain most; ordered by chance instead, they hold most errors, smaller ones.

The chance follows from the odds, relative to the odds asked for: r = odds / asked, a split with
chance r / (1 + r), a merger with 1 / (1 + r). An accepted pair on a cycle is no suspect: other
pairs hold its object together too. Of the pairs between the same two objects only the likeliest is
listed: one look decides on all of them.

What it is: a ranking of the edges of the agglomeration graph. What it is not: a look at voxels: a
merger inside one of the objects that were agglomerated is not seen here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from petavox.segment.agglomeration import ACCEPTED, UNSCORED, final_of

UNKNOWN = 0.1
"""Chance that a pair without scores should have been accepted, if no prior says."""

By = Literal["bits", "chance"]
"""Orders of the list: what a look is expected to gain, or how likely an error is."""


def suspects(
    edges: Mapping[str, np.ndarray],
    ids: np.ndarray,
    voxels: np.ndarray,
    *,
    by: By = "bits",
    decided: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Suspects, the worst first (ties: the other order, then smaller a, then b), as columns.

    edges: a, b, odds, odds_asked, decision, and chance (before the network was asked) or not.
    ids, voxels: of all objects before agglomeration.  decided: (n,) bool, edges that are no
    suspects, whatever they look like.
    Returns edge (place in edges), kind ("split" or "merger"), object_a, object_b (final ids),
    chance, voxels (at stake: of the smaller side), bits (x voxels, chance x what is saved), pairs
    (suspicious ones between the same two objects, this one included).
    """
    a, b = edges["a"], edges["b"]
    ok = edges["decision"] == ACCEPTED
    order = np.argsort(ids)
    ids, voxels = ids[order], voxels[order]
    final = final_of(ids, a[ok], b[ok])
    names, place = np.unique(final, return_inverse=True)
    sizes = np.bincount(place, voxels, len(names)).astype(np.int64)
    at_a, at_b = np.searchsorted(ids, a), np.searchsorted(ids, b)
    in_a, in_b = (place[at] if len(a) else np.zeros(0, np.int64) for at in (at_a, at_b))
    relative = np.asarray(edges["odds"], np.float64) / edges["odds_asked"]
    chance = np.where(ok, 1 / (1 + relative), relative / (1 + relative))
    unscored = edges["decision"] == UNSCORED
    before = np.asarray(edges.get("chance", np.full(len(a), np.nan)), np.float64)
    chance[unscored] = np.where(np.isnan(before), UNKNOWN, before)[unscored]
    of_a, of_b = (sizes[at] if len(a) else np.zeros(0, np.int64) for at in (in_a, in_b))
    stake = np.minimum(of_a, of_b)
    rest = np.maximum(of_a, of_b)
    # both objects of a pair may be one by way of others: then nothing is split
    stake[~ok & (in_a == in_b)] = 0
    stake[ok] = bridges(at_a[ok], at_b[ok], voxels)
    rest[ok] = of_a[ok] - stake[ok]
    bits = chance * at_stake(stake, rest)
    open_ = (chance * stake > 0) & (True if decided is None else ~decided)
    kept, pairs = _likeliest(open_, ok, in_a, in_b, chance, a, b)
    first, second = (bits, chance) if by == "bits" else (chance, bits)
    again = np.lexsort((b[kept], a[kept], -second[kept], -first[kept]))
    kept, pairs = kept[again], pairs[again]
    return {
        "edge": kept,
        "kind": np.where(ok[kept], "merger", "split"),
        "object_a": final[at_a[kept]],
        "object_b": final[at_b[kept]],
        "chance": chance[kept],
        "voxels": stake[kept],
        "bits": bits[kept],
        "pairs": pairs,
    }


def at_stake(part: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Bits x voxels of VI between joining and parting objects of so many voxels, (n,) float64."""
    s, t = (np.maximum(np.asarray(v, np.float64), 0) for v in (part, rest))
    whole = np.maximum(s + t, 1)
    return s * np.log2(whole / np.maximum(s, 1)) + t * np.log2(whole / np.maximum(t, 1))


def _likeliest(
    open_: np.ndarray,
    ok: np.ndarray,
    in_a: np.ndarray,
    in_b: np.ndarray,
    chance: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the likeliest open split between any two objects, and of all open mergers.

    Also how many open rows each stands for.
    """
    rows = np.flatnonzero(open_)
    low, high = np.minimum(in_a, in_b)[rows], np.maximum(in_a, in_b)[rows]
    own = np.where(ok[rows], rows + 1, 0)  # every merger stands for itself
    order = np.lexsort((b[rows], a[rows], -chance[rows], own, high, low))
    rows, key = rows[order], np.stack([low, high, own], 1)[order]
    new = np.ones(len(rows), bool)
    new[1:] = (key[1:] != key[:-1]).any(1)
    first = np.flatnonzero(new)
    return rows[first], np.diff(np.append(first, len(rows)))


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
