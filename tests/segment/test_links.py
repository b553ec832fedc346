"""Ids across blocks: packing, its bits and its limits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petavox.errors import BadInput
from petavox.segment.links import Links, block_of, local_of, pack
from petavox.segment.relabel import compact, relabelled


def test_an_id_is_block_times_two_to_the_24_plus_local():
    assert list(pack(3, np.array([0, 1, 7], np.uint32))) == [0, 3 * 2**24 + 1, 3 * 2**24 + 7]
    assert list(pack(0, np.array([5]))) == [5]


@given(st.integers(0, 2**29 - 1), st.integers(1, 2**24 - 1))
def test_packing_is_undone_and_stays_exact_in_a_double(block, local):
    ids = pack(block, np.array([local], np.uint32))
    assert (int(block_of(ids)[0]), int(local_of(ids)[0])) == (block, local)
    assert int(float(ids[0])) == int(ids[0])


def test_ids_order_as_blocks_then_locals():
    ids = [int(pack(b, np.array([n]))[0]) for b in (0, 1, 9) for n in (1, 2, 2**24 - 1)]
    assert ids == sorted(ids)


def test_what_does_not_fit_is_refused():
    with pytest.raises(BadInput, match="29 bits"):
        pack(2**29, np.array([1]))
    with pytest.raises(BadInput, match="more than 24 bits"):
        pack(1, np.array([2**24]))


def test_tables_join_in_order():
    one = Links(
        *(np.array([k], d) for k, d in zip(range(1, 8), Links.DTYPES.values(), strict=True))
    )
    both = Links.joined([one, Links.none(), one])
    assert len(both) == 2
    assert list(both.a) == [1, 1]
    assert one.share[0] == pytest.approx(4 / 5)


def test_relabelling_replaces_only_what_the_lookup_names():
    labels = np.array([[0, 5], [9, 2**40]], np.uint64)
    keys, values = np.array([5, 7, 2**40], np.uint64), np.array([1, 1, 3], np.uint64)
    assert relabelled(labels, keys, values).tolist() == [[0, 1], [9, 3]]
    assert relabelled(labels, keys[:0], values[:0]).tolist() == labels.tolist()


def test_compact_numbers_ids_in_ascending_order():
    local, ids = compact(np.array([[90, 0], [7, 90]], np.uint64))
    assert local.tolist() == [[2, 0], [1, 2]]
    assert ids.tolist() == [7, 90]
    local, ids = compact(np.array([4, 4]))
    assert local.tolist() == [1, 1]
