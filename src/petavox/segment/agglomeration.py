"""The agglomeration graph: pairs of objects with their scores, what was decided, what follows.

What it is: columns of edges in, decisions and final ids out; small enough to repeat for another
rule without flooding anything again. What it is not: files, or graphs larger than memory (the
merging of those is petavox.segment.unionfind.PartitionedUnion).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from petavox.segment.rule import Rule, asked, odds
from petavox.segment.unionfind import components, look_up

ACCEPTED, REJECTED, GUARDED, UNSCORED = "accepted", "rejected", "guarded", "no score"
"""Decisions. guarded: enough evidence for most pairs, but not for two large objects."""


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
    return dict(edges) | {"odds": found, "odds_asked": limit, "decision": decision.astype(object)}


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
