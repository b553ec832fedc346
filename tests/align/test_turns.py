"""The turns of a stack from its matches: a slow turning of the base is undone."""

from __future__ import annotations

import numpy as np

from petavox.align.frames import Field
from petavox.align.solve import Matches
from petavox.align.turns import turned


def rigid(degrees: float, about: np.ndarray) -> Field:
    t = np.deg2rad(degrees)
    m = np.array([[np.cos(t), -np.sin(t)], [np.sin(t), np.cos(t)]])
    return Field.affine(m, about - m @ about)


def angle(f: Field) -> float:
    return float(np.rad2deg(np.arctan2(f.matrix[1, 0], f.matrix[0, 0])))


MIDDLE = np.array([200.0, 150.0])


def stack(rng, bad: float = 0.0):
    """Ten sections that need no turn, matched one with the next, and a base that turns slowly."""
    base = {k: rigid(0.3 * k, MIDDLE) for k in range(1, 10)}
    matches = []
    for k in range(9):
        p = rng.uniform(0, 400, (80, 2))
        q = p + 0.1 * rng.standard_normal(p.shape)
        wrong = rng.random(len(p)) < bad
        q[wrong] += rng.uniform(-60, 60, (int(wrong.sum()), 2))
        matches.append(Matches(k, k + 1, p, q, np.ones(len(p)), 20.0))
    return base, matches, dict.fromkeys(base, MIDDLE)


def test_the_turning_of_the_base_is_undone_and_middles_stay(rng):
    base, matches, middles = stack(rng)
    found = turned(base, matches, {0: Field()}, middles, 6.0)
    assert max(abs(angle(f)) for f in found.values()) < 0.05
    for k, f in found.items():
        np.testing.assert_allclose(f(MIDDLE[None]), base[k](MIDDLE[None]), atol=1e-9)


def test_a_fifth_of_false_matches_turns_nothing(rng):
    base, matches, middles = stack(rng, bad=0.2)
    found = turned(base, matches, {0: Field()}, middles, 6.0)
    assert max(abs(angle(f)) for f in found.values()) < 0.3


def test_sections_without_matches_stay(rng):
    base, _, middles = stack(rng)
    assert turned(base, [], {0: Field()}, middles, 6.0) == base
