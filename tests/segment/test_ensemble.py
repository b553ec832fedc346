"""The ensemble of several segmentations: worked out by hand, and what must always hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from petavox.errors import BadInput
from petavox.segment import linkage as linkages
from petavox.segment.consensus import consensus
from petavox.segment.ensemble import clustered, ensemble, held_together
from petavox.segment.linkage import PARTNERS, Linkage
from petavox.segment.parts import Parts, added, parts_of, relabelled


def of(*passes, share=0.5, least=1, min_size=1):
    arrays_ = [np.array(p, np.uint64) for p in passes]
    return ensemble(arrays_, share=share, least=least, min_size=min_size).tolist()


def test_parts_are_joined_that_most_passes_hold_together():
    # all together in the second, 3 of 4 in the first: the last shares 0, 1 and 1/3 with the others
    assert of([1, 1, 1, 2], [5, 5, 5, 5], [8, 8, 9, 9], share=0.5) == [1, 1, 1, 2]
    assert of([1, 1, 1, 2], [5, 5, 5, 5], [8, 8, 9, 9], share=0.4) == [1, 1, 1, 1]
    assert of([1, 1, 2, 2], [5, 5, 5, 5], [8, 8, 9, 9], share=0.5) == [1, 1, 2, 2]


def test_a_low_share_joins_what_one_pass_joined():
    assert of([1, 1, 2, 2], [5, 5, 5, 5], [8, 8, 9, 9], share=0.1) == [1, 1, 1, 1]


def test_a_pass_without_an_object_has_no_vote():
    # the first pass alone labels both parts
    assert of([1, 1, 1, 1], [5, 5, 0, 0], share=0.9) == [1, 1, 1, 1]


def test_a_chain_is_stopped_by_what_the_clusters_as_a_whole_say():
    first = [1] * 4 + [1] * 4 + [2] * 4
    second = [5] * 4 + [6] * 4 + [6] * 4
    # two parts share a label in one pass of two each; the ends share none
    assert of(first, second, share=0.4) == [1] * 8 + [2] * 4
    # what the joined cluster shares with the third part: half of 8 voxels, in one pass of two
    assert of(first, second, share=0.2) == [1] * 12


def test_voxels_that_few_label_are_nothing():
    assert of([1, 1, 1], [7, 0, 7], [3, 0, 0], least=2) == [1, 0, 1]


def test_small_parts_and_small_objects_are_nothing():
    assert of([1, 1, 1, 2], [5, 5, 5, 6], min_size=2) == [1, 1, 1, 0]


def test_other_shapes_and_too_few_passes_are_refused():
    with pytest.raises(BadInput, match="same voxels"):
        of([1, 1], [1])
    with pytest.raises(BadInput, match="two segmentations or more"):
        of([1, 1])


def test_voxels_of_other_passes_are_refused():
    a = np.array([1, 2], np.uint64)
    with pytest.raises(BadInput, match="not in the table"):
        relabelled([a, a], parts_of([a[:1], a[:1]]), np.ones(1, np.uint64))
    with pytest.raises(BadInput, match="of 2 segmentations"):
        relabelled([a, a, a], parts_of([a, a]), np.ones(2, np.uint64))


def test_what_a_pass_held_together_and_the_ensemble_did_not_is_counted():
    first = np.array([1] * 5 + [2] * 4, np.uint64)
    second = np.array([1] * 6 + [2] * 3, np.uint64)
    parts = parts_of([first, second])
    ids = clustered(parts, share=0.9, least=1, min_size=1)
    assert ids.tolist() == [1, 2, 3]
    # 5 and 1 voxels of the second's object 1; 1 and 3 of the first's object 2
    a, b, voxels = held_together(parts, ids)
    assert list(zip(a, b, voxels, strict=True)) == [(1, 2, 1), (2, 3, 1)]


def merger(n):
    """One object of the first pass over n objects of the second; n + 1, n + 2, ... voxels."""
    both = np.stack([np.full(n, 1), np.arange(1, n + 1)], 1).astype(np.uint64)
    return Parts(both, np.arange(n + 1, 2 * n + 1))


def test_a_merger_tells_of_the_pairs_with_its_largest_objects(monkeypatch):
    monkeypatch.setattr(linkages, "PARTNERS", 2)
    found = held_together(merger(5), np.arange(1, 6, dtype=np.uint64))
    # 4 and 5 are the largest; a pair counts by the smaller of the two
    pairs = [(1, 4, 6), (1, 5, 6), (2, 4, 7), (2, 5, 7), (3, 4, 8), (3, 5, 8), (4, 5, 9)]
    assert list(zip(*(v.tolist() for v in found), strict=True)) == pairs


def test_a_merger_over_many_objects_is_not_all_pairs_of_them():
    n = 1500
    found = held_together(merger(n), np.arange(1, n + 1, dtype=np.uint64))
    assert len(found[0]) < PARTNERS * n
    assert clustered(merger(n), share=0.6, least=1, min_size=1).max() == n
    linkage = Linkage(merger(n).labels, merger(n).voxels, 0.6)
    assert sum(map(len, linkage.near)) < 2 * PARTNERS * n


@pytest.mark.parametrize("share", [0.1, 0.34, 0.6])
def test_parts_of_a_merger_over_many_objects_are_joined_all_the_same(share):
    out = clustered(merger(200), share=share, least=1, min_size=1)
    assert len(np.unique(out)) == (200 if share == 0.6 else 1)


labels = arrays(np.uint64, (3, 4, 5), elements=st.integers(0, 4))
shares = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7])


@given(labels, labels, labels, shares, st.integers(1, 3))
def test_an_object_is_a_union_of_parts_and_every_label_of_enough_passes_is_kept(
    a, b, c, share, least
):
    out = ensemble([a, b, c], share=share, least=least, min_size=1)
    votes = (a > 0).astype(int) + (b > 0) + (c > 0)
    assert np.array_equal(out > 0, votes >= least)
    rows = np.stack([a.ravel(), b.ravel(), c.ravel(), out.ravel()], 1)
    kinds = np.unique(rows, axis=0)
    assert len(np.unique(kinds[:, :3], axis=0)) == len(kinds)


@given(labels, labels)
def test_a_share_that_none_reaches_is_the_consensus_where_both_label(a, b):
    both = (a > 0) & (b > 0)
    out = ensemble([a, b], share=0.5, least=2, min_size=1)
    agreed = np.where(both, consensus(a, b, 1), 0)
    pairs = np.unique(np.stack([out.ravel(), agreed.ravel()], 1), axis=0)
    assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs)


@given(labels, shares)
def test_passes_that_agree_are_left_as_they_are(a, share):
    out = ensemble([a, a, a], share=share, min_size=1)
    pairs = np.unique(np.stack([out.ravel(), a.ravel()], 1), axis=0)
    assert len(pairs) == len(np.unique(a))


@given(labels, labels, labels, shares, st.integers(0, 3), st.integers(0, 5))
def test_blocks_give_the_ensemble_of_the_whole(a, b, c, share, z, x):
    cuts = [(slice(0, z), slice(None)), (slice(z, 3), slice(0, x)), (slice(z, 3), slice(x, 5))]
    pieces = [[p[s, :, t] for p in (a, b, c)] for s, t in cuts]
    parts = added([parts_of(piece) for piece in pieces[::-1]])
    ids = clustered(parts, share=share, least=1, min_size=2)
    out = np.zeros(a.shape, np.uint64)
    for (s, t), piece in zip(cuts, pieces, strict=True):
        out[s, :, t] = relabelled(piece, parts, ids)
    assert np.array_equal(out, ensemble([a, b, c], share=share, min_size=2))


@given(labels, labels, labels, shares)
def test_every_join_is_by_average_linkage(a, b, c, share):
    """No two objects are left that share more than the share, by voxels counted one by one."""
    out = ensemble([a, b, c], share=share, min_size=1)
    ids = [i for i in np.unique(out) if i]
    for n, i in enumerate(ids):
        for k in ids[n + 1 :]:
            shares_ = []
            for p in (a, b, c):
                one, other = (p[(out == o) & (p > 0)] for o in (i, k))
                if len(one) and len(other):
                    shares_.append((one[:, None] == other[None]).mean())
            if any(shares_):
                assert np.mean(shares_) <= share + 1e-12
