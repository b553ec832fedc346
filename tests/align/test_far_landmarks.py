"""Landmarks between sections of different windows are met, and neighbours stay together."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from petavox.align import chain, far_landmarks, stack, warp
from petavox.align.frames import Field, Lattice
from petavox.align.solve import Matches
from tests.align.test_stack import bent, tissue

SIDE = 200
U = np.array([[40.0, 50.0], [150.0, 60.0], [90.0, 150.0], [160.0, 150.0]])
"""Places in true coordinates."""


def drifted(k, turn=0.1, move=(0.4, -0.3)) -> Field:
    """What an alignment made of section k, whose true field is the identity."""
    t = np.deg2rad(turn * k)
    m = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    c = np.array([SIDE / 2, SIDE / 2])
    lattice = Lattice.covering((0, 0), (SIDE, SIDE), 50.0)
    rng = np.random.default_rng(k)
    waves = 0.2 * rng.standard_normal((*lattice.shape, 2))
    return Field(m, c - m @ c + np.array(move) * k, lattice, waves)


def marks(a, b, n=4) -> Matches:
    return Matches(a, b, U[:n], U[:n], np.full(n, 4.0), 100.0)


def steps(before, after):
    """How far each pair of neighbours was moved against one another, pixels at the corners."""
    p = np.array([[0.0, 0.0], [0.0, SIDE], [SIDE, 0.0], [SIDE, SIDE]])
    gaps = {k: after[k](p) - before[k](p) for k in before}
    return [np.linalg.norm(gaps[b] - gaps[a], axis=1).max() for a, b in pairwise(sorted(before))]


def met(fields, landmarks, matched=None, fixed=()):
    pairs = set(pairwise(sorted(fields))) if matched is None else matched
    return far_landmarks.met(fields, landmarks, pairs, set(fixed), lambda k: (SIDE, SIDE))


@pytest.mark.parametrize("points", [2, 3, 4])
def test_drift_between_two_sections_is_shared_out_among_those_between(points):
    fields = {k: drifted(k) for k in range(50)}
    m = marks(3, 40, points)
    assert far_landmarks.residual(fields, m) > 15
    after = met(fields, [m])
    assert far_landmarks.residual(after, m) < 0.5
    moved = steps(fields, after)
    assert max(moved) < 1.5
    # outside nothing is moved against its neighbour (a gap that was there is turned with the rest)
    assert max(moved[:3]) < 0.01
    assert max(moved[40:]) < 0.1
    # what was moved keeps its shape, but for the waves at the landmarks
    for f in after.values():
        assert np.abs(np.linalg.svd(f.matrix)[1] - 1).max() < 1e-2


def test_one_landmark_moves_and_does_not_stretch():
    fields = {k: drifted(k, turn=0.0) for k in range(30)}
    after = met(fields, [marks(2, 25, 1)])
    assert far_landmarks.residual(after, marks(2, 25, 1)) < 0.5
    for f in after.values():
        assert np.abs(np.linalg.svd(f.matrix)[1] - 1).max() < 1e-3
        assert abs(np.rad2deg(np.arctan2(f.matrix[1, 0], f.matrix[0, 0]))) < 1.5


def test_a_large_turn_is_a_turn():
    fields = {k: drifted(k, turn=1.0) for k in range(40)}
    after = met(fields, [marks(0, 39)])
    assert far_landmarks.residual(after, marks(0, 39)) < 1
    for f in after.values():
        assert np.abs(np.linalg.svd(f.matrix)[1] - 1).max() < 0.01


def test_where_neighbours_do_not_fit_the_gap_takes_it_all():
    fields = {k: drifted(k, turn=0.0, move=(0, 0)) for k in range(30)}
    for k in range(12, 30):
        fields[k] = fields[k].moved((40.0, -25.0))
    pairs = set(pairwise(range(30))) - {(11, 12)}
    after = met(fields, [marks(3, 25)], pairs)
    assert far_landmarks.residual(after, marks(3, 25)) < 1
    moved = steps(fields, after)
    assert moved[11] > 40
    assert max(moved[:11] + moved[12:]) < 0.3


def test_sections_held_fixed_stay_and_those_between_give_way():
    fields = {k: drifted(k) for k in range(50)}
    after = met(fields, [marks(3, 40)], fixed=range(10))
    p = np.array([[10.0, 20.0]])
    for k in range(10):
        np.testing.assert_array_equal(after[k](p), fields[k](p))
    assert far_landmarks.residual(after, marks(3, 40)) < 0.5
    still = met(fields, [marks(3, 40)], fixed=range(50))
    assert all(still[k] is fields[k] for k in fields)


class Still:
    """Sections of tissue that slants: seen, each is shifted by SLANT against the one before."""

    slant = np.array([0.5, -0.3])

    def __init__(self, n):
        layers = tissue(3, SIDE, n)
        self.images = {
            k: bent(layers[k], lambda p, k=k: p + self.slant * (k - n / 2)) for k in range(n)
        }

    def shape(self, k):
        return (SIDE, SIDE)

    def level(self, k, factor):
        return warp.average_down(self.images[k], self.images[k] > 0, factor)

    def texture(self, k, factor):
        raise AssertionError("not asked for")


def test_a_stack_in_windows_of_ten_meets_landmarks_of_sections_3_and_40():
    """Neighbours say that tissue goes straight on; the landmarks say that it slants."""
    source = Still(44)
    settings = stack.AlignSettings(
        window=10, margin=4, texture=False, finest=2, passes=1, window_px=48
    )
    said: list[str] = []
    plain = stack.align(source, range(44), settings)
    given = stack.align(source, range(44), settings, landmarks=[marks(3, 40)], say=said.append)
    assert far_landmarks.residual(plain.fields, marks(3, 40)) > 10
    assert far_landmarks.residual(given.fields, marks(3, 40)) < 1
    assert max(steps(plain.fields, given.fields)) < 1.2
    assert not given.failures
    [told] = given.landmarks
    assert (told.a, told.b, told.points) == (3, 40, 4)
    assert told.residual_px < 1
    assert not said


def test_far_landmarks_do_not_tear_a_section_from_its_neighbours_in_the_rough_placing(monkeypatch):
    """Section 5 fits the one before; marks to section 0 say that it lies 30 px off."""

    class Fits:
        def __init__(self, *_):
            self.seen, self.narrow = {}, 12.0

        def __call__(self, pairs):
            self.seen |= dict.fromkeys(pairs)
            return [SimpleNamespace(found=True, trust=1.0, transform=Field()) for _ in pairs]

    monkeypatch.setattr(chain, "Comparison", Fits)
    source = SimpleNamespace(shape=lambda k: (SIDE, SIDE))
    m = Matches(0, 5, U, U + 30.0, np.ones(4), 100.0)
    for near, at in ((4, 0.0), (5, -30.0)):
        placed = chain.chain_up(
            source, range(8), {}, thumbnail_px=96, narrow=12.0, landmarks=[m], near=near
        )
        np.testing.assert_allclose(placed.fields[5].shift, [at, at], atol=1e-6)


def test_landmarks_between_two_runs_that_are_far_apart_join_them():
    runs = dict.fromkeys(range(20), 0) | dict.fromkeys(range(20, 40), 1)
    assert chain._joined(runs, 1, [marks(3, 35)])
    assert not chain._joined(runs, 1, [marks(3, 35, 1)])
    assert not chain._joined(runs, 1, [marks(3, 18), marks(22, 35)])
