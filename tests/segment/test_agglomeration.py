"""The agglomeration graph on a few pairs worked out by hand."""

from __future__ import annotations

import numpy as np

from petavox.segment.agglomeration import decided, final_of, members, sizes_after
from petavox.segment.rule import Rule


def edges(**columns):
    n = len(columns["iou"])
    base = {k: np.full(n, 0.9) for k in ("aa", "ab", "ba", "bb")}
    base |= {k: np.zeros(n) for k in ("deleted_a", "deleted_b", "distance_nm")}
    base |= {"size_a": np.full(n, 10), "size_b": np.full(n, 10), "faces": np.full(n, 5)}
    base |= {"a": np.arange(n, dtype=np.uint64) * 2 + 1, "b": np.arange(n, dtype=np.uint64) * 2 + 2}
    return base | {k: np.array(v) for k, v in columns.items()}


def test_every_pair_has_a_decision_and_its_reason():
    found = decided(
        edges(iou=[0.9, 0.7, 0.82, np.nan], size_a=[10, 10, 300, 10], size_b=[10, 10, 200, 10]),
        Rule(large_um3=100e-9),
        voxel_volume=1.0,
    )
    assert found["decision"].tolist() == ["accepted", "rejected", "guarded", "no score"]
    assert found["odds"][0] == 0.9 / 0.8
    assert found["odds_asked"].tolist() == [1.0, 1.0, 1.1, 1.0]


def test_another_rule_decides_the_same_edges_anew():
    first = decided(edges(iou=[0.7]), Rule(), 1.0)
    again = decided(first, Rule(odds=0.8), 1.0)
    assert first["decision"].tolist() == ["rejected"]
    assert again["decision"].tolist() == ["accepted"]


def test_chains_take_the_smallest_id_and_others_keep_theirs():
    ids = np.array([2, 3, 5, 8, 9], np.uint64)
    final = final_of(ids, np.array([5, 3], np.uint64), np.array([8, 5], np.uint64))
    assert final.tolist() == [2, 3, 3, 3, 9]
    names, voxels = sizes_after(ids, np.array([1, 10, 100, 1000, 7]), final)
    assert names.tolist() == [2, 3, 9]
    assert voxels.tolist() == [1, 1110, 7]
    assert members(final, ids, 3).tolist() == [3, 5, 8]


def test_no_pairs_change_nothing():
    none = np.zeros(0, np.uint64)
    assert final_of(np.array([4, 1], np.uint64), none, none).tolist() == [4, 1]
    assert decided(edges(iou=[]), Rule(), 1.0)["decision"].tolist() == []


def test_a_chain_that_a_found_unlikely_pair_contradicts_is_guarded():
    chain = {"a": [1, 2, 1], "b": [2, 3, 3], "iou": [1.2, 0.9, 0.1]}
    chain = {k: np.array(v, np.uint64 if k in "ab" else float) for k, v in chain.items()}
    assert decided(edges(**chain), Rule(), 1.0)["decision"].tolist() == [
        "accepted",
        "guarded",
        "rejected",
    ]
    loose = decided(edges(**chain), Rule(topology=False), 1.0)
    assert loose["decision"].tolist() == ["accepted", "accepted", "rejected"]


def test_a_pair_that_was_not_asked_about_speaks_against_by_its_prior():
    chain = {"a": [1, 2, 1], "b": [2, 3, 3], "iou": [1.2, 0.9, np.nan]}
    chain = {k: np.array(v, np.uint64 if k in "ab" else float) for k, v in chain.items()}
    for chance, second in ((0.01, "guarded"), (0.9, "accepted"), (np.nan, "accepted")):
        found = decided(edges(**chain, chance=[0.5, 0.5, chance]), Rule(), 1.0)
        assert found["decision"].tolist() == ["accepted", second, "no score"]
