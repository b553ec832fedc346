"""Landmarks between sections of different windows are met, and neighbours stay together."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from petavox.align import chain, far_landmarks, stack, warp
from petavox.align import landmarks as last
from petavox.align.frames import Field, Lattice
from petavox.align.solve import Matches
from petavox.align.stack_result import Pair, Result
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


def met(fields, landmarks, matched=None, fixed=(), near=()):
    pairs = set(pairwise(sorted(fields))) if matched is None else matched
    return far_landmarks.met(fields, landmarks, pairs, set(fixed), lambda k: (SIDE, SIDE), near)


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


def test_matched_pairs_across_a_gap_hold_it():
    """11 and 12 do not fit one another, but 10 fits 12 and 11 fits 13."""
    fields = {k: drifted(k, turn=0.0) for k in range(30)}
    pairs = set(pairwise(range(30))) - {(11, 12)}
    alone = steps(fields, met(fields, [marks(3, 25)], pairs))
    held = steps(fields, met(fields, [marks(3, 25)], pairs | {(10, 12), (11, 13)}))
    assert alone[11] > 9
    assert max(held) < 0.7


def test_strange_sections_between_do_not_take_the_drift_of_those_that_match_across_them():
    fields = {k: drifted(k, turn=0.0) for k in range(30)}
    strange = {11, 12, 13}
    pairs = {(a, b) for a, b in pairwise(range(30)) if not {a, b} & strange} | {(10, 14)}
    m = marks(3, 25)
    after = met(fields, [m], pairs)
    p = np.array([[10.0, 20.0], [150.0, 90.0]])
    across = [after[k](p) - fields[k](p) for k in (10, 14)]
    assert far_landmarks.residual(after, m) < 1
    assert np.abs(across[1] - across[0]).max() < 1


def test_runs_that_landmarks_joined_in_a_window_are_not_torn_by_far_ones():
    fields = {k: drifted(k) for k in range(30)}
    pairs = set(pairwise(range(30))) - {(14, 15)}
    joint = marks(14, 15)
    before = far_landmarks.residual(fields, joint)
    torn = met(fields, [marks(3, 25)], pairs)
    kept = met(fields, [marks(3, 25)], pairs, near=[joint])
    assert far_landmarks.residual(torn, joint) > before + 5
    assert far_landmarks.residual(kept, joint) < before + 1
    assert far_landmarks.residual(kept, marks(3, 25)) < 1
    assert max(steps(fields, kept)) < 1.5


@pytest.mark.parametrize("points", [1, 2, 4])
def test_far_landmarks_do_not_undo_those_of_a_window_nor_do_wrong_ones_bend_the_stack(points):
    fields = {k: drifted(k, turn=0.0) for k in range(30)}
    off = U[:points] + np.array([40.0, -30.0])
    wrong = Matches(10, 15, U[:points], off, np.full(points, 4.0), 100.0)
    plain, given = (met(fields, [marks(3, 25)], near=near) for near in ([], [wrong]))
    was = far_landmarks.residual(fields, wrong)
    assert abs(far_landmarks.residual(plain, wrong) - was) > 1
    assert abs(far_landmarks.residual(given, wrong) - was) < 0.7
    assert max(steps(fields, given)) < 0.8


def tilted(degrees, flip=False) -> Field:
    """A turn about a place off the middle, with a shift."""
    t = np.deg2rad(degrees)
    m = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]]) @ np.diag(
        [1, -1 if flip else 1]
    )
    return Field.affine(m, np.array([60.0, 130.0]) - m @ np.array([90.0, 100.0]))


@pytest.mark.parametrize("degrees", [60, 90, 125, 150, 179.9, 180, -170])
@pytest.mark.parametrize("flip", [False, True])
def test_two_landmarks_turn_a_run_however_far_and_never_mirror_it(degrees, flip):
    """The second run was laid on by guess; both may be flipped already, by the rough placing."""
    run = tilted(20, flip), tilted(20 + degrees, flip)
    fields = {k: run[k >= 6] for k in range(12)}
    after = met(fields, [marks(2, 9, 2)], set(pairwise(range(12))) - {(5, 6)})
    p = np.array([[10.0, 20.0], [150.0, 90.0], [40.0, 170.0]])
    for k in range(12):
        np.testing.assert_allclose(after[k](p), run[0](p), atol=0.3)


def test_three_landmarks_off_a_line_flip_a_run_and_what_follows_it():
    run = tilted(20), tilted(150, flip=True)
    fields = {k: run[k >= 6] for k in range(14)}
    pairs = set(pairwise(range(14))) - {(5, 6), (9, 10)}
    after = met(fields, [marks(2, 9, 3)], pairs)
    p = np.array([[10.0, 20.0], [150.0, 90.0], [40.0, 170.0]])
    for k in range(14):
        np.testing.assert_allclose(after[k](p), run[0](p), atol=0.3)


def test_landmarks_that_ask_for_a_flip_inside_a_run_flip_nothing():
    fields = {k: Field() for k in range(12)}
    m = Matches(2, 9, U[:3], U[:3] * [1, -1] + [0, SIDE], np.full(3, 4.0), 100.0)
    for f in met(fields, [m]).values():
        assert np.linalg.det(f.matrix) > 0


def test_turns_add_up_beyond_half_a_circle():
    """Ten degrees a section: three sets of landmarks, 100 degrees each."""
    fields = {k: drifted(k, turn=10.0, move=(0, 0)) for k in range(31)}
    sets = [marks(0, 10), marks(10, 20), marks(20, 30)]
    after = met(fields, sets)
    for m in sets:
        assert far_landmarks.residual(after, m) < 1
    for f in after.values():
        assert abs(np.rad2deg(np.arctan2(f.matrix[1, 0], f.matrix[0, 0]))) < 6


def turned(k, still, degrees, n=4) -> Matches:
    """Landmarks of two sections that lie straight, which ask for a turn of k about the middle."""
    t = np.deg2rad(degrees)
    m = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    there = (U[:n] - SIDE / 2) @ m.T + SIDE / 2
    return Matches(still, k, there, U[:n], np.full(n, 4.0), 100.0)


def angle(f) -> float:
    return float(np.rad2deg(np.arctan2(f.matrix[1, 0], f.matrix[0, 0])))


@pytest.mark.parametrize(("first", "second"), [(178, 178), (178, 182), (-170, 175), (182, 178)])
def test_turns_on_either_side_of_half_a_circle_are_near_one_another(first, second):
    """A run of 20 between sections that stay, with landmarks at both of its ends."""
    fields = {k: Field() for k in range(26)}
    pairs = set(pairwise(range(26))) - {(2, 3), (22, 23)}
    sets = [turned(3, 0, first), turned(22, 25, second)]
    after = met(fields, sets, pairs, fixed=(0, 1, 2, 23, 24, 25))
    for m in sets:
        assert far_landmarks.residual(after, m) < 0.5
    twists = [(angle(after[k + 1]) - angle(after[k]) + 180) % 360 - 180 for k in range(3, 22)]
    assert max(map(abs, twists)) < 2
    if first == second:
        np.testing.assert_allclose([angle(after[k]) for k in range(3, 23)], first, atol=1e-3)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_three_runs_in_a_ring_of_landmarks_whose_turns_add_up_beyond_half_a_circle(order):
    runs = [tilted(20), tilted(120), tilted(-130)]
    fields = {k: runs[k // 5] for k in range(15)}
    sets = [marks(2, 7, 2), marks(7, 12, 2), marks(2, 12, 2)]
    pairs = set(pairwise(range(15))) - {(4, 5), (9, 10)}
    after = met(fields, [sets[n] for n in order], pairs)
    p = np.array([[10.0, 20.0], [150.0, 90.0], [40.0, 170.0]])
    for k in range(15):
        np.testing.assert_allclose(after[k](p), runs[0](p), atol=0.05)


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

    slant = np.array([0.9, -0.5])
    side = 128

    def __init__(self, n):
        layers = tissue(3, self.side, n)
        self.images = {
            k: bent(layers[k], lambda p, k=k: p + self.slant * (k - n / 2)) for k in range(n)
        }

    def shape(self, k):
        return (self.side, self.side)

    def level(self, k, factor):
        return warp.average_down(self.images[k], self.images[k] > 0, factor)

    def texture(self, k, factor):
        raise AssertionError("not asked for")


def test_a_stack_in_windows_of_six_meets_landmarks_of_sections_2_and_18():
    """Neighbours say that tissue goes straight on; the landmarks say that it slants."""
    source = Still(20)
    settings = stack.AlignSettings(
        window=6, margin=2, texture=False, finest=2, passes=1, window_px=48, far_offsets=()
    )
    u = U * source.side / SIDE
    m = Matches(2, 18, u, u, np.full(4, 4.0), 100.0)
    said: list[str] = []
    plain = stack.align(source, range(20), settings)
    given = stack.align(source, range(20), settings, landmarks=[m], say=said.append)
    assert far_landmarks.residual(plain.fields, m) > 10
    assert far_landmarks.residual(given.fields, m) < 1
    assert max(steps(plain.fields, given.fields)) < 2
    assert not given.failures
    [told] = given.landmarks
    assert (told.a, told.b, told.points) == (2, 18, 4)
    assert told.apart
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
    for near, at, by_hand in ((4, 0.0, {}), (5, -30.0, {5: 0})):
        placed = chain.chain_up(
            source, range(8), {}, thumbnail_px=96, narrow=12.0, landmarks=[m], near=near
        )
        np.testing.assert_allclose(placed.fields[5].shift, [at, at], atol=1e-6)
        assert placed.by_hand == by_hand


def test_landmarks_between_two_runs_that_are_far_apart_join_them():
    runs = dict.fromkeys(range(20), 0) | dict.fromkeys(range(20, 40), 1)
    assert chain.joined(runs, 1, [marks(3, 35)])
    assert not chain.joined(runs, 1, [marks(3, 35, 1)])
    assert not chain.joined(runs, 1, [marks(3, 18), marks(22, 35)])


def finished(landmarks, lost, rough, solved=()):
    """A stack of runs 0..9 and 10..19, whose `lost` sections have no field, and what is said."""
    fields = {k: drifted(k) for k in range(20) if k not in lost}
    pairs = [Pair(a, b, 9, 1.0, 0.1) for a, b in pairwise(sorted(fields)) if not a < 10 <= b]
    result, said = Result(fields=fields, pairs=pairs, breaks=list(rough.breaks)), []
    last.meet(
        result,
        rough,
        landmarks,
        solved=solved,
        fixed=(),
        shape=lambda k: (SIDE, SIDE),
        say=said.append,
    )
    return result, said


def test_landmarks_of_a_section_without_a_field_are_told_and_join_no_run():
    rough = chain.Chain(runs={k: int(k >= 10) for k in range(20)}, breaks=[10])
    result, said = finished([marks(3, 15)], (), rough)
    assert not result.breaks
    assert ["join the run that begins at section 10" in line for line in said] == [True]
    result, said = finished([marks(3, 15)], (15,), rough)
    assert result.breaks == [10]
    assert ["3 and 15 are NOT used: 15 was not aligned" in line for line in said] == [True]


def test_a_section_placed_by_landmarks_that_were_not_used_begins_a_run():
    """10 was placed by landmarks to 9, and matches nothing before it."""
    rough = chain.Chain(runs=dict.fromkeys(range(20), 0), by_hand={10: 9})
    result, said = finished([marks(9, 10)], (), rough, solved={(9, 10)})
    assert not result.breaks
    assert not said
    result, said = finished([marks(9, 10)], (9,), rough)
    assert result.breaks == [10]
    assert sum("NEW RUN begins at section 10" in line for line in said) == 1
    assert not finished([marks(9, 10)], range(10), rough)[0].breaks


def test_a_section_placed_by_one_landmark_on_either_side_begins_no_run_if_both_were_used():
    """10 was placed by a landmark to 9 and one to 11, and matches 11 alone."""
    rough = chain.Chain(runs=dict.fromkeys(range(20), 0), by_hand={10: 9})
    sets = [marks(9, 10, 1), marks(10, 11, 1)]
    result, said = finished(sets, (), rough, solved={(9, 10), (10, 11)})
    assert not result.breaks
    assert not [line for line in said if "NEW RUN" in line]


def test_far_landmarks_of_a_stack_leave_those_of_a_window_as_they_are():
    rough = chain.Chain(runs=dict.fromkeys(range(20), 0), by_hand={10: 9})
    far, joint = marks(2, 18), marks(9, 10)
    result, said = finished([joint, far], (), rough, solved={(9, 10)})
    assert [m.apart for m in result.landmarks] == [False, True]
    assert all(m.residual_px < 1.5 for m in result.landmarks)
    assert not said
