"""The agglomeration graph: pairs of objects with their scores, what was decided, what follows.

What it is: columns of edges in, decisions and final ids out; small enough to repeat for another
rule without flooding anything again. What it is not: files, or graphs larger than memory (the
merging of those is petavox.segment.unionfind.PartitionedUnion).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from petavox.segment.contraction import contracted
from petavox.segment.rule import Rule, asked, odds
from petavox.segment.unionfind import components, look_up

ACCEPTED, REJECTED, GUARDED, UNSCORED = "accepted", "rejected", "guarded", "no score"
"""Decisions. guarded: enough evidence for most pairs, but not for two large objects, or other
pairs of the objects that it would join speak against it."""
_MOST = 5.0  # of log odds: no single pair outweighs all others


def decided(
    edges: Mapping[str, np.ndarray], rule: Rule, voxel_volume: float
) -> dict[str, np.ndarray]:
    """The edges with odds, odds_asked and decision by a rule, replacing earlier ones.

    edges: name -> (n,), with what petavox.segment.rule needs.  voxel_volume: cubic nm.
    """
    found, limit = odds(rule, edges), asked(rule, edges, voxel_volume)
    unscored = np.isnan(np.asarray(edges["iou"], np.float64))
    decision = np.where(found > limit, ACCEPTED, np.where(found > rule.odds, GUARDED, REJECTED))
    decision = np.where(unscored, UNSCORED, decision)
    out = dict(edges) | {"odds": found, "odds_asked": limit, "decision": decision.astype(object)}
    return kept_apart(out) if rule.topology else out


def kept_apart(edges: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Decided edges with those accepted ones guarded that other pairs speak against.

    See petavox.segment.contraction. A pair that the network was not asked about speaks only
    against, by its chance in a prior; without one it says nothing.
    """
    decision = np.asarray(edges["decision"], object)
    weight = np.log(np.maximum(edges["odds"], 1e-9) / edges["odds_asked"])
    weight = np.clip(weight, -_MOST, _MOST)
    chance = np.asarray(edges.get("chance", np.full(len(decision), np.nan)), np.float64)
    chance = np.clip(np.where(np.isnan(chance), 0.5, chance), 1e-9, 0.5)
    before = np.maximum(np.log(chance / (1 - chance)), -_MOST)
    weight = np.where(decision == UNSCORED, before, weight)
    ok = decision == ACCEPTED
    inside = contracted(edges["a"], edges["b"], np.where(ok | (weight <= 0), weight, 0.0))
    return dict(edges) | {"decision": np.where(ok & ~inside, GUARDED, decision).astype(object)}


def final_of(ids: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The final id of each id after merging the pairs (a[i], b[i]): the smallest member's."""
    keys, roots = components(np.asarray(a, np.uint64), np.asarray(b, np.uint64))
    return look_up(np.asarray(ids, np.uint64), keys, roots)


def sizes_after(
    ids: np.ndarray, voxels: np.ndarray, final: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(final ids, voxels) of the merged objects, ids ascending."""
    names, place = np.unique(final, return_inverse=True)
    return names, np.bincount(place, voxels, len(names)).astype(np.int64)


def members(final: np.ndarray, ids: np.ndarray, wanted: int) -> np.ndarray:
    """The ids that were merged into `wanted`, ascending."""
    return np.sort(ids[final == np.uint64(wanted)])
