"""The consensus of two segmentations: tables worked out by hand, and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from petavox.cooccurrence import grouped
from petavox.errors import BadInput
from petavox.segment import parts as part_tables
from petavox.segment.consensus import consensus, consensus_ids
from petavox.segment.parts import Parts, added, parts_of, relabelled


def of(a, b, min_size=1):
    return consensus(np.array(a, np.uint64), np.array(b, np.uint64), min_size).tolist()


def test_every_pair_becomes_an_object_and_the_largest_part_keeps_the_id():
    a = [1, 1, 1, 1, 1, 2, 2, 0]
    b = [7, 7, 7, 8, 8, 8, 0, 8]
    # 2 meets 0 and 8 in one voxel each: the smaller b, nothing, keeps the id 2
    assert of(a, b) == [1, 1, 1, 3, 3, 4, 2, 0]


def test_nothing_in_b_is_a_partner_like_any_other():
    assert of([5, 5, 5, 5], [0, 0, 0, 3]) == [5, 5, 5, 6]
    assert of([5, 5, 5, 5], [0, 0, 0, 0]) == [5, 5, 5, 5]


def test_nothing_in_a_stays_nothing():
    assert of([0, 0, 0], [1, 2, 0]) == [0, 0, 0]


def test_a_merger_in_b_changes_nothing():
    assert of([1, 1, 2, 2], [9, 9, 9, 9]) == [1, 1, 2, 2]


def test_a_merger_in_a_is_cut_where_b_has_a_boundary():
    assert of([4, 4, 4, 4, 4], [1, 1, 1, 2, 2]) == [4, 4, 4, 5, 5]


def test_fragments_below_the_minimum_become_nothing_even_the_one_that_would_keep_the_id():
    assert of([1, 1, 1, 1, 1], [1, 1, 1, 2, 2], min_size=3) == [1, 1, 1, 0, 0]
    assert of([1, 1, 1, 1, 1], [1, 1, 1, 2, 2], min_size=4) == [0, 0, 0, 0, 0]
    # the third pair takes the first free id: what was dropped takes none
    assert of([1] * 6, [1, 1, 1, 2, 3, 3], min_size=2) == [1, 1, 1, 0, 2, 2]


def test_ids_beyond_what_doubles_hold_stay_exact():
    big = 2**63 + 1
    assert of([big, big, big], [1, 1, big]) == [big, big, big + 1]


def test_no_room_for_new_ids_is_an_error():
    with pytest.raises(BadInput, match="no room"):
        of([2**64 - 1] * 3, [1, 1, 2])


def test_other_shapes_are_refused():
    with pytest.raises(BadInput, match="same voxels"):
        consensus(np.ones((2, 3), np.uint64), np.ones((3, 2), np.uint64))


def test_voxels_that_the_table_does_not_know_are_refused():
    a, b = np.array([1, 1], np.uint64), np.array([2, 3], np.uint64)
    table = parts_of([a[:1], b[:1]])
    with pytest.raises(BadInput, match="not in the table"):
        relabelled([a, b], table, consensus_ids(table, 1))


def test_empty_arrays_give_empty_arrays():
    assert consensus(np.zeros((0, 3, 3), np.uint64), np.zeros((0, 3, 3), np.uint64)).shape[0] == 0


labels = arrays(np.uint64, (3, 4, 5), elements=st.integers(0, 4))


@given(labels, labels, st.integers(1, 6))
def test_each_object_lies_in_one_a_and_one_b_and_holds_all_of_their_meeting(a, b, least):
    out = consensus(a, b, least)
    for i in np.unique(out[out > 0]):
        mine = out == i
        in_a, in_b = np.unique(a[mine]), np.unique(b[mine])
        assert len(in_a) == len(in_b) == 1
        assert in_a[0] > 0
        assert np.array_equal(mine, (a == in_a[0]) & (b == in_b[0]))
        assert mine.sum() >= least
    for i in np.unique(a[a > 0]):
        for j in np.unique(b):
            meet = (a == i) & (b == j)
            if meet.sum() >= least:
                assert len(np.unique(out[meet])) == 1
                assert out[meet][0] > 0
            else:
                assert not out[meet].any()


@given(labels)
def test_the_consensus_with_itself_is_itself(a):
    assert np.array_equal(consensus(a, a, 1), a)


@given(labels, labels, st.integers(1, 4))
def test_a_second_consensus_with_the_same_changes_nothing(a, b, least):
    once = consensus(a, b, least)
    assert np.array_equal(consensus(once, b, least), once)


@given(labels, labels, st.integers(0, 3), st.integers(0, 5))
def test_tables_of_blocks_add_up_to_the_table_of_the_volume(a, b, z, x):
    cuts = [(slice(0, z), slice(None)), (slice(z, 3), slice(0, x)), (slice(z, 3), slice(x, 5))]
    parts = [parts_of([a[s, :, t], b[s, :, t]]) for s, t in cuts]
    whole, summed = parts_of([a, b]), added(parts[::-1])
    for name in ("labels", "voxels"):
        assert np.array_equal(getattr(whole, name), getattr(summed, name))
    ids = consensus_ids(summed, 2)
    out = np.zeros(a.shape, np.uint64)
    for s, t in cuts:
        out[s, :, t] = relabelled([a[s, :, t], b[s, :, t]], summed, ids)
    assert np.array_equal(out, consensus(a, b, 2))


@given(
    arrays(np.uint64, (6, 6), elements=st.integers(0, 3)),
    arrays(np.uint64, (6, 6), elements=st.integers(2**64 - 3, 2**64 - 1)),
)
def test_parts_of_a_block_are_found_in_the_table_of_the_whole(a, b):
    parts = parts_of([a, b, a])
    ids = np.arange(len(parts), dtype=np.uint64)
    place = {tuple(row): i for i, row in enumerate(parts.labels.tolist())}
    out = relabelled([a[2:4], b[2:4], a[2:4]], parts, ids)
    rows = zip(a[2:4].ravel().tolist(), b[2:4].ravel().tolist(), strict=True)
    assert out.ravel().tolist() == [place[x, y, x] for x, y in rows]


def test_a_block_does_not_sort_the_table_of_the_whole(monkeypatch):
    """What is sorted is of the size of the block."""
    n = 5000
    ids = np.arange(1, n + 1, dtype=np.uint64)
    table, block = Parts(np.stack([ids, ids], 1), np.ones(n, np.int64)), ids[7:9]
    seen = []

    def sorting(keys):
        seen.append(len(keys[0]))
        return grouped(keys)

    monkeypatch.setattr(part_tables, "grouped", sorting)
    assert relabelled([block, block], table, ids).tolist() == [8, 9]
    assert max(seen) == 2
