"""Expected run length, worked by hand."""

import math

import numpy as np
import pytest

from petavox.errors import BadInput
from petavox.score.runs import Skeleton, run_scores
from petavox.score.swc import read_swc


def line(id_, nodes, *, y=0.0, step=100.0):
    """A straight skeleton along x: `nodes` nodes, `step` nm apart."""
    places = np.stack([np.zeros(nodes), np.full(nodes, y), np.arange(nodes) * step], axis=1)
    return Skeleton(id_, places, np.stack([np.arange(nodes - 1), np.arange(1, nodes)], axis=1))


def test_a_perfect_result_reaches_the_perfect_run_length():
    two = [line(1, 11), line(2, 6, y=500)]  # 1000 and 500 nm
    got = run_scores(two, [np.full(11, 7), np.full(6, 8)])
    assert got.erl == pytest.approx((1000**2 + 500**2) / 1500)
    assert got.nerl == pytest.approx(1.0)
    assert (got.splits, got.mergers) == (0, 0)
    assert got.correct == pytest.approx(1500)


def test_a_split_in_the_middle_costs_the_edge_and_leaves_two_runs():
    got = run_scores([line(1, 11)], [np.array([5] * 5 + [6] * 6)])
    # 4 edges in object 5, 5 in object 6, one between: 400 and 500 nm of 1000
    assert got.erl == pytest.approx((400**2 + 500**2) / 1000)
    assert got.nerl == pytest.approx(0.41)
    assert got.splits == 1
    assert got.splits_per_mm == pytest.approx(1 / 1e-3)
    assert got.split == pytest.approx(100)
    (error,) = got.errors
    # the smaller object's node nearest to the other: node 4 of object 5
    assert (error.kind, error.object, error.other) == ("split", 5, 6)
    assert error.place_nm == (0.0, 0.0, 400.0)


def test_a_merger_takes_both_skeletons_runs():
    two = [line(1, 11), line(2, 6, y=500)]
    got = run_scores(two, [np.full(11, 7), np.full(6, 7)])
    assert got.erl == 0.0
    assert got.merged == pytest.approx(1500)
    (error,) = got.errors
    assert (error.kind, error.skeleton, error.other) == ("merger", 2, 1)
    assert got.mergers_per_mm == pytest.approx(1 / 1.5e-3)


def test_a_grazed_node_is_no_merger_when_more_nodes_are_asked():
    two = [line(1, 11), line(2, 6, y=500)]
    objects = [np.full(11, 7), np.array([7, 8, 8, 8, 8, 8])]
    assert run_scores(two, objects).mergers == 1
    got = run_scores(two, objects, merge_nodes=2)
    assert got.mergers == 0
    assert got.erl == pytest.approx((1000**2 + 400**2) / 1500)


def test_unlabelled_nodes_are_missing_not_split():
    got = run_scores([line(1, 5)], [np.array([3, 3, 0, 3, 3])])
    assert got.missing == pytest.approx(200)
    assert (got.splits, got.mergers) == (0, 0)
    # both halves lie in one object: one run of 200 nm
    assert got.erl == pytest.approx(200**2 / 400)


def test_branches_count_all_their_length():
    star = Skeleton(1, [[0, 0, 0], [0, 0, 30], [0, 40, 0], [50, 0, 0]], [[0, 1], [0, 2], [0, 3]])
    got = run_scores([star], [np.full(4, 2)])
    assert got.erl == pytest.approx(120)


def test_no_skeleton_gives_no_number():
    got = run_scores([], [])
    assert math.isnan(got.erl)
    assert math.isnan(got.nerl)
    assert math.isnan(got.splits_per_mm)


def test_objects_that_do_not_fit_the_nodes_are_refused():
    with pytest.raises(BadInput, match="5 nodes"):
        run_scores([line(1, 5)], [np.zeros(4)])


def test_swc_is_read_as_zyx_nm(tmp_path):
    file = tmp_path / "7.swc"
    file.write_text("# a comment\n1 1 1 2 3 1 -1\n5 3 4 5 6 1 1  # child\n\n6 3 7 8 9.5 1 5\n")
    got = read_swc(file, id=7, nm_per_unit=1000)
    assert got.nodes.tolist() == [[3000, 2000, 1000], [6000, 5000, 4000], [9500, 8000, 7000]]
    assert got.edges.tolist() == [[1, 0], [2, 1]]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no node"),
        ("1 1 0 0 0 1", "line 1"),
        ("1 1 0 0 0 1 -1\n1 1 0 0 0 1 1", "twice"),
        ("1 1 0 0 0 1 9", "parent 9"),
        ("1 1 0 0 nan 1 -1", "not a number"),
    ],
)
def test_a_broken_swc_says_where(tmp_path, text, word):
    file = tmp_path / "a.swc"
    file.write_text(text)
    with pytest.raises(BadInput, match=word):
        read_swc(file)


def test_skeletons_may_have_any_id_of_64_bits():
    from petavox.score.reporting import run_errors

    line = Skeleton(
        (1 << 64) - 1, np.array([[0, 0, 0], [0, 0, 10], [0, 0, 20]]), np.array([[0, 1], [1, 2]])
    )
    found = run_errors(run_scores([line], [np.array([5, 5, 6])]))
    assert found["skeleton"].tolist() == [(1 << 64) - 1]
