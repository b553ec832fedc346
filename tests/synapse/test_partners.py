import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petavox.space import Box, Grid
from petavox.synapse.partners import Evidence, PartnerSettings, evidence, partners, tally

SETTINGS = PartnerSettings(min_side_nm3=0, post_share=0.2)


def found(ids, pre, post):
    one = np.full(len(ids), 0.9)
    return Evidence(np.array(ids, np.uint64), np.array(pre, float), np.array(post, float), one, one)


def test_one_before_and_several_behind():
    said = partners(found([3, 5, 8, 9], [0, 90, 10, 0], [50, 5, 30, 9]), SETTINGS)
    assert said.pre == 5
    assert said.pre_score == pytest.approx(0.9)
    assert said.posts == ((3, 0.9), (8, 0.9))


def test_an_object_is_not_its_own_partner():
    said = partners(found([5], [90], [40]), SETTINGS)
    assert (said.pre, said.posts) == (5, ())


def test_nobody():
    none = partners(found([], [], []), SETTINGS)
    assert (none.pre, none.pre_score, none.posts) == (0, 0.0, ())
    only_post = partners(found([4], [1], [30]), SETTINGS)
    assert (only_post.pre, only_post.posts) == (0, ((4, 0.9),))


def test_weak_sides_are_no_partners():
    strict = PartnerSettings(min_side_nm3=40, post_share=0.01)
    said = partners(found([1, 2, 3], [100, 0, 0], [0, 50, 39]), strict)
    assert [p for p, _ in said.posts] == [2]
    assert partners(found([1, 2], [39, 0], [0, 50]), strict).pre == 0


def test_ties_go_to_the_smaller_id():
    said = partners(found([9, 4], [10, 10], [0, 0]), SETTINGS)
    assert said.pre == 9  # ids come ascending from `evidence`; of equals the first is taken
    said = partners(found([2, 7, 8], [50, 0, 0], [0, 20, 20]), SETTINGS)
    assert [p for p, _ in said.posts] == [7, 8]


def test_evidence_is_volume_times_probability_near_the_cleft():
    labels = np.zeros((3, 3, 9), np.uint64)
    labels[..., :4], labels[..., 5:] = 6, 7
    own = np.zeros(labels.shape, bool)
    own[1, 1, 4] = True
    pre, post = np.zeros((2, 3, 3, 9), np.uint8)
    pre[1, 1, :4] = 255
    post[1, 1, 5:] = 204
    none = np.zeros_like(own)
    said = evidence([tally(own, none, pre, post, labels, (40, 4, 4), 12.0)], (40, 4, 4))
    assert said.ids.tolist() == [6, 7]
    assert np.allclose(said.pre, [3 * 640, 0])  # three voxels of four lie within 12 nm
    assert np.allclose(said.post, [0, 3 * 640 * 0.8])
    assert np.allclose(said.post_mean, [0, 0.8])


def test_voxels_nearer_to_another_cleft_do_not_count():
    labels = np.ones((1, 1, 11), np.uint64)
    pre = np.full(labels.shape, 255, np.uint8)
    own, other = np.zeros((2, 1, 1, 11), bool)
    own[0, 0, 0], other[0, 0, 10] = True, True
    said = evidence([tally(own, other, pre, pre, labels, (1, 1, 1), 100.0)], (1, 1, 1))
    assert said.pre.tolist() == [6.0]  # 0 to 5; the middle one speaks for both


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    piece=st.tuples(*[st.integers(1, 5)] * 3),
    size=st.tuples(*[st.sampled_from([4.0, 7.5, 40.0])] * 3),
    reach=st.floats(1.0, 60.0),
    seed=st.integers(0, 999),
)
def test_evidence_does_not_depend_on_how_the_space_is_cut(shape, piece, size, reach, seed):
    rng = np.random.default_rng(seed)
    pre, post = rng.integers(0, 256, (2, *shape)).astype(np.uint8)
    labels = rng.integers(0, 4, shape).astype(np.uint64)
    kind = rng.choice(3, shape, p=[0.9, 0.05, 0.05])
    own, other = kind == 1, kind == 2
    whole = evidence([tally(own, other, pre, post, labels, size, reach)], size)
    total = Box.of_shape(shape)
    pieces = []
    for b in Grid(total, piece, [int(np.ceil(reach / v)) for v in size]):
        w, r = b.write.slices(), b.read.slices()
        here = b.write.slices(b.read.start)
        pieces.append(tally(own[r], other[r], pre[w], post[w], labels[w], size, reach, here))
    for a, b in zip(evidence(pieces[::-1], size), whole, strict=True):
        assert a.dtype == b.dtype
        assert np.array_equal(a, b)


def test_no_piece_is_no_evidence():
    said = evidence([], (1, 1, 1))
    assert partners(said, SETTINGS) == (0, 0.0, ())
