"""When a pair of objects is one: the published rule, or one fitted on ground truth.

Both give each pair its odds, a positive number that grows with the evidence; a pair is accepted
where its odds exceed what is asked. So a stricter or looser result needs no new flood.

    published   odds = the smallest of  IoU / 0.8,  each consistency / 0.6,  2 % / deleted share
                (of the smaller one); above 1 all conditions hold: the published rule, exactly
    logistic    odds = p / (1 - p) of a logistic regression on a few scores; its weights are in
                the rule's file, readable

Guard: a pair of two large objects must reach `guard` times the odds, because such a merger, if
wrong, costs most.

What it is: arithmetic on columns of scores, and the rule's file. What it is not: the scores
(petavox.segment.resegment), the merging, the choice of a truth.

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods ("Agglomeration").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from petavox.errors import BadInput
from petavox.segment.features import ASKED, FEATURES, Columns, features
from petavox.settings import Settings

_ENOUGH = 1e-6  # a deleted share below this is no stronger evidence


class Rule(Settings):
    """A rule to accept pairs. `kind` decides which of the numbers count."""

    kind: Literal["published", "logistic"] = "published"
    odds: float = Field(1.0, gt=0)
    """A pair is accepted above these odds."""
    large_um3: float = Field(0.05, gt=0)
    """Volume from which an object is large, in cubic micrometres."""
    guard: float = Field(1.1, ge=1)
    """Two large objects must reach so many times the odds."""
    topology: bool = True
    """Pairs that were found unlikely keep those apart that others would join in a chain."""
    iou: float = Field(0.8, gt=0, le=1)
    consistency: float = Field(0.6, gt=0, le=1)
    deleted: float = Field(0.02, gt=0, le=1)
    features: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    bias: float = 0.0
    fitted: dict[str, Any] = Field(default_factory=dict)
    """How it was fitted: pairs, folds, VI."""

    @model_validator(mode="after")
    def _whole(self) -> Rule:
        if self.kind == "logistic":
            unknown = sorted(set(self.features) - set(FEATURES))
            if unknown or not self.features:
                raise ValueError(f"features {unknown or 'are missing'}: known {FEATURES}")
            n = len(self.features)
            if not len(self.mean) == len(self.scale) == len(self.weights) == n:
                raise ValueError(f"mean, scale and weights must have {n} numbers, as features has")
            if min(self.scale) <= 0:
                raise ValueError("every scale must be above 0")
        return self


def odds(rule: Rule, scores: Columns) -> np.ndarray:
    """Odds of each pair, (n,) float64; 0 for a pair without the scores that the rule looks at."""
    found = _published(rule, scores) if rule.kind == "published" else _logistic(rule, scores)
    if rule.kind == "logistic" and not set(rule.features) & set(ASKED):
        return found
    return np.where(np.isnan(np.asarray(scores["iou"], np.float64)), 0.0, found)


def asked(rule: Rule, scores: Columns, voxel_volume: float) -> np.ndarray:
    """Odds that each pair must exceed, (n,) float64: more for two large objects.

    voxel_volume: cubic nm.
    """
    smaller = np.minimum(scores["size_a"], scores["size_b"]) * (voxel_volume / 1e9)
    return np.where(smaller >= rule.large_um3, rule.odds * rule.guard, rule.odds)


def accepted(rule: Rule, scores: Columns, voxel_volume: float) -> np.ndarray:
    """Which pairs are one object, (n,) bool."""
    return odds(rule, scores) > asked(rule, scores, voxel_volume)


def _published(rule: Rule, s: Columns) -> np.ndarray:
    consistency = np.minimum.reduce([s["aa"], s["ab"], s["ba"], s["bb"]])
    deleted = np.maximum(np.minimum(s["deleted_a"], s["deleted_b"]), _ENOUGH)
    return np.minimum.reduce(
        [s["iou"] / rule.iou, consistency / rule.consistency, rule.deleted / deleted]
    )


def _logistic(rule: Rule, s: Columns) -> np.ndarray:
    table = features(s, rule.features)
    z = (table - np.array(rule.mean)) / np.array(rule.scale) @ np.array(rule.weights) + rule.bias
    return np.exp(np.clip(z, -40, 40))


def logistic_fit(
    table: np.ndarray, same: np.ndarray, ridge: float, weight: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    """Weights (k,) and bias of a logistic regression, by Newton's method.

    table: (n, k), standardised.  same: (n,) bool.  ridge: half the weight of the squared weights
    in the sum of losses; above 0, so that separable data have an answer.  weight: (n,), of rows.
    """
    x = np.column_stack([table, np.ones(len(table))])
    rows = np.ones(len(x)) if weight is None else np.asarray(weight, np.float64)
    penalty = np.full(x.shape[1], ridge)
    penalty[-1] = 1e-6
    w = np.zeros(x.shape[1])

    def loss(w: np.ndarray) -> float:
        z = x @ w
        return float(rows @ (np.logaddexp(0, z) - same * z) + 0.5 * penalty @ w**2)

    before = loss(w)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -40, 40)))
        gradient = x.T @ (rows * (p - same)) + penalty * w
        curvature = (x * (rows * p * (1 - p))[:, None]).T @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        size = 1.0
        while loss(w - size * step) > before and size > 1e-8:
            size /= 2
        w = w - size * step
        now = loss(w)
        if before - now < 1e-10 * max(1.0, abs(now)):
            break
        before = now
    return w[:-1], float(w[-1])


RIDGES = (0.1, 1.0, 10.0, 100.0)
ODDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
GUARDS = (1.0, 4.0)


def fit(
    scores: Columns,
    same: np.ndarray,
    fold: np.ndarray,
    vi: Callable[[np.ndarray, int], float],
    *,
    voxel_volume: float,
    large_um3: float = 0.05,
    ridges: Sequence[float] = RIDGES,
    names: Sequence[str] = FEATURES,
) -> Rule:
    """The logistic rule whose ridge, odds and guard give the best VI on pairs it did not see.

    same: (n,) bool, both objects belong to one body.  fold: (n,) int, 0..k-1; each fold is judged
    by a rule fitted on the others.  vi: (accepted (n,) bool, fold) -> bits, of the fold's part of
    the volume after merging the accepted pairs.  voxel_volume: cubic nm.  names: of features.
    Of equally good rules the stricter one is taken.
    Raises BadInput if some fold's training pairs are all of one kind.
    """
    table = features(scores, names)
    there = ~np.isnan(np.asarray(scores["iou"], np.float64))
    folds = np.unique(fold)
    if len(folds) < 2:
        raise BadInput("all pairs lie in one fold: calibrate on a larger truth, or more folds.")
    for k in folds:
        seen = same[there & (fold != k)]
        if len(seen) == 0 or seen.all() or not seen.any():
            raise BadInput(
                f"without fold {k} there are {int(seen.sum())} true and {int((~seen).sum())} false "
                "pairs with scores: a rule needs both; calibrate on a larger truth."
            )
    tried = []
    for ridge in ridges:
        rules = {int(k): fitted(table, same, there & (fold != k), ridge, names) for k in folds}
        for guard in GUARDS:
            for limit in ODDS:
                costs = [
                    vi(
                        accepted(
                            rule.model_copy(
                                update={"odds": limit, "guard": guard, "large_um3": large_um3}
                            ),
                            scores,
                            voxel_volume,
                        )
                        & (fold == k),
                        k,
                    )
                    for k, rule in rules.items()
                ]
                tried.append((round(float(np.mean(costs)), 9), -guard, -limit, -ridge, costs))
    best = min(tried)
    _, guard, limit, ridge, costs = best
    final = fitted(table, same, there, -ridge, names)
    return final.model_copy(
        update={
            "odds": -limit,
            "guard": -guard,
            "large_um3": large_um3,
            "fitted": {
                "pairs": len(same),
                "pairs_with_scores": int(there.sum()),
                "true_pairs": int(same[there].sum()),
                "ridge": -ridge,
                "folds": len(folds),
                "vi_bits_of_folds": [float(c) for c in costs],
                "vi_bits_cross_validated": float(np.mean(costs)),
            },
        }
    )


def fitted(
    table: np.ndarray, same: np.ndarray, rows: np.ndarray, ridge: float, names: Sequence[str]
) -> Rule:
    """The logistic rule of some rows of a table of features; odds 1, no guard.

    table: (n, len(names)), of `features`.  same: (n,) bool.  rows: (n,) bool, those to learn from.
    """
    mean, scale = table[rows].mean(0), table[rows].std(0)
    scale[scale < 1e-9] = 1.0
    weights, bias = logistic_fit((table[rows] - mean) / scale, same[rows], ridge)
    return Rule(
        kind="logistic",
        guard=1.0,
        features=tuple(names),
        mean=tuple(mean.tolist()),
        scale=tuple(scale.tolist()),
        weights=tuple(weights.tolist()),
        bias=bias,
    )


def crossed(
    scores: Columns,
    same: np.ndarray,
    fold: np.ndarray,
    *,
    ridge: float = 1.0,
    names: Sequence[str] = FEATURES,
) -> np.ndarray:
    """Odds of each pair by a rule that was fitted on the other folds only, (n,) float64.

    Pairs without scores teach nothing if `names` has any of ASKED. Arguments as of `fit`.
    """
    table, out = features(scores, names), np.zeros(len(same))
    there = np.ones(len(same), bool)
    if set(names) & set(ASKED):
        there = ~np.isnan(np.asarray(scores["iou"], np.float64))
    for k in np.unique(fold):
        rule = fitted(table, same, there & (fold != k), ridge, names)
        out[fold == k] = odds(rule, {n: np.asarray(v)[fold == k] for n, v in scores.items()})
    return out
