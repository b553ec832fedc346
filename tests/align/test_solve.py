"""The joint solve: hand-made matches, outliers, fixed images, cuts."""

from __future__ import annotations

import numpy as np

from petavox.align.frames import Field, Lattice
from petavox.align.solve import Matches, Stiffness, relax

LATTICE = Lattice((-20.0, -20.0), 40.0, (7, 7))
SOFT = Stiffness(smooth=20.0, slope=1.0, tolerance=5.0)


def grid(step: float = 20.0) -> np.ndarray:
    axis = np.arange(0, 201, step)
    return np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)


def test_a_shift_between_two_images_is_taken_up():
    p = grid()
    m = Matches(0, 1, p, p + np.array([3.0, -4.0]), np.ones(len(p)), 20.0)
    solved = relax({0: Field(), 1: Field()}, {0: LATTICE, 1: LATTICE}, [m], SOFT)
    gap = solved.fields[1](m.q) - solved.fields[0](m.p)
    assert np.abs(gap).max() < 0.01


def test_a_fixed_image_stays_and_the_other_comes_to_it():
    p = grid()
    m = Matches(4, 5, p, p * 1.02 + [3.0, -4.0], np.ones(len(p)), 20.0)
    held = Field.translation([10.0, 0.0])
    solved = relax({5: Field()}, {5: LATTICE}, [m], SOFT, fixed={4: held})
    assert set(solved.fields) == {5}
    assert np.abs(solved.fields[5](m.q) - held(p)).max() < 0.1


def test_a_third_of_false_matches_does_not_matter(rng):
    p = grid()
    q = p + np.array([2.0, 1.0])
    bad = rng.random(len(p)) < 0.33
    q[bad] += rng.uniform(-60, 60, (bad.sum(), 2))
    m = Matches(0, 1, p, q, np.ones(len(p)), 20.0)
    solved = relax({1: Field()}, {1: LATTICE}, [m], SOFT, fixed={0: Field()})
    assert np.abs(solved.fields[1](p + np.array([2.0, 1.0])) - p).max() < 1.0
    assert solved.inliers[0][~bad].min() > 0.5
    assert np.median(solved.inliers[0][bad]) < 0.05


def test_without_matches_nothing_moves():
    solved = relax({0: Field.translation([5.0, 5.0])}, {0: LATTICE}, [], SOFT)
    np.testing.assert_allclose(solved.fields[0](grid()), grid() + 5.0, atol=1e-9)


def test_across_a_cut_the_two_sides_move_apart_freely():
    p = grid(10.0)
    right = p[:, 1] > 100
    q = p.copy()
    q[right, 1] += 12.0
    keep = np.abs(p[:, 1] - 100) > 25
    m = Matches(0, 1, p[keep], q[keep], np.ones(keep.sum()), 10.0)
    stiff = Stiffness(smooth=80.0, slope=1.0, tolerance=30.0)
    springs = np.ones(LATTICE.shape)
    springs[:, 3] = 0.0  # the column of control points at x = 100
    whole = relax({1: Field()}, {1: LATTICE}, [m], stiff, fixed={0: Field()})
    cut = relax({1: Field()}, {1: LATTICE}, [m], stiff, fixed={0: Field()}, springs={1: springs})
    error = [np.abs(s.fields[1](m.q) - m.p).mean() for s in (whole, cut)]
    assert error[1] < 0.5 * error[0]


def test_many_unknowns_by_conjugate_gradients_agree_with_factorising(monkeypatch):
    from petavox.align import normal

    p = grid()
    ms = [
        Matches(k, k + 1, p, p + np.array([np.sin(k), 0.01 * k]), np.ones(len(p)), 20.0)
        for k in range(5)
    ]
    base, lattices = {k: Field() for k in range(6)}, dict.fromkeys(range(6), LATTICE)
    direct = relax(base, lattices, ms, SOFT)
    monkeypatch.setattr(normal, "DIRECT_UP_TO", 0)
    iterated = relax(base, lattices, ms, SOFT)
    for k in range(5):
        a, b = (s.fields[k + 1](ms[k].q) - s.fields[k](ms[k].p) for s in (direct, iterated))
        assert np.abs(a - b).max() < 0.02
