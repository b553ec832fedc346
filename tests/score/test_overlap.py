"""Pair tables and the scores on them, against scikit-image and worked by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.metrics import adapted_rand_error
from skimage.metrics import variation_of_information as sk_vi

from petavox.errors import BadInput
from petavox.score import overlap
from petavox.score.pairs import EMPTY, Adder, added, pair_table

SMALL = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)


@st.composite
def two_labelings(draw, lowest=0):
    shape = draw(SMALL)
    ids = st.integers(lowest, 5)
    a = draw(hnp.arrays(np.uint64, shape, elements=ids))
    t = draw(hnp.arrays(np.uint64, shape, elements=ids))
    return a, t


def by_dictionary(a, t):
    counts = {}
    for pair in zip(a.ravel().tolist(), t.ravel().tolist(), strict=True):
        counts[pair] = counts.get(pair, 0) + 1
    return counts


def as_dictionary(table):
    return {
        (int(i), int(j)): int(n)
        for i, j, n in zip(table.result, table.truth, table.voxels, strict=True)
    }


@given(two_labelings())
def test_table_counts_every_pair(pair):
    table = pair_table(*pair)
    assert as_dictionary(table) == by_dictionary(*pair)
    keys = list(as_dictionary(table))
    assert keys == sorted(keys)


@given(two_labelings(), st.integers(1, 6), st.randoms())
def test_tables_of_blocks_add_up_to_the_table_of_the_whole(pair, step, random):
    a, t = pair
    blocks = [
        tuple(slice(i, i + step) for i in corner)
        for corner in itertools.product(*(range(0, n, step) for n in a.shape))
    ]
    random.shuffle(blocks)
    adder = Adder(spare=3)
    for block in blocks:
        adder.add(pair_table(a[block], t[block]))
    for sum_ in (adder.sum(), added(pair_table(a[b], t[b]) for b in blocks)):
        assert as_dictionary(sum_) == by_dictionary(a, t)


def test_ids_up_to_the_largest_uint64_are_kept_apart():
    top = 2**64 - 1
    a = np.array([top, top, top - 1, 2**53 + 1, 2**53], np.uint64)
    table = pair_table(a, np.array([top, top - 1, top, 1, 1], np.uint64))
    assert as_dictionary(table) == {
        (top, top): 1,
        (top, top - 1): 1,
        (top - 1, top): 1,
        (2**53 + 1, 1): 1,
        (2**53, 1): 1,
    }


def test_mask_leaves_voxels_out():
    a, t = np.array([1, 1, 2]), np.array([3, 3, 3])
    table = pair_table(a, t, np.array([False, True, True]))
    assert as_dictionary(table) == {(1, 3): 1, (2, 3): 1}


@pytest.mark.parametrize(
    ("a", "t", "word"),
    [
        (np.zeros(3, np.float32), np.zeros(3, int), "float32"),
        (np.array([-1]), np.array([1]), "negative"),
        (np.zeros(3, int), np.zeros(4, int), "shape"),
    ],
)
def test_what_is_no_labeling_is_refused(a, t, word):
    with pytest.raises(BadInput, match=word):
        pair_table(a, t)


@given(two_labelings(lowest=1))
@settings(max_examples=200)
def test_vi_and_adapted_rand_equal_scikit_image(pair):
    a, t = pair
    table = pair_table(a, t)
    vi = overlap.variation_of_information(table)
    # scikit-image: H(second | first), H(first | second)
    split, merge = sk_vi(t.astype(int), a.astype(int))
    assert vi.split == pytest.approx(split, abs=1e-9)
    assert vi.merge == pytest.approx(merge, abs=1e-9)
    rand = overlap.adapted_rand(table)
    with np.errstate(all="ignore"):
        error, precision, recall = adapted_rand_error(t.astype(int), a.astype(int))
    if math.isfinite(error):
        assert rand.error == pytest.approx(error, abs=1e-9)
    if math.isfinite(precision) and math.isfinite(recall):
        assert {round(rand.precision, 9), round(rand.recall, 9)} == {
            round(float(precision), 9),
            round(float(recall), 9),
        }


@given(two_labelings())
def test_labelled_domain_equals_scikit_image_on_masked_voxels(pair):
    a, t = pair
    both = (a > 0) & (t > 0)
    vi = overlap.variation_of_information(pair_table(a, t).labelled())
    if not both.any():
        assert math.isnan(vi.total)
        return
    split, merge = sk_vi(t[both].astype(int), a[both].astype(int))
    assert vi == pytest.approx((split, merge), abs=1e-9)


@given(two_labelings(lowest=1))
def test_vi_is_symmetric_and_zero_only_for_equal_partitions(pair):
    a, t = pair
    one, other = (
        overlap.variation_of_information(pair_table(a, t)),
        overlap.variation_of_information(pair_table(t, a)),
    )
    assert one.split == pytest.approx(other.merge)
    table = pair_table(a, t)
    same = len(table) == len(np.unique(a)) == len(np.unique(t))
    assert (one.total == 0) == same


def test_a_body_in_four_equal_parts_costs_two_bits_of_split_and_no_merge():
    vi = overlap.variation_of_information(pair_table(np.arange(1, 5), np.full(4, 9)))
    assert vi == (2.0, 0.0)


def test_two_equal_bodies_in_one_object_cost_one_bit_of_merge():
    vi = overlap.variation_of_information(pair_table(np.full(8, 3), np.repeat([1, 2], 4)))
    assert vi == (0.0, 1.0)


def test_merging_lowers_precision_and_splitting_lowers_recall():
    merged = overlap.adapted_rand(pair_table(np.full(4, 1), np.array([1, 1, 2, 2])))
    # of 4 * 3 ordered pairs in one object, 2 + 2 are in one body
    assert (merged.precision, merged.recall) == (pytest.approx(4 / 12), 1.0)
    split = overlap.adapted_rand(pair_table(np.array([1, 1, 2, 2]), np.full(4, 1)))
    assert (split.precision, split.recall) == (1.0, pytest.approx(4 / 12))
    assert split.error == pytest.approx(1 - 2 * 4 / 16)


def test_only_single_voxels_on_both_sides_is_no_error():
    rand = overlap.adapted_rand(pair_table(np.array([1, 2]), np.array([3, 4])))
    assert rand == (0.0, 1.0, 1.0)


def test_scores_of_nothing_are_not_numbers():
    assert math.isnan(overlap.variation_of_information(EMPTY).total)
    assert math.isnan(overlap.adapted_rand(EMPTY).error)
    assert math.isnan(overlap.fill(EMPTY))


def test_fill_is_the_labelled_share_of_truth_only():
    a, t = np.array([0, 1, 1, 1, 0]), np.array([1, 1, 2, 0, 0])
    assert overlap.fill(pair_table(a, t)) == pytest.approx(2 / 3)


def test_counts_leave_out_nothing_and_tell_large_objects():
    table = pair_table(np.array([0, 0, 1, 1, 2]), np.array([1, 2, 1, 2, 1]))
    assert overlap.counts(table.result, table.voxels, large=2) == (2, 1)


@given(two_labelings())
def test_oracle_gives_each_object_to_its_majority_body(pair):
    a, t = pair
    painted = np.zeros_like(a)
    for object_ in np.unique(a[a > 0]):
        bodies, sizes = np.unique(t[(a == object_) & (t > 0)], return_counts=True)
        if len(bodies):
            painted[a == object_] = bodies[np.argmax(sizes)]
    got = overlap.oracle(pair_table(a, t))
    assert as_dictionary(got) == by_dictionary(painted, t)


@given(two_labelings())
def test_oracle_never_has_more_vi_split_than_the_result(pair):
    table = pair_table(*pair).labelled()
    if len(table):
        floor = overlap.variation_of_information(overlap.oracle(table))
        assert floor.split <= overlap.variation_of_information(table).split + 1e-12
