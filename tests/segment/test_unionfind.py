"""Union-find against an independent one (plain Python), whole and partitioned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petavox.errors import BadInput
from petavox.segment.unionfind import PartitionedUnion, components, look_up


def oracle(pairs: list[tuple[int, int]]) -> dict[int, int]:
    """Smallest member of each id's component, by repeated relaxation."""
    root = {i: i for p in pairs for i in p}
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            low = min(root[a], root[b])
            if root[a] != low or root[b] != low:
                root[a] = root[b] = low
                changed = True
    return root


def arrays(pairs):
    both = np.array(pairs, np.uint64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def test_a_chain_a_pair_and_a_self_link():
    ids, roots = components(*arrays([(5, 9), (9, 7), (2, 3), (4, 4)]))
    assert dict(zip(ids.tolist(), roots.tolist(), strict=True)) == {
        2: 2,
        3: 2,
        4: 4,
        5: 5,
        7: 5,
        9: 5,
    }


def test_no_links_give_nothing():
    ids, roots = components(*arrays([]))
    assert len(ids) == len(roots) == 0


def test_look_up_leaves_unknown_ids():
    keys, values = np.array([3, 5], np.uint64), np.array([1, 2], np.uint64)
    assert look_up(np.array([5, 4, 3, 99], np.uint64), keys, values).tolist() == [2, 4, 1, 99]


# ids in a few clusters far apart, so links lie at every level of the partition
ids = st.integers(0, 5).flatmap(
    lambda k: st.integers(1, 40).map(lambda v: v + k * (1 << (4 + 5 * k)))
)
links = st.lists(st.tuples(ids, ids), max_size=60)


@given(links, st.integers(2, 9), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_partitioned_equals_the_oracle_in_any_order_and_any_pieces(
    tmp_path_factory, pairs, span_bits, random
):
    expected = oracle(pairs)
    shuffled = [(b, a) if random.random() < 0.5 else (a, b) for a, b in pairs]
    random.shuffle(shuffled)
    union = PartitionedUnion(tmp_path_factory.mktemp("union"), span_bits=span_bits)
    cut = random.randint(0, len(shuffled))
    union.add(*arrays(shuffled[:cut]))
    union.add(*arrays(shuffled[cut:]))
    union.solve()
    every = np.array(sorted(expected), np.uint64)
    assert union.find(every).tolist() == [expected[i] for i in sorted(expected)]
    changed = {i: r for i, r in expected.items() if i != r}
    found = [(k.tolist(), v.tolist()) for k, v in union.lookups()]
    keys = [i for k, _ in found for i in k]
    assert keys == sorted(changed)
    assert [r for _, v in found for r in v] == [changed[i] for i in keys]
    union.close()


def test_a_long_chain_over_many_ranges_has_one_root(tmp_path):
    union = PartitionedUnion(tmp_path / "u", span_bits=3)
    n = 5000
    a = np.arange(1, n, dtype=np.uint64)
    union.add(a, a + np.uint64(1))
    union.solve()
    assert set(union.find(np.arange(1, n + 1, dtype=np.uint64)).tolist()) == {1}


def test_more_links_in_a_range_than_allowed_is_refused(tmp_path):
    union = PartitionedUnion(tmp_path / "u", span_bits=20, max_links=3)
    union.add(*arrays([(1, 2), (2, 3), (3, 4), (5, 6)]))
    with pytest.raises(BadInput, match="more than max_links 3: lower span_bits from 20"):
        union.solve()


def test_the_id_zero_is_refused(tmp_path):
    union = PartitionedUnion(tmp_path / "u")
    with pytest.raises(BadInput, match="id 0"):
        union.add(*arrays([(0, 2)]))


def test_close_removes_the_files(tmp_path):
    union = PartitionedUnion(tmp_path / "u")
    union.add(*arrays([(1, 2)]))
    union.close()
    assert not (tmp_path / "u").exists()


def test_ids_of_all_64_bits_are_found(tmp_path):
    large = 2**63 + 7
    union = PartitionedUnion(tmp_path / "u")
    union.add(np.array([5, 9, large], np.uint64), np.array([large, large, 2**64 - 1], np.uint64))
    union.solve()
    asked = np.array([5, 9, large, 2**64 - 1, 2**63], np.uint64)
    assert union.find(asked).tolist() == [5, 5, 5, 5, 2**63]
    found = [(ids.tolist(), roots.tolist()) for ids, roots in union.lookups()]
    assert found == [([9], [5]), ([large], [5]), ([2**64 - 1], [5])]
