from __future__ import annotations

import numpy as np
import pytest

from petavox.phantom.forest import ABSENT, ATTACHED, ROOT, SIDE, Forest, Habit


def nothing(axes):
    shape = tuple(len(a) for a in axes)
    return np.zeros(shape, bool), np.zeros(shape, np.uint64)


def ball(axes):
    """A body of id 9 around node (20, 20, 20)."""
    z, y, x = np.meshgrid(*axes, indexing="ij")
    inside = (z - 20) ** 2 + (y - 20) ** 2 + (x - 20) ** 2 < 36
    return inside, np.where(inside, 9, 0).astype(np.uint64)


LO, HI = np.array([-9, -20, 3]), np.array([40, 23, 45])


@pytest.fixture(scope="module")
def forest():
    return Forest(5, 1, Habit(), nothing)


def test_three_quarters_of_the_nodes_lie_on_rods_and_all_of_those_are_there(forest):
    kind, _, _ = forest.kinds(LO, HI)
    z, y, x = np.meshgrid(*[np.arange(a, b) for a, b in zip(LO, HI, strict=True)], indexing="ij")
    rods = (
        ((x % 2 == 0) & (y % 2 == 1))
        | ((x % 2 == 1) & (z % 2 == 0))
        | ((y % 2 == 0) & (z % 2 == 1))
    )
    assert (kind[rods] != ABSENT).all()
    assert abs(rods.mean() - 0.75) < 0.01


def test_every_link_leads_to_a_node_that_is_there_and_no_two_trees_share_a_rod_node(forest):
    kind, _, _ = forest.kinds(LO, HI)
    for axis in range(3):
        child = np.argwhere(kind == axis)
        parent = child.copy()
        parent[:, axis] -= 1
        parent = parent[(parent >= 0).all(1)]
        assert (kind[tuple(parent.T)] != ABSENT).all()


def test_ids_are_those_of_following_the_links_one_by_one(forest):
    rng = np.random.default_rng(1)
    nodes = rng.integers(LO, HI, (150, 3))

    def follow(n):
        n = list(n)
        while True:
            chunk = forest.chunk(tuple(int(v) // SIDE for v in n))
            kind = int(chunk.kind[tuple(int(v) % SIDE for v in n)])
            if kind in (ABSENT, ROOT):
                return 0 if kind == ABSENT else forest.pack(tuple(n))
            n[kind] -= 1

    assert forest.ids(nodes).tolist() == [follow(n) for n in nodes]


def test_the_forest_does_not_depend_on_what_was_asked_before(forest):
    nodes = np.random.default_rng(2).integers(LO, HI, (60, 3))
    other = Forest(5, 1, Habit(), nothing, cache=3)
    other.kinds(LO + 30, HI + 30)
    assert np.array_equal(other.ids(nodes), forest.ids(nodes))
    assert not np.array_equal(Forest(6, 1, Habit(), nothing).ids(nodes), forest.ids(nodes))


def test_ids_of_different_roots_and_levels_differ():
    a, b = Forest(1, 1, Habit(), nothing), Forest(1, 2, Habit(), nothing)
    roots = [(0, 0, 0), (-1, 0, 0), (0, -1, 0), (0, 0, -1), (5, -700, 900)]
    ids = {f.pack(r) for f in (a, b) for r in roots}
    assert len(ids) == 10
    assert min(ids) > 2**56


def test_a_body_swallows_its_nodes_and_what_leaves_it_is_its_branch_or_new():
    forest = Forest(5, 1, Habit(attach=1.0, spine=0.0), ball)
    lo, hi = np.array([0, 0, 0]), np.array([40, 40, 40])
    kind, owner, _ = forest.kinds(lo, hi)
    inside, _ = ball([np.arange(40)] * 3)
    assert (kind[inside] == ABSENT).all()
    hung = np.argwhere(kind == ATTACHED)
    assert len(hung) > 10
    assert (owner[kind == ATTACHED] == 9).all()
    assert (forest.ids(hung) == 9).all()
    for axis in range(3):  # no link leads into the body
        child = np.argwhere(kind == axis)
        child = child[child[:, axis] > 0]
        child[:, axis] -= 1
        assert not inside[tuple(child.T)].any()


def test_spines_end_after_at_most_three_nodes():
    forest = Forest(7, 1, Habit(attach=1.0, spine=1.0, branch=0.0, root=0.02, stub=0.0), ball)
    kind, _, spine = forest.kinds(np.zeros(3, int), np.full(3, 40))
    ids = forest.ids(np.argwhere(kind >= 0))
    assert 10 < (ids == 9).sum() <= 3 * (kind == ATTACHED).sum()
    assert (spine < 0).any()


def test_a_forest_without_roots_would_never_end_and_is_refused():
    with pytest.raises(ValueError, match="root is 0"):
        Forest(1, 1, Habit(root=0.0), nothing)
