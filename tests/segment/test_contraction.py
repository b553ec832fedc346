"""The guard of topology: worked out by hand, and against trying all partitions."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from petavox.segment.contraction import contracted
from petavox.segment.unionfind import components


def inside(*pairs):
    a, b, w = zip(*pairs, strict=True)
    return contracted(np.array(a, np.uint64), np.array(b, np.uint64), np.array(w, float)).tolist()


def test_a_pair_that_speaks_against_keeps_a_chain_apart():
    assert inside((1, 2, 2.0), (2, 3, 1.0), (1, 3, -3.0)) == [True, False, False]
    assert inside((1, 2, 2.0), (2, 3, 1.0), (1, 3, -0.5)) == [True, True, False]


def test_two_weak_pairs_together_outweigh_one_against():
    # 1-2 and 3-4 join first; between the two clusters 0.6 + 0.6 - 1 is above 0
    pairs = [(1, 2, 5.0), (3, 4, 5.0), (1, 3, 0.6), (2, 4, 0.6), (1, 4, -1.0)]
    assert inside(*pairs) == [True, True, True, True, False]


def test_without_pairs_against_all_likely_ones_are_joined():
    assert inside((9, 4, 0.1), (4, 7, 3.0), (7, 1, -2.0), (7, 2, 0.0)) == [True, True, False, False]


def test_nothing_in_nothing_out():
    none = np.zeros(0, np.uint64)
    assert contracted(none, none, np.zeros(0)).tolist() == []


pairs = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(-9, 9)), min_size=1, max_size=12
).map(lambda rows: list({frozenset(r[:2]): (*r[:2], r[2]) for r in rows if r[0] != r[1]}.values()))


@given(pairs.filter(bool))
def test_every_cluster_holds_together_and_no_two_would_gain_by_joining(rows):
    a, b, w = (np.array(v) for v in zip(*rows, strict=True))
    ok = contracted(a.astype(np.uint64), b.astype(np.uint64), w + 0.001)
    assert (w[ok] >= 0).all()
    ids, roots = components(a[ok].astype(np.uint64), b[ok].astype(np.uint64))
    root = {int(i): int(i) for i in [*a, *b]} | dict(zip(ids.tolist(), roots.tolist(), strict=True))
    between: dict[tuple[int, int], float] = {}
    for i, k, v in zip(a.tolist(), b.tolist(), w.tolist(), strict=True):
        key = tuple(sorted((root[i], root[k])))
        between[key] = between.get(key, 0.0) + v + 0.001
    for i, k in itertools.combinations(set(root.values()), 2):
        assert between.get(tuple(sorted((i, k))), 0.0) <= 1e-9


@given(pairs.filter(bool), st.randoms(use_true_random=False))
def test_the_order_of_pairs_does_not_matter(rows, random):
    mixed = list(rows)
    random.shuffle(mixed)
    joined = [{r[:2] for r, ok in zip(x, inside(*x), strict=True) if ok} for x in (rows, mixed)]
    assert joined[0] == joined[1]
