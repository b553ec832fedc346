"""The accept rule on pairs worked out by hand; the fit against scipy and on made-up truths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize

from petavox.errors import BadInput
from petavox.segment.rule import FEATURES, Rule, accepted, features, fit, logistic_fit, odds
from petavox.settings import parse

VOXEL = 512.0


def table(**columns):
    base = {
        "iou": 0.9, "aa": 0.95, "ab": 0.9, "ba": 0.9, "bb": 0.95, "deleted_a": 0.0,
        "deleted_b": 0.0, "size_a": 5000, "size_b": 5000, "faces": 100, "distance_nm": 0.0,
        "touching": 80, "width_nm": 30.0, "gray": 12000.0, "touching_gray": 9600.0,
        "bright": 140.0, "gray_a": 130.0, "gray_b": 135.0, "overlap": 50,
    }  # fmt: skip
    n = max((len(v) for v in columns.values() if isinstance(v, list)), default=1)
    return {
        k: np.array(v if isinstance(v, list) else [v] * n, np.float64)
        for k, v in (base | columns).items()
    }


def one(rule=None, **columns):
    return bool(accepted(rule or Rule(), table(**columns), VOXEL)[0])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, True),
        ({"iou": 0.8}, False),
        ({"iou": 0.801}, True),
        ({"aa": 0.6}, False),
        ({"ab": 0.6}, False),
        ({"ba": 0.6}, False),
        ({"bb": 0.6}, False),
        ({"bb": 0.601}, True),
        ({"deleted_a": 0.02, "deleted_b": 0.02}, False),
        ({"deleted_a": 0.5, "deleted_b": 0.019}, True),
        ({"deleted_a": 0.019, "deleted_b": 0.5}, True),
    ],
)
def test_the_published_rule(columns, expected):
    assert one(**columns) is expected


def test_two_large_objects_need_stronger_evidence():
    large = int(0.06e9 / VOXEL)
    assert one(size_a=large, size_b=5000, iou=0.85)
    assert not one(size_a=large, size_b=large, iou=0.85)
    assert one(size_a=large, size_b=large, iou=0.9)
    assert one(Rule(guard=1), size_a=large, size_b=large, iou=0.85)


def test_the_limit_moves_without_new_scores():
    scores = table(iou=[0.5, 0.7, 0.82, 0.95])
    found = [int(accepted(Rule(odds=o), scores, VOXEL).sum()) for o in (0.6, 0.8, 1, 1.1, 1.3)]
    assert found == [4, 3, 2, 1, 0]


def test_a_pair_without_scores_is_never_accepted():
    scores = table(iou=np.nan, aa=np.nan, deleted_a=np.nan)
    logistic = Rule(
        kind="logistic", features=("iou",), mean=(0,), scale=(1,), weights=(1,), bias=30
    )
    for rule in (Rule(), logistic):
        assert odds(rule, scores)[0] == 0
        assert not accepted(rule, scores, VOXEL)[0]


def test_logistic_odds_by_hand():
    rule = Rule(
        kind="logistic",
        features=("iou", "log_faces"),
        mean=(0.5, 2.0),
        scale=(0.1, 1.0),
        weights=(2.0, -1.0),
        bias=0.5,
    )
    # (0.7 - 0.5) / 0.1 * 2 - (3 - 2) + 0.5 = 3.5
    assert odds(rule, table(iou=0.7, faces=1000))[0] == pytest.approx(np.exp(3.5))


def test_exchanging_a_and_b_changes_nothing(rng):
    names = ("iou", "aa", "ab", "ba", "bb", "deleted_a", "deleted_b", "size_a", "size_b")
    scores = table(**{k: rng.random(20).tolist() for k in names})
    swap = {"aa": "bb", "ab": "ba", "ba": "ab", "bb": "aa"}
    swap |= {f"{k}_{x}": f"{k}_{y}" for k in ("deleted", "size") for x, y in ("ab", "ba")}
    other = {k: scores[swap.get(k, k)] for k in scores}
    assert np.allclose(features(scores), features(other))
    assert np.allclose(odds(Rule(), scores), odds(Rule(), other))


def test_newton_finds_the_minimum_that_scipy_finds(rng):
    x = rng.normal(size=(200, 3))
    same = (x @ [1.5, -2, 0] + 0.7 + rng.logistic(size=200)) > 0

    def loss(w):
        z = x @ w[:3] + w[3]
        return (np.logaddexp(0, z) - same * z).sum() + 0.5 * 2.0 * w[:3] @ w[:3]

    expected = optimize.minimize(loss, np.zeros(4), method="BFGS").x
    weights, bias = logistic_fit(x, same, 2.0)
    assert np.allclose([*weights, bias], expected, atol=1e-3)


@given(st.integers(0, 1000))
def test_separable_pairs_have_an_answer(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, 2))
    weights, bias = logistic_fit(x, x[:, 0] > 0, 0.1)
    assert np.isfinite([*weights, bias]).all()
    assert weights[0] > 0


def made_up(rng, n=300):
    """Pairs of one body overlap more; the cost counts wrong decisions of the fold."""
    same = rng.random(n) < 0.4
    spread = np.where(same, 0.75, 0.35) + rng.normal(scale=0.12, size=n)
    shares = {k: np.clip(spread + rng.normal(scale=0.1, size=n), 0, 1) for k in ("ab", "ba")}
    scores = table(iou=np.clip(spread, 0, 1).tolist(), **{k: v.tolist() for k, v in shares.items()})
    fold = np.arange(n) % 2

    def vi(ok, k):
        return float((ok != same)[fold == k].sum())

    return scores, same, fold, vi


def test_a_fitted_rule_beats_the_published_one_on_pairs_it_did_not_see(rng):
    scores, same, fold, vi = made_up(rng)
    rule = fit(scores, same, fold, vi, voxel_volume=VOXEL)
    published = np.mean([vi(accepted(Rule(), scores, VOXEL), k) for k in (0, 1)])
    assert rule.fitted["vi_bits_cross_validated"] < published / 2
    assert rule.fitted["true_pairs"] == same.sum()
    fresh, truth, _, _ = made_up(np.random.default_rng(5))
    assert (accepted(rule, fresh, VOXEL) == truth).mean() > 0.9


def test_a_rule_survives_its_file(rng):
    scores, same, fold, vi = made_up(rng)
    rule = fit(scores, same, fold, vi, voxel_volume=VOXEL)
    again = Rule.model_validate_json(rule.model_dump_json())
    assert np.array_equal(odds(again, scores), odds(rule, scores))


def test_truths_that_teach_nothing_are_refused(rng):
    scores, same, fold, vi = made_up(rng)
    with pytest.raises(BadInput, match="a rule needs both"):
        fit(scores, np.ones_like(same), fold, vi, voxel_volume=VOXEL)
    with pytest.raises(BadInput, match="one fold"):
        fit(scores, same, np.zeros_like(fold), vi, voxel_volume=VOXEL)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"kind": "logistic"}, "features are missing"),
        ({"kind": "logistic", "features": ["iou", "colour"]}, "colour"),
        ({"kind": "logistic", "features": ["iou"], "mean": [0]}, "must have 1 numbers"),
        (
            {"kind": "logistic", "features": ["iou"], "mean": [0], "scale": [0], "weights": [1]},
            "above 0",
        ),
        ({"odds": 0}, "odds"),
        ({"iuo": 0.8}, "unknown key 'iuo'"),
    ],
)
def test_damaged_rules_are_refused(values, match):
    with pytest.raises(BadInput, match=match):
        parse(Rule, values, "rule.json")


def test_features_are_named():
    assert features(table()).shape == (1, len(FEATURES))
