"""Suspects ranked by hand, and what hangs on an edge against networkx."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petavox.segment.suspects import UNKNOWN, bridges, suspects


def graph(rows):
    a, b, odds, decision = zip(*rows, strict=True)
    return {
        "a": np.array(a, np.uint64),
        "b": np.array(b, np.uint64),
        "odds": np.array(odds, np.float64),
        "odds_asked": np.ones(len(a)),
        "decision": np.array(decision, object),
    }


def bits(s, t):
    """Conditional entropy of two labels of one body, times its voxels, by definition."""
    return -sum(n * math.log2(n / (s + t)) for n in (s, t))


IDS = np.array([1, 2, 3, 4, 5], np.uint64)
VOXELS = np.array([100, 200, 50, 1000, 30])


def test_the_ranking_by_hand():
    found = suspects(
        graph(
            [
                (1, 2, 3.0, "accepted"),  # chance 1/4 of wrongly joining 100 and 200
                (2, 4, 0.5, "rejected"),  # chance 1/3; 300 voxels against 1000
                (3, 4, 0.0, "rejected"),  # no evidence at all
                (4, 5, np.nan, "no score"),
            ]
        ),
        IDS,
        VOXELS,
    )
    assert found["kind"].tolist() == ["split", "merger", "split"]
    assert found["edge"].tolist() == [1, 0, 3]
    assert found["chance"].tolist() == pytest.approx([1 / 3, 1 / 4, UNKNOWN])
    saved = [bits(300, 1000), bits(100, 200), bits(30, 1000)]
    assert found["bits"].tolist() == pytest.approx([saved[0] / 3, saved[1] / 4, saved[2] * UNKNOWN])
    assert found["voxels"].tolist() == [300, 100, 30]
    assert found["object_a"].tolist() == [1, 1, 4]
    assert found["object_b"].tolist() == [4, 1, 5]


def test_ordered_by_chance_small_likely_errors_come_first():
    rows = [(1, 4, 0.2, "rejected"), (3, 5, 0.9, "rejected")]
    every = {by: suspects(graph(rows), IDS, VOXELS, by=by) for by in ("bits", "chance")}
    assert every["bits"]["edge"].tolist() == [0, 1]
    assert every["chance"]["edge"].tolist() == [1, 0]


def test_of_the_pairs_between_two_objects_only_the_likeliest_is_listed():
    rows = [
        (1, 2, 9.0, "accepted"),
        (1, 4, 0.2, "rejected"),
        (2, 4, 0.6, "guarded"),
        (3, 4, 0.1, "rejected"),
    ]
    found = suspects(graph(rows), IDS, VOXELS)
    assert found["edge"].tolist() == [2, 0, 3]
    assert found["pairs"].tolist() == [2, 1, 1]
    # what a person decided neither stands nor speaks for others
    known = np.array([False, False, True, False])
    found = suspects(graph(rows), IDS, VOXELS, decided=known)
    assert sorted(found["edge"].tolist()) == [0, 1, 3]
    assert found["pairs"].tolist() == [1, 1, 1]


def test_pairs_on_a_cycle_and_pairs_joined_by_others_are_no_suspects():
    cycle = [(1, 2, 2, "accepted"), (2, 3, 2, "accepted"), (1, 3, 2, "accepted")]
    assert len(suspects(graph(cycle), IDS, VOXELS)["edge"]) == 0
    cycle[2] = (1, 3, 0.9, "rejected")
    assert suspects(graph(cycle), IDS, VOXELS)["kind"].tolist() == ["merger", "merger"]


def test_no_edges_no_suspects():
    empty = {k: v[:0] for k, v in graph([(1, 2, 1, "accepted")]).items()}
    assert len(suspects(empty, IDS, VOXELS)["edge"]) == 0


@given(st.integers(0, 10_000))
def test_what_hangs_on_an_edge_equals_taking_it_away(seed):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 9)), int(rng.integers(1, 12))
    a, b = rng.integers(0, n, m), rng.integers(0, n, m)
    a, b = a[a != b], b[a != b]
    weight = rng.integers(1, 50, n)
    found = bridges(a, b, weight)
    whole = nx.MultiGraph()
    whole.add_nodes_from(range(n))
    whole.add_edges_from(zip(a.tolist(), b.tolist(), strict=True))
    for i in range(len(a)):
        without = nx.MultiGraph(whole)
        without.remove_edge(int(a[i]), int(b[i]))
        side = nx.node_connected_component(without, int(a[i]))
        if int(b[i]) in side:
            assert found[i] == 0
        else:
            other = nx.node_connected_component(without, int(b[i]))
            assert found[i] == min(weight[list(side)].sum(), weight[list(other)].sum())
