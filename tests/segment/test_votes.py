"""Votes of a face against tables worked out by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from petavox.errors import BadInput
from petavox.segment.votes import Rule, contingency, decide, partners, touching


def linked(a, b, **rule):
    links = decide(contingency(np.array(a), np.array(b)), Rule(**rule), axis=2)
    a, b = links.a[links.accepted], links.b[links.accepted]
    return {(int(x), int(y)) for x, y in zip(a, b, strict=True)}


def test_a_table_worked_out_by_hand():
    a = np.array([[1, 1, 1, 0], [2, 2, 0, 0]])
    b = np.array([[7, 7, 0, 7], [7, 8, 8, 0]])
    t = contingency(a, b)
    rows = list(zip(t.a, t.b, t.overlap, t.size_a, t.size_b, strict=True))
    assert rows == [(1, 7, 2, 3, 4), (2, 7, 1, 2, 4), (2, 8, 1, 2, 2)]


def test_objects_that_are_each_others_largest_partner_are_linked():
    assert linked([1, 1, 1, 2, 2], [5, 5, 5, 6, 6]) == {(1, 5), (2, 6)}


def test_a_merger_on_one_side_joins_only_its_largest_part():
    # 9 covers 1 (three voxels) and 2 (two): 2's best is 9, but 9's best is 1
    assert linked([1, 1, 1, 2, 2], [9, 9, 9, 9, 9]) == {(1, 9)}
    assert linked([1, 1, 1, 2, 2], [9, 9, 9, 9, 9], mutual=False) == {(1, 9), (2, 9)}


def test_a_small_share_is_not_enough():
    a, b = [1] * 10 + [0] * 6, [0] * 6 + [3] * 10
    assert linked(a, b, share=0.5) == set()  # 4 of 10
    assert linked(a, b, share=0.4) == {(1, 3)}


def test_a_small_overlap_is_not_enough():
    assert linked([1, 1], [2, 2], min_overlap=3) == set()
    assert linked([1, 1], [2, 2], min_overlap=2) == {(1, 2)}


def test_ties_go_to_the_smaller_id():
    assert linked([4, 4], [8, 9]) == {(4, 8)}
    assert linked([8, 9], [4, 4]) == {(8, 4)}


def test_nothing_is_no_partner():
    assert linked([0, 0, 1], [5, 0, 0]) == set()
    assert len(contingency(np.zeros((2, 3), int), np.ones((2, 3), int)).a) == 0
    assert len(contingency(np.zeros((0, 3), int), np.ones((0, 3), int)).a) == 0


def test_labels_of_different_shapes_are_refused():
    with pytest.raises(BadInput, match="not of the same voxels"):
        contingency(np.zeros((2, 3)), np.zeros((3, 2)))


def test_large_ids_do_not_collide():
    big = np.array([2**53 - 1, 2**53 - 2], np.uint64)
    t = contingency(big, big[::-1])
    assert list(t.a) == [2**53 - 2, 2**53 - 1]
    assert list(t.b) == [2**53 - 1, 2**53 - 2]


labels = arrays(np.uint32, (3, 4, 5), elements=st.integers(0, 4))


@given(labels, labels)
@settings(max_examples=60, deadline=None)
def test_the_table_equals_counting(a, b):
    t = contingency(a, b)
    found = {(int(i), int(j)): int(n) for i, j, n in zip(t.a, t.b, t.overlap, strict=True)}
    expected: dict[tuple[int, int], int] = {}
    for i, j in zip(a.ravel().tolist(), b.ravel().tolist(), strict=True):
        if i and j:
            expected[i, j] = expected.get((i, j), 0) + 1
    assert found == expected
    assert all((a == i).sum() == n for i, n in zip(t.a, t.size_a, strict=True))
    assert all((b == j).sum() == n for j, n in zip(t.b, t.size_b, strict=True))


@given(labels, labels, st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_links_are_one_to_one_and_do_not_depend_on_which_side_is_called_a(a, b, share):
    rule = Rule(share=share)
    one, other = decide(contingency(a, b), rule, 0), decide(contingency(b, a), rule, 0)
    pairs = list(zip(one.a[one.accepted], one.b[one.accepted], strict=True))
    back = list(zip(other.b[other.accepted], other.a[other.accepted], strict=True))
    assert sorted(pairs) == sorted(back)
    assert len({p[0] for p in pairs}) == len(pairs) == len({p[1] for p in pairs})


def test_touching_counts_voxels_of_the_plane():
    plane = np.array([[0, 3, 3], [5, 3, 0]])
    assert list(touching(plane, min_voxels=1)) == [3, 5]
    assert list(touching(plane, min_voxels=2)) == [3]
    assert list(touching(np.zeros((2, 2), int), min_voxels=1)) == []


def test_what_lies_almost_whole_in_another_is_linked_beside_the_largest_partner():
    a = [1] * 6 + [2] * 4 + [3, 3]
    b = [9] * 9 + [0] + [9, 8]
    # 2 lies to three quarters in 9, 3 to one half in 9 and to one half in 8
    assert linked(a, b) == {(1, 9), (3, 8)}
    assert linked(a, b, inside=0.75) == {(1, 9), (2, 9), (3, 8)}
    assert linked(a, b, inside=0.75, min_inside=4) == {(1, 9), (3, 8)}


def test_the_largest_partner_of_each_id():
    table = contingency(np.array([1, 1, 1, 2, 2, 0]), np.array([5, 6, 6, 6, 0, 7]))
    ids = np.array([2, 1, 4], np.uint64)
    assert partners(ids, table.a, table.b, table.overlap).tolist() == [6, 6, 0]
    assert partners(np.array([7, 6], np.uint64), table.b, table.a, table.overlap).tolist() == [0, 1]
    nothing = contingency(np.zeros(2, int), np.zeros(2, int))
    assert partners(ids, nothing.a, nothing.b, nothing.overlap).tolist() == [0, 0, 0]
