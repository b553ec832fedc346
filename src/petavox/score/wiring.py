"""A table of synapses against a true one: detection, partners, edges; the rim left out fairly.

What it is: one report from two tables of rows (synapse, partner), and the precision and recall of
detection by score. What it is not: the matching itself (petavox.score.synapses).

A synapse at the rim of a box is cut: the half that is seen may or may not be found, and its centre
may lie outside. So what is not matched and lies within `rim_nm` of the box's faces does not count,
neither as spurious nor as missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from petavox.score.synapses import edge_scores, match


@dataclass(frozen=True)
class SynapseRows:
    """One row a synapse and partner: a synapse with three posts has three rows of one id.

    ids, pre, post: (n,) uint64, 0 = nobody.  positions: (n, 3) float64 nm, zyx.
    """

    ids: np.ndarray
    positions: np.ndarray
    pre: np.ndarray
    post: np.ndarray

    def single(self) -> tuple[np.ndarray, np.ndarray]:
        """ids (m,), and positions (m, 3), one row a synapse, ascending ids."""
        ids, first = np.unique(self.ids, return_index=True)
        return ids, np.asarray(self.positions, float).reshape(-1, 3)[first]

    def partners(self) -> dict[int, set[tuple[int, int]]]:
        """The (pre, post) of each synapse, without those that are nobody."""
        out: dict[int, set[tuple[int, int]]] = {int(i): set() for i in np.unique(self.ids)}
        for i, a, b in zip(self.ids.tolist(), self.pre.tolist(), self.post.tolist(), strict=True):
            if a and b:
                out[int(i)].add((int(a), int(b)))
        return out


def report(
    result: SynapseRows,
    truth: SynapseRows,
    low_nm: Sequence[float],
    high_nm: Sequence[float],
    *,
    within: float = 200.0,
    rim_nm: float = 125.0,
) -> dict[str, float]:
    """Detection, partners of matched synapses, and edges (there or not, and by synapses).

    low_nm, high_nm: the box, zyx.  Partners: precision and recall of the (pre, post) pairs of
    matched synapses, and F1 of both as `partner_accuracy`; `pre_accuracy`: share of matched
    synapses with the right presynaptic object.
    """
    (ids, at), (true_ids, true_at) = result.single(), truth.single()
    pairs = match(at, true_at, within=within)
    counts = _counted(at, pairs[:, 0], low_nm, high_nm, rim_nm)
    true_counts = _counted(true_at, pairs[:, 1], low_nm, high_nm, rim_nm)
    out = _shares("detection", len(pairs), int(counts.sum()), int(true_counts.sum()))
    mine, true = result.partners(), truth.partners()
    both = [(mine[int(ids[a])], true[int(true_ids[b])]) for a, b in pairs]
    right = sum(len(p & t) for p, t in both)
    partner = _shares("partner", right, sum(len(p) for p, _ in both), sum(len(t) for _, t in both))
    partner["partner_accuracy"] = partner.pop("partner_f1")
    pre, true_pre = ({int(i): int(a) for i, a in zip(r.ids, r.pre, strict=True)}
                     for r in (result, truth))  # fmt: skip
    agree = sum(pre[int(ids[a])] == true_pre[int(true_ids[b])] for a, b in pairs)
    out |= {"pre_accuracy": agree / len(pairs) if len(pairs) else float("nan")} | partner
    edges = _edges(mine, ids[counts]), _edges(true, true_ids[true_counts])
    for name, weighted in (("edge", False), ("edge_by_synapses", True)):
        found = edge_scores(*edges, weighted=weighted)
        out |= {f"{name}_{k}": v for k, v in found._asdict().items()}
    return out


def curve(score: np.ndarray, right: np.ndarray, missed: int) -> list[tuple[float, float, float]]:
    """(score, precision, recall) of keeping what scores at least so much, best scores first.

    score: (n,) of detections.  right: (n,) bool, matched.  missed: true ones that nothing matches.
    """
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(right[order])
    true = int(right.sum()) + missed
    return [
        (float(score[k]), float(h / (n + 1)), float(h / true) if true else float("nan"))
        for n, (k, h) in enumerate(zip(order, hits, strict=True))
    ]


def _counted(
    at: np.ndarray, matched: np.ndarray, low: Sequence[float], high: Sequence[float], rim: float
) -> np.ndarray:
    inside = np.all((at >= np.asarray(low) + rim) & (at <= np.asarray(high) - rim), axis=1)
    inside[matched] = True
    return np.asarray(inside)


def _shares(name: str, right: int, result: int, truth: int) -> dict[str, float]:
    def share(a: int, b: int) -> float:
        return a / b if b else float("nan")

    return {
        f"{name}_precision": share(right, result),
        f"{name}_recall": share(right, truth),
        f"{name}_f1": share(2 * right, result + truth),
        f"{name}_right": right,
        f"{name}_found": result,
        f"{name}_true": truth,
    }


def _edges(
    partners: dict[int, set[tuple[int, int]]], ids: np.ndarray
) -> dict[tuple[int, int], int]:
    out: dict[tuple[int, int], int] = {}
    for i in ids.tolist():
        for pair in partners[int(i)]:
            out[pair] = out.get(pair, 0) + 1
    return out
