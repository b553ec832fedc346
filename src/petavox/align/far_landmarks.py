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
there the gap may take all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from petavox.align.frames import Field
from petavox.align.solve import Matches

LANDMARK = 1000.0
"""Weight of a landmark, if that of a pair of neighbours is 1: a person's word is met, whatever the
neighbours lose."""
STRAIN, TURN = 100.0, 10.0
"""What a change of shape, and a turn, between neighbours costs beyond the gap that it makes: one
landmark off the middle is met by a shift, not by turning the stack about it."""
LOOSE = 1e-3
ROUNDS = 4
"""Times the turns are taken as the new start: a large one is no small affine."""

Affine = tuple[np.ndarray, np.ndarray]
"""matrix (2, 2) and shift (2,)."""


@dataclass(frozen=True)
class Row:
    """One equation: sum of sign * C_k(point) over its ends is 0, times the root of its weight."""

    ends: tuple[tuple[int, np.ndarray, float], ...]
    weight: float


def met(
    fields: Mapping[int, Field],
    landmarks: Sequence[Matches],
    matched: Collection[tuple[int, int]],
    fixed: Collection[int],
    shape: Callable[[int], tuple[int, int]],
) -> dict[int, Field]:
    """The fields, moved so that landmarks meet.

    landmarks: of sections in `fields`.  matched: pairs of neighbours (a, b) whose images fit.
    fixed: sections that stay; without any, the first.  shape: pixels of a section.
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
    pairs = [(a, b, 1.0 if (a, b) in matched else LOOSE) for a, b in pairwise(known)]
    rows = [
        Row(((b, x, 1.0), (a, x, -1.0)), weight / len(grid))
        for a, b, weight in pairs
        for x in points[b]
    ]
    rows += [
        Row(((m.b, y, 1.0), (m.a, x, -1.0)), LANDMARK)
        for m in landmarks
        for x, y in zip(fields[m.a](m.p), fields[m.b](m.q), strict=True)
    ]
    moves = {k: (np.eye(2), np.zeros(2)) for k in known}
    for turn in range(ROUNDS):
        small = _solved(rows, pairs, moves, free, middle, size)
        for k, (matrix, shift) in small.items():
            before = moves[k]
            if turn < ROUNDS - 1:  # only the turn: its stretch is an error of first order
                u, _, vt = np.linalg.svd(matrix)
                centre = before[0] @ points[k].mean(0) + before[1]
                shift = shift + (matrix - u @ vt) @ centre
                matrix = u @ vt
            moves[k] = (matrix @ before[0], matrix @ before[1] + shift)
    return {k: f if k in held else _after(moves[k], f) for k, f in fields.items()}


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
        rest = -sum(sign * place[k] for k, _, sign in row.ends)
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
        turned = _angle(moves[b]) - _angle(moves[a])  # before this round
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
