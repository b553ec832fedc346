"""Synapse detection, partners and edges, against brute force and worked by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from petavox.errors import BadInput
from petavox.score.synapses import detection, edge_scores, match, partner_accuracy

POINTS = st.integers(0, 5).flatmap(
    lambda n: hnp.arrays(np.float64, (n, 3), elements=st.integers(0, 300).map(float))
)


def best_by_brute_force(a, b, within):
    """(matches, distance) of the best matching, trying all."""
    if len(a) > len(b):
        a, b = b, a
    best = (0, 0.0)
    for chosen in itertools.product([None, *range(len(b))], repeat=len(a)):
        used = [c for c in chosen if c is not None]
        if len(used) != len(set(used)):
            continue
        far = [math.dist(a[i], b[c]) for i, c in enumerate(chosen) if c is not None]
        if all(d <= within for d in far):
            best = min(best, (-len(far), sum(far)))
    return -best[0], best[1]


@given(POINTS, POINTS)
def test_matching_is_the_best_there_is(a, b):
    got = match(a, b, within=200.0)
    count, distance = best_by_brute_force(a[:4], b, 200.0) if len(a) <= 4 else (None, None)
    assert len(set(got[:, 0])) == len(set(got[:, 1])) == len(got)
    far = np.linalg.norm(a[got[:, 0]] - b[got[:, 1]], axis=1) if len(got) else np.zeros(0)
    assert (far <= 200.0).all()
    if count is not None:
        assert len(got) == count
        assert far.sum() == pytest.approx(distance)


def test_one_detection_cannot_serve_two_synapses():
    got = detection(np.array([[0, 0, 0.0]]), np.array([[0, 0, 10.0], [0, 0, 20.0]]))
    assert (got.precision, got.recall) == (1.0, 0.5)
    assert got.f1 == pytest.approx(2 / 3)
    assert got.matches.tolist() == [[0, 0]]


def test_matching_prefers_more_pairs_to_the_nearest_pair():
    # greedy would join 1-0 (10 nm) and leave 0 alone: its only partner is truth 0
    result = np.array([[0, 0, 0.0], [0, 0, 160.0]])
    truth = np.array([[0, 0, 150.0], [0, 0, 350.0]])
    assert match(result, truth, within=200.0).tolist() == [[0, 0], [1, 1]]


def test_beyond_the_distance_nothing_matches():
    got = detection(np.array([[0, 0, 0.0]]), np.array([[0, 0, 200.5]]))
    assert (got.precision, got.recall, got.f1) == (0.0, 0.0, 0.0)


def test_no_detection_has_no_precision():
    got = detection(np.zeros((0, 3)), np.zeros((2, 3)))
    assert math.isnan(got.precision)
    assert got.recall == 0.0


def test_partner_accuracy_counts_pre_post_and_both():
    matches = np.array([[0, 1], [1, 0], [2, 2]])
    result = np.array([[1, 2], [3, 9], [0, 6]])
    truth = np.array([[3, 4], [1, 2], [0, 6]])
    assert partner_accuracy(matches, result, truth) == pytest.approx((2 / 3, 2 / 3, 1 / 3))


def test_edges_weighted_and_not():
    result, truth = {(1, 2): 3, (1, 3): 1}, {(1, 2): 5, (2, 3): 1}
    got = edge_scores(result, truth, weighted=False)
    assert got == (0.5, 0.5, 0.5)
    got = edge_scores(result, truth, weighted=True)
    assert got == pytest.approx((3 / 4, 3 / 6, 6 / 10))


def test_negative_weights_and_bad_distances_are_refused():
    with pytest.raises(BadInput, match="negative"):
        edge_scores({(1, 2): -1}, {}, weighted=True)
    with pytest.raises(BadInput, match="positive"):
        match(np.zeros((1, 3)), np.zeros((1, 3)), within=0.0)
