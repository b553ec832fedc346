"""Minimum cuts worked out by hand and against networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from petavox.errors import BadInput
from petavox.segment.agglomeration import final_of
from petavox.segment.edits import min_cut


def cut(rows, these, those):
    a, b, strength = zip(*rows, strict=True)
    return min_cut(
        np.array(a, np.uint64), np.array(b, np.uint64), np.array(strength), these, those
    ).tolist()


def test_a_chain_is_cut_at_its_weakest_link():
    chain = [(1, 2, 5.0), (2, 3, 1.5), (3, 4, 4.0)]
    assert cut(chain, [1], [4]) == [False, True, False]


def test_a_cycle_is_cut_twice():
    ring = [(1, 2, 5.0), (2, 3, 1.5), (3, 4, 4.0), (1, 4, 1.2)]
    assert cut(ring, [1], [3]) == [False, True, False, True]


def test_several_ids_of_a_side_stay_on_it():
    chain = [(1, 2, 1.0), (2, 3, 9.0), (3, 4, 2.0)]
    assert cut(chain, [1, 3], [4]) == [False, False, True]


def test_other_objects_are_not_touched():
    rows = [(1, 2, 2.0), (8, 9, 0.1)]
    assert cut(rows, [1], [2]) == [True, False]


def test_ids_beyond_what_doubles_hold_are_told_apart():
    big = 2**63
    assert cut([(big, big + 1, 2.0)], [big], [big + 1]) == [True]


def test_more_strong_paths_than_one_capacity_holds_are_all_cut():
    middle = np.arange(10, 1110)
    rows = [(1, m, 1000.0) for m in middle] + [(m, 5000, 999.0) for m in middle]
    assert cut(rows, [1], [5000]) == [False] * 1100 + [True] * 1100


def test_many_strong_edges_of_a_side_to_one_object_count_together():
    """The 1500 edges to 2000 are stronger than the one behind it."""
    side = list(range(1, 1501))
    rows = [(i, 2000, 1000.0) for i in side] + [(2000, 3000, 1000.0)]
    assert cut(rows, side, [3000]) == [False] * 1500 + [True]


def test_splits_that_mean_nothing_are_refused():
    with pytest.raises(BadInput, match="different objects already"):
        cut([(1, 2, 2.0), (8, 9, 0.1)], [1], [9])
    with pytest.raises(BadInput, match="share the object"):
        cut([(1, 2, 2.0)], [1], [1, 2])


@given(st.integers(0, 10_000))
def test_the_cut_is_as_cheap_as_networkx_finds_and_parts_the_sides(seed):
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(2, 8)), int(rng.integers(1, 14))
    a, b = rng.integers(1, n + 1, m), rng.integers(1, n + 1, m)
    keep = a != b
    a, b, strength = a[keep], b[keep], rng.integers(1, 20, keep.sum()).astype(float)
    graph = nx.Graph()
    graph.add_nodes_from(range(1, n + 1))
    for i, j, s in zip(a.tolist(), b.tolist(), strength.tolist(), strict=True):
        before = graph.edges[i, j]["capacity"] if graph.has_edge(i, j) else 0
        graph.add_edge(i, j, capacity=before + s)
    assume(nx.has_path(graph, 1, n))
    found = min_cut(a.astype(np.uint64), b.astype(np.uint64), strength, [1], [n])
    assert strength[found].sum() == pytest.approx(nx.minimum_cut_value(graph, 1, n))
    ends = final_of(
        np.array([1, n], np.uint64), a[~found].astype(np.uint64), b[~found].astype(np.uint64)
    )
    assert ends[0] != ends[1]
