"""Landmarks between sections that no window solves together, met by moving the sections between.

What it is: one small least-squares problem over a whole stack that is solved: an affine per
section, so that neighbours stay as they lie on one another and landmarks meet. What is left of a
landmark, the drift between its sections, is shared out among all neighbours between them. What it
is not: a match of images, or anything elastic. With C_k the affine of section k, x points of it:

    sum over neighbours  w (|C_k+1(x) - C_k(x)|^2  +  STRAIN (size |S_k+1 - S_k|)^2
                              +  TURN (size |A_k+1 - A_k|)^2)
    +  LANDMARK  sum over landmarks |C_b(q) - C_a(p)|^2

S, A: the symmetric part of C - 1 and the other one, so that a change of shape between neighbours
costs more than a turn, and a turn more than a shift. w is LOOSE where neighbours are not matched:
there the gap may take all, but for other pairs across it that are matched, or joined by landmarks
that were met before. Large turns, and flips, are found first (far_turns).

    0 ── 1 ── 2 ┆ 3 ── 4 ── 5     ── w = 1     ┆ w = LOOSE
              └──────┘            a matched pair (2, 4) across it holds as neighbours do
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from petavox.align import far_turns
from petavox.align.frames import Field
from petavox.align.solve import Matches

LANDMARK = 1000.0
"""Weight of a landmark, if that of a pair of neighbours is 1: a person's word is met, whatever the
neighbours lose."""
STRAIN, TURN = 100.0, 10.0
"""What a change of shape, and a turn, between neighbours costs beyond the gap that it makes: one
landmark off the middle is met by a shift, not by turning the stack about it."""
LOOSE = 1e-3
NEAR = 1.0
"""Weight of a landmark that was met before: its gap is kept as that of neighbours is."""
ROUNDS = 4
"""Times the turns are taken as the new start: a large one is no small affine."""

Affine = tuple[np.ndarray, np.ndarray]
"""matrix (2, 2) and shift (2,)."""


@dataclass(frozen=True)
class Row:
    """One equation: sum of sign * C_k(point) over its ends is 0, times the root of its weight.

    loose: the sum stays what it was at the start of a round: nothing pulls a gap shut that gave.
    """

    ends: tuple[tuple[int, np.ndarray, float], ...]
    weight: float
    loose: bool = False


def met(
    fields: Mapping[int, Field],
    landmarks: Sequence[Matches],
    matched: Collection[tuple[int, int]],
    fixed: Collection[int],
    shape: Callable[[int], tuple[int, int]],
    near: Sequence[Matches] = (),
) -> dict[int, Field]:
    """The fields, moved so that landmarks meet.

    landmarks: of sections in `fields`.  matched: pairs of sections whose images fit.
    fixed: sections that stay; without any, the first.  shape: pixels of a section.
    near: landmarks that keep the gap that they have, for they were met before, or are wrong.
    """
    known = sorted(fields)
    held = set(fixed) or set(known[:1])
    free = [k for k in known if k not in held]
    if not free or not landmarks:
        return dict(fields)
    grid = np.stack(np.meshgrid([0.0, 0.5, 1.0], [0.0, 0.5, 1.0], indexing="ij"), -1).reshape(-1, 2)
    points = {k: fields[k](grid * (np.asarray(shape(k), float) - 1)) for k in known}
    size = float(np.mean([np.ptp(p, axis=0).max() for p in points.values()]))
    middle = np.mean([p.mean(0) for p in points.values()], axis=0)
    by_hand = {(m.a, m.b) for m in near if len(np.unique(m.p, axis=0)) >= 2}
    pairs = springs(known, {*matched, *by_hand})
    ties = [(m.a, m.b, fields[m.a](m.p), fields[m.b](m.q)) for m in landmarks]
    rows = [
        Row(((b, x, 1.0), (a, x, -1.0)), weight / len(grid), weight < 1)
        for a, b, weight in pairs
        for x in points[b]
    ]
    rows += [
        Row(((b, y, 1.0), (a, x, -1.0)), LANDMARK)
        for a, b, p, q in ties
        for x, y in zip(p, q, strict=True)
    ]
    rows += [
        # at the middle of the gap: so it turns with the two, and is kept, whatever its length
        Row(((m.b, x, 1.0), (m.a, x, -1.0)), NEAR)
        for m in near
        for x in (fields[m.a](m.p) + fields[m.b](m.q)) / 2
    ]
    stiff = 2 * TURN * size**2 / LANDMARK
    moves = far_turns.start(known, held, pairs, ties, middle=middle, stiff=stiff)
    for turn in range(ROUNDS):
        small = _solved(rows, pairs, moves, free, middle, size)
        for k, (matrix, shift) in small.items():
            before = moves[k]
            # only the turn: its stretch is an error of first order; and never a mirror
            if turn < ROUNDS - 1 or np.linalg.det(matrix) <= 0:
                turned = _turn(matrix)
                centre = before[0] @ points[k].mean(0) + before[1]
                shift = shift + (matrix - turned) @ centre
                matrix = turned
            moves[k] = (matrix @ before[0], matrix @ before[1] + shift)
    return {k: f if k in held else _after(moves[k], f) for k, f in fields.items()}


def springs(
    known: Sequence[int], matched: Collection[tuple[int, int]]
) -> list[tuple[int, int, float]]:
    """All neighbours, and the other matched pairs across a gap that is loose: a, b, weight."""
    both = {(min(pair), max(pair)) for pair in matched}
    out = [(a, b, 1.0 if (a, b) in both else LOOSE) for a, b in pairwise(known)]
    at = {k: n for n, k in enumerate(known)}
    loose = np.cumsum([0, *(weight < 1 for *_, weight in out)])  # gaps before each section
    return out + [
        (a, b, 1.0)
        for a, b in sorted(both)
        if a in at and b in at and at[b] - at[a] > 1 and loose[at[b]] > loose[at[a]]
    ]


def _turn(matrix: np.ndarray) -> np.ndarray:
    """The rotation nearest to a matrix (Kabsch 1976)."""
    u, _, vt = np.linalg.svd(matrix)
    u[:, 1] *= np.sign(np.linalg.det(u @ vt))
    return np.asarray(u @ vt)


def _solved(
    rows: Sequence[Row],
    pairs: Sequence[tuple[int, int, float]],
    moves: Mapping[int, Affine],
    free: Sequence[int],
    middle: np.ndarray,
    size: float,
) -> dict[int, Affine]:
    """The affine of each free section, after its move so far, that meets the rows best.

    Unknowns per section: for y and for x a shift and the two slopes, of places from `middle` in
    units of `size`; so all are pixels.
    """
    at = {k: 6 * n for n, k in enumerate(free)}
    entries: list[tuple[int, int, float]] = []
    target: list[float] = []
    for row in rows:
        root = float(np.sqrt(row.weight))
        place = {k: moves[k][0] @ x + moves[k][1] for k, x, _ in row.ends}
        rest = np.zeros(2) if row.loose else -sum(sign * place[k] for k, _, sign in row.ends)
        for axis in (0, 1):
            for k, _, sign in row.ends:
                if k in at:
                    y, x = (place[k] - middle) / size
                    first = at[k] + 3 * axis
                    entries += [
                        (len(target), first + n, root * sign * v) for n, v in enumerate((1.0, y, x))
                    ]
            target.append(root * float(np.asarray(rest)[axis]))
    for a, b, weight in pairs:
        root = float(np.sqrt(STRAIN * weight))
        for k, sign in ((a, -root), (b, root)):
            if k in at:
                # slopes of y are unknowns 1 and 2 of a section; of x 4 and 5
                n, first = len(target), at[k]
                entries += [(n, first + 1, sign), (n + 1, first + 5, sign)]
                entries += [(n + 2, first + i, sign / np.sqrt(2)) for i in (2, 4)]
                turn = sign * np.sqrt(TURN / STRAIN / 2)
                entries += [(n + 3, first + 2, -turn), (n + 3, first + 4, turn)]
        turned = _angle(moves[b]) - _angle(moves[a]) if weight >= 1 else 0.0  # before this round
        turned = (turned + np.pi) % (2 * np.pi) - np.pi
        target += [0.0, 0.0, 0.0, -np.sqrt(2 * TURN * weight) * size * turned]
    r, c, v = (np.array(e) for e in zip(*entries, strict=True))
    system = sp.csr_array((v, (r, c)), shape=(len(target), 6 * len(free)))
    found = sla.spsolve(sp.csc_matrix(system.T @ system), system.T @ np.array(target)).reshape(
        -1, 2, 3
    )
    out = {}
    for k, u in zip(free, found, strict=True):
        slope = u[:, 1:] / size
        out[k] = (np.eye(2) + slope, u[:, 0] - slope @ middle)
    return out


def _angle(move: Affine) -> float:
    return float(np.arctan2(move[0][1, 0], move[0][0, 0]))


def _after(move: Affine, f: Field) -> Field:
    """The field followed by an affine; exact, on the same lattice."""
    matrix, shift = move
    displacement = None if f.displacement is None else f.displacement @ matrix.T
    return replace(
        f, matrix=matrix @ f.matrix, shift=matrix @ f.shift + shift, displacement=displacement
    )


def residual(fields: Mapping[int, Field], m: Matches) -> float:
    """How far apart the places of a set of landmarks lie on average, pixels."""
    return float(np.linalg.norm(fields[m.b](m.q) - fields[m.a](m.p), axis=1).mean())
