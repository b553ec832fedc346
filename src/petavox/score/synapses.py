"""Synapses and wiring: detection, partners, and the edges of the diagram.

What it is: matching of detected to true synapses by centroid, and scores on the match. What it
is not: detection itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from petavox.errors import BadInput


class Detection(NamedTuple):
    """Precision, recall and F1; a share of nothing is NaN.

    matches: (k, 2) int64, rows of the result and of the truth.
    """

    precision: float
    recall: float
    f1: float
    matches: np.ndarray


class EdgeScores(NamedTuple):
    """Precision, recall and F1 of a wiring diagram; a share of nothing is NaN."""

    precision: float
    recall: float
    f1: float


Wiring = Mapping[tuple[int, int], float]
"""(pre, post) -> number of synapses."""


def detection(result: np.ndarray, truth: np.ndarray, *, within: float = 200.0) -> Detection:
    """Match centroids one to one, at most `within` nm apart.

    result: (n, 3) float64 nm, zyx.  truth: (m, 3).
    The matching has as many pairs as possible and, of those, the least total distance.
    """
    matches = match(result, truth, within=within)
    k, n, m = len(matches), len(_points(result)), len(_points(truth))
    return Detection(_share(k, n), _share(k, m), _share(2 * k, n + m), matches)


def match(result: np.ndarray, truth: np.ndarray, *, within: float) -> np.ndarray:
    """Optimal one-to-one matching of points, (k, 2) int64 rows, sorted by the result's.

    Solved exactly in each group of points linked by possible pairs, so that memory grows with
    the largest crowd, not with all synapses.
    """
    a, b = _points(result), _points(truth)
    if not (math.isfinite(within) and within > 0):
        raise BadInput(f"the matching distance is {within} nm: give a positive number.")
    none = np.zeros((0, 2), np.int64)
    if not len(a) or not len(b):
        return none
    near = cKDTree(a).sparse_distance_matrix(cKDTree(b), within, output_type="ndarray")
    i, j, d = near["i"], near["j"], near["v"]
    if not len(i):
        return none
    n = len(a) + len(b)
    graph = coo_matrix((np.ones(len(i), bool), (i, j + len(a))), shape=(n, n))
    _, group = connected_components(graph, directed=False)
    order = np.argsort(group[i], kind="stable")
    cuts = np.flatnonzero(np.diff(group[i][order])) + 1
    pairs = []
    for rows in np.split(order, cuts):
        own, at_i = np.unique(i[rows], return_inverse=True)
        other, at_j = np.unique(j[rows], return_inverse=True)
        # a pair too many must cost more than every distance saved by it
        cost = np.full((len(own), len(other)), 0.0)
        cost[at_i, at_j] = d[rows] - within * (min(cost.shape) + 2)
        allowed = np.zeros(cost.shape, bool)
        allowed[at_i, at_j] = True
        r, c = linear_sum_assignment(cost)
        keep = allowed[r, c]
        pairs.append(np.stack([own[r[keep]], other[c[keep]]], axis=1))
    found = np.concatenate(pairs).astype(np.int64)
    return found[np.lexsort((found[:, 1], found[:, 0]))]


def partner_accuracy(
    matches: np.ndarray, result: np.ndarray, truth: np.ndarray
) -> tuple[float, float, float]:
    """Shares of matched synapses with the right (pre, post, both) partner; NaN without matches.

    matches: (k, 2) from `detection`.  result, truth: (n, 2) and (m, 2) ids of pre and post, in
    one space of ids: give result objects the names of their majority bodies first
    (petavox.score.overlap.majority). A partner 0 is never right.
    """
    own = np.asarray(result, np.uint64).reshape(-1, 2)[matches[:, 0]]
    true = np.asarray(truth, np.uint64).reshape(-1, 2)[matches[:, 1]]
    right = (own == true) & (true > 0)
    k = len(matches)
    pre, post, both = right[:, 0].sum(), right[:, 1].sum(), right.all(axis=1).sum()
    return (_share(int(pre), k), _share(int(post), k), _share(int(both), k))


def edge_scores(result: Wiring, truth: Wiring, *, weighted: bool) -> EdgeScores:
    """Edges of the wiring diagram.

    weighted: an edge counts by its synapses, and the smaller of both numbers is right; otherwise
    an edge is there or not. Edges of no synapse are not there.
    """
    if any(w < 0 for w in (*result.values(), *truth.values())):
        raise BadInput("an edge has a negative number of synapses.")

    def size(wiring: Wiring) -> float:
        return sum(wiring.values()) if weighted else sum(w > 0 for w in wiring.values())

    common = result.keys() & truth.keys()
    shared = sum(min(result[e], truth[e]) for e in sorted(common))
    if not weighted:
        shared = sum(result[e] > 0 and truth[e] > 0 for e in common)
    n, m = size(result), size(truth)
    return EdgeScores(_share(shared, n), _share(shared, m), _share(2 * shared, n + m))


def _points(values: np.ndarray) -> np.ndarray:
    points = np.asarray(values, np.float64)
    if points.size == 0:
        return np.zeros((0, 3))
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise BadInput(f"centroids of shape {points.shape}: give (n, 3) finite nm, zyx.")
    return points


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
