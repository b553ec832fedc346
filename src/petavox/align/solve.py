"""All fields of a group of images at once, from the matches between them.

What it is: one sparse least-squares problem for sections of a stack (or tiles of a section).
What it is not: matching. The unknowns u_k are displacements on control grids, added to a base
transform; the energy, in pixels of the full image, is

    sum over matches   w rho(|T_b(q) - T_a(p)|)  (stride / h)^2          T_k = base_k + u_k
    + sum over images  (smooth / h)^4 s |D2 u|^2 + (jerk / h)^6 |D3 u|^2
                       + (slope / h)^2 s |D1 u|^2 + anchor |u|^2

h: spacing of the control grid; stride: distance of match points; so `smooth` is a length: what
varies over less than about 3 x `smooth` is taken for noise. D3, D2, D1: third, second, first
differences;
an affine costs no bending. s: stiffness 0..1 (0 carries no spring: a cut). rho: Geman-McClure,
r^2 / (1 + (r / tolerance)^2), by iteratively reweighted least squares: weights (1 + (r/t)^2)^-2,
so a false match loses all its force. y and x share one factorisation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from petavox.align import normal
from petavox.align.frames import Field, Lattice


@dataclass(frozen=True)
class Matches:
    """Points that show one place in two images: p in image a is q in image b.

    p, q: (n, 2) pixels, y x.  weight: (n,) 0..1.  stride: distance of neighbouring points, pixels.
    inlier: (n,) 0..1, what the last solve left of the weights.
    information: what one match tells about a shift, 1 / pixel^2 (correlate.coherent); 0: unknown.
    """

    a: int
    b: int
    p: np.ndarray
    q: np.ndarray
    weight: np.ndarray
    stride: float
    inlier: np.ndarray = field(default_factory=lambda: np.zeros(0))
    information: float = 0.0


@dataclass(frozen=True)
class Stiffness:
    """How the control grids resist; lengths in pixels (see the module)."""

    smooth: float
    slope: float = 25.0
    jerk: float = 0.0
    anchor: float = 1e-7
    tolerance: float = 6.0
    rounds: int = 4


@dataclass(frozen=True)
class Solved:
    """The fields, and per list of matches the residuals (n,) in pixels and weights left (n,)."""

    fields: dict[int, Field]
    residuals: list[np.ndarray]
    inliers: list[np.ndarray]


def relax(
    base: Mapping[int, Field],
    lattices: Mapping[int, Lattice],
    matches: Sequence[Matches],
    stiffness: Stiffness,
    *,
    fixed: Mapping[int, Field] | None = None,
    springs: Mapping[int, np.ndarray] | None = None,
    run: Callable[..., Iterable[Any]] = map,
) -> Solved:
    """Fields of the images of `base`, given matches among them and with images held fixed.

    base: image -> transform to start from (its displacement, if any, is kept and resampled).
    lattices: image -> control grid.  fixed: images that do not move, such as sections solved
    before.  springs: image -> stiffness per control point (ny, nx), 0..1; default 1.
    run: like `map`; the map of a thread pool works on images at once.
    """
    fixed = fixed or {}
    springs = springs or {}
    names = list(base)
    counts = [lattices[k].shape[0] * lattices[k].shape[1] for k in names]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(int)
    first = dict(zip(names, starts[:-1].tolist(), strict=True))
    data, target, w0, scale = _system(base, lattices, matches, fixed, first, int(starts[-1]))
    plain = functools.cache(lambda lattice: _regular(lattice, stiffness, np.ones(lattice.shape)))
    regular = [
        plain(lattices[k])
        if k not in springs or (springs[k] == 1).all()
        else _regular(lattices[k], stiffness, springs[k])
        for k in names
    ]
    problem = normal.Problem(
        data, regular, [_sparser(lattices[k]) for k in names], starts.tolist(), run
    )
    w, u = w0.copy(), np.zeros((int(starts[-1]), 2))
    r = np.zeros(len(target))
    for turn in range(max(stiffness.rounds, 1)):
        u = problem.solve(w * scale, target, u)
        r = np.linalg.norm(data @ u - target, axis=1)
        # the first rounds forgive more, so that a good match far from the start is not lost
        t = stiffness.tolerance * (3.0 if turn == 0 and stiffness.rounds > 2 else 1.0)
        w = w0 / (1 + (r / t) ** 2) ** 2
    fields = {}
    for k in names:
        lattice = lattices[k]
        own = u[first[k] : first[k] + lattice.shape[0] * lattice.shape[1]]
        own = own + base[k].displaced(lattice.points)
        fields[k] = Field(base[k].matrix, base[k].shift, lattice, own.reshape(*lattice.shape, 2))
    if not matches:
        return Solved(fields, [], [])
    cuts = np.cumsum([len(m.p) for m in matches])[:-1]
    share = w / np.maximum(w0, 1e-12)
    return Solved(fields, np.split(r, cuts), np.split(share, cuts))


def _sparser(lattice: Lattice) -> sp.csr_matrix:
    """Interpolation from a few points to a control grid: how an image moves as a whole."""
    y, x = lattice.shape
    h = lattice.spacing
    far = (lattice.origin[0] + (y - 1) * h, lattice.origin[1] + (x - 1) * h)
    few = Lattice.covering(lattice.origin, far, h * max((max(y, x) - 1) / 6, 1.0))
    return few.matrix(lattice.points)


def _system(
    base: Mapping[int, Field],
    lattices: Mapping[int, Lattice],
    matches: Sequence[Matches],
    fixed: Mapping[int, Field],
    first: Mapping[int, int],
    size: int,
) -> tuple[sp.csr_array, np.ndarray, np.ndarray, np.ndarray]:
    """Rows B_b(q) - B_a(p), what they should equal, weights and scale of all matches."""
    rows, targets, weights, scales = [], [], [], []
    start = 0
    entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for m in matches:
        total = np.zeros((len(m.p), 2))
        spacing = 1.0
        for k, points, sign in ((m.b, m.q, 1.0), (m.a, m.p, -1.0)):
            transform = fixed[k] if k in fixed else base[k]
            total -= sign * transform(points)
            if k not in fixed:
                part = lattices[k].matrix(points).tocoo()
                entries.append((part.row + start, part.col + first[k], sign * part.data))
                spacing = lattices[k].spacing
        targets.append(total)
        weights.append(m.weight)
        scales.append(np.full(len(m.p), (m.stride / spacing) ** 2))
        start += len(m.p)
    if not entries:
        empty = np.zeros(0)
        return sp.csr_array((0, size)), np.zeros((0, 2)), empty, empty
    r, c, v = (np.concatenate([e[i] for e in entries]) for i in range(3))
    rows = sp.csr_array((v, (r, c)), shape=(start, size))
    return rows, np.concatenate(targets), np.concatenate(weights), np.concatenate(scales)


def _regular(lattice: Lattice, stiffness: Stiffness, springs: np.ndarray) -> sp.csr_array:
    """Bending, slope and anchor energies of one control grid; springs (ny, nx) weigh them."""
    ny, nx = lattice.shape
    h = lattice.spacing
    one = {n: sp.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n)) for n in {ny, nx}}
    two = {
        n: sp.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(n - 2, n)) for n in {ny, nx}
    }
    iy, ix = sp.eye_array(ny), sp.eye_array(nx)
    s = springs
    bend = [
        (sp.kron(two[ny], ix), np.minimum(np.minimum(s[:-2], s[1:-1]), s[2:]), 1.0),
        (sp.kron(iy, two[nx]), np.minimum(np.minimum(s[:, :-2], s[:, 1:-1]), s[:, 2:]), 1.0),
        (
            sp.kron(one[ny], one[nx]),
            np.minimum(np.minimum(s[1:, 1:], s[:-1, :-1]), np.minimum(s[1:, :-1], s[:-1, 1:])),
            2.0,
        ),
    ]
    slope = [
        (sp.kron(one[ny], ix), np.minimum(s[1:], s[:-1])),
        (sp.kron(iy, one[nx]), np.minimum(s[:, 1:], s[:, :-1])),
    ]
    out = stiffness.anchor * sp.eye_array(ny * nx)
    for d, c, factor in bend:
        out = out + d.T @ sp.diags_array((stiffness.smooth / h) ** 4 * factor * c.ravel()) @ d
    if stiffness.jerk > 0 and min(ny, nx) > 3:
        three = {
            n: sp.diags_array([-1.0, 3.0, -3.0, 1.0], offsets=[0, 1, 2, 3], shape=(n - 3, n))
            for n in {ny, nx}
        }
        c = (stiffness.jerk / h) ** 6
        for d, f in (
            (sp.kron(three[ny], ix), 1.0),
            (sp.kron(iy, three[nx]), 1.0),
            (sp.kron(two[ny], one[nx]), 3.0),
            (sp.kron(one[ny], two[nx]), 3.0),
        ):
            out = out + c * f * (d.T @ d)
    for d, c in slope:
        # a cut carries no spring, but a hair keeps loose ends in place
        out = out + d.T @ sp.diags_array((stiffness.slope / h) ** 2 * (c.ravel() + 1e-4)) @ d
    return sp.csr_array(out)
