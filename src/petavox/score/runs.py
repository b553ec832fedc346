"""Expected run length: how far one can walk along a true neurite before the result goes wrong.

What it is: scores of objects looked up at the nodes of truth skeletons, in nm. What it is not:
a maker of skeletons, or a reader of volumes; the caller gives the object id at each node.

Source: Januszewski et al. 2018, Nature Methods 15, 605.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from petavox.errors import BadInput


@dataclass(frozen=True)
class Skeleton:
    """A truth skeleton. nodes: (n, 3) float64 nm, zyx.  edges: (m, 2) int64 rows of nodes."""

    id: int
    nodes: np.ndarray
    edges: np.ndarray

    def __post_init__(self) -> None:
        nodes = np.asarray(self.nodes, np.float64).reshape(-1, 3)
        edges = np.asarray(self.edges, np.int64).reshape(-1, 2)
        if not np.isfinite(nodes).all():
            raise BadInput(f"skeleton {self.id} has a node whose position is not a number.")
        if edges.size and (edges.min() < 0 or edges.max() >= len(nodes)):
            raise BadInput(f"skeleton {self.id} has an edge to a node that is not there.")
        object.__setattr__(self, "nodes", nodes)
        object.__setattr__(self, "edges", edges)

    @property
    def edge_lengths(self) -> np.ndarray:
        """Length of each edge, nm."""
        return np.linalg.norm(self.nodes[self.edges[:, 0]] - self.nodes[self.edges[:, 1]], axis=1)


@dataclass(frozen=True)
class RunError:
    """A split or merger on a skeleton. other: the object (split) or skeleton (merger) it meets."""

    kind: str
    skeleton: int
    object: int
    other: int
    place_nm: tuple[float, float, float]


@dataclass(frozen=True)
class RunScores:
    """ERL in nm with its parts; NaN where there is no length.

    nerl: erl / erl_perfect.  per_mm: of truth length.  length: nm, of all edges; it divides into
    correct, merged (an end in an object that another skeleton shares), split (the two ends in
    two objects) and missing (an end in no object), in this order of precedence: missing, merged,
    split.
    """

    erl: float
    erl_perfect: float
    nerl: float
    length: float
    correct: float
    merged: float
    split: float
    missing: float
    splits: int
    mergers: int
    splits_per_mm: float
    mergers_per_mm: float
    errors: tuple[RunError, ...]


def run_scores(
    skeletons: Sequence[Skeleton], objects: Sequence[np.ndarray], *, merge_nodes: int = 1
) -> RunScores:
    """ERL, NERL, splits and mergers of a result on truth skeletons.

    objects: for each skeleton the (n,) id of the result object at every node; 0 = none.
    merge_nodes: an object is on a skeleton if it holds at least that many of its nodes; one that
    is on two or more is merged, and none of its edges counts on any of them. More than 1 forgives
    nodes that lie a voxel off.
    An edge is correct if both its nodes lie in one object that is not merged. A run is all the
    correct edges of one skeleton in one object. ERL = sum of squared runs / total length.
    Splits: objects on a skeleton beyond the first. Mergers: skeletons on an object beyond the
    first.
    """
    if len(skeletons) != len(objects):
        raise BadInput(f"{len(skeletons)} skeletons, but objects of {len(objects)}.")
    if merge_nodes < 1:
        raise BadInput(f"merge_nodes is {merge_nodes}: give 1 or more.")
    ids = [np.asarray(o, np.uint64) for o in objects]
    for skeleton, at in zip(skeletons, ids, strict=True):
        if at.shape != (len(skeleton.nodes),):
            raise BadInput(
                f"skeleton {skeleton.id} has {len(skeleton.nodes)} nodes, but {at.size} objects."
            )
    on = [_held(at, merge_nodes) for at in ids]
    homes: dict[int, list[int]] = {}
    for i, held in enumerate(on):
        for object_ in held:
            homes.setdefault(object_, []).append(i)
    merged = {o: where for o, where in homes.items() if len(where) > 1}
    bad = np.array(sorted(merged), np.uint64)

    squares = perfect = 0.0
    length = dict.fromkeys(("all", "correct", "merged", "split", "missing"), 0.0)
    for skeleton, at in zip(skeletons, ids, strict=True):
        run = skeleton.edge_lengths
        a, b = at[skeleton.edges[:, 0]], at[skeleton.edges[:, 1]]
        missing = (a == 0) | (b == 0)
        in_merger = ~missing & (np.isin(a, bad) | np.isin(b, bad))
        cut = ~missing & ~in_merger & (a != b)
        correct = ~(missing | in_merger | cut)
        length["all"] += float(run.sum())
        for name, kind in zip(
            ("correct", "merged", "split", "missing"),
            (correct, in_merger, cut, missing),
            strict=True,
        ):
            length[name] += float(run[kind].sum())
        _, where = np.unique(a[correct], return_inverse=True)
        squares += float((np.bincount(where, weights=run[correct]) ** 2).sum())
        perfect += float(run.sum()) ** 2

    errors = [
        *_split_places(skeletons, ids, on),
        *_merger_places(skeletons, ids, merged),
    ]
    splits = sum(e.kind == "split" for e in errors)
    mergers = len(errors) - splits
    total, mm = length["all"], length["all"] / 1e6
    return RunScores(
        erl=squares / total if total else math.nan,
        erl_perfect=perfect / total if total else math.nan,
        nerl=squares / perfect if perfect else math.nan,
        length=total,
        correct=length["correct"],
        merged=length["merged"],
        split=length["split"],
        missing=length["missing"],
        splits=splits,
        mergers=mergers,
        splits_per_mm=splits / mm if mm else math.nan,
        mergers_per_mm=mergers / mm if mm else math.nan,
        errors=tuple(errors),
    )


def _held(at: np.ndarray, least: int) -> list[int]:
    """Objects with at least `least` nodes, most nodes first, then the smallest id."""
    objects, nodes = np.unique(at[at > 0], return_counts=True)
    keep = nodes >= least
    order = np.lexsort((objects[keep], -nodes[keep]))
    return [int(o) for o in objects[keep][order]]


def _split_places(
    skeletons: Sequence[Skeleton], ids: Sequence[np.ndarray], on: Sequence[list[int]]
) -> list[RunError]:
    """One error for each object on a skeleton but the first, at its node nearest to another."""
    errors = []
    for skeleton, at, held in zip(skeletons, ids, on, strict=True):
        for object_ in held[1:]:
            own = np.flatnonzero(at == object_)
            rest = np.flatnonzero((at != object_) & np.isin(at, np.array(held, np.uint64)))
            node, met = _nearest(skeleton.nodes[own], skeleton.nodes[rest])
            errors.append(
                RunError(
                    "split", skeleton.id, object_, int(at[rest[met]]), _place(skeleton, own[node])
                )
            )
    return errors


def _merger_places(
    skeletons: Sequence[Skeleton], ids: Sequence[np.ndarray], merged: dict[int, list[int]]
) -> list[RunError]:
    """One error for each skeleton on a merged object but the one with most nodes in it."""
    errors = []
    for object_, where in sorted(merged.items()):
        nodes = {i: np.flatnonzero(ids[i] == object_) for i in where}
        ranked = sorted(where, key=lambda i: (-len(nodes[i]), i))
        for i in ranked[1:]:
            others = [j for j in ranked if j != i]
            rest = np.concatenate([skeletons[j].nodes[nodes[j]] for j in others])
            owner = np.concatenate([np.full(len(nodes[j]), j) for j in others])
            node, met = _nearest(skeletons[i].nodes[nodes[i]], rest)
            errors.append(
                RunError(
                    "merger",
                    skeletons[i].id,
                    object_,
                    skeletons[int(owner[met])].id,
                    _place(skeletons[i], nodes[i][node]),
                )
            )
    return errors


def _nearest(own: np.ndarray, rest: np.ndarray) -> tuple[int, int]:
    distance, met = cKDTree(rest).query(own)
    node = int(np.argmin(distance))
    return node, int(met[node])


def _place(skeleton: Skeleton, node: int) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in skeleton.nodes[node])
    return (z, y, x)
