"""The distortion that all tiles have in common, from what their overlaps show.

What it is: a robust fit of a lens and a cubic polynomial. What it is not: the tiles' own bends
(petavox.align.mosaic).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from petavox.align.frames import Field, Lattice
from petavox.align.solve import Matches


def lens(matches: Sequence[Matches], shape: tuple[int, int], nodes: int) -> Field:
    """The distortion common to all tiles, from all overlaps. Robust (Geman-McClure).

    Each pair's own shift is free, so only differences inside an overlap count. First a lens
    (Brown 1966: one radial and two decentring terms), then a general cubic polynomial on what is
    left, held back (ridge), because overlaps hardly see some of its terms: x^3 in x, for one.
    An affine part cannot be told from positions and is left at zero. shape: pixels of a tile.
    Returns tile -> undistorted tile, sampled on a control grid.
    """
    middle = (np.asarray(shape, float) - 1) / 2
    scale = float(max(shape)) / 2
    powers = [(i, n - i) for n in (2, 3) for i in range(n + 1)]

    def brown(p: np.ndarray) -> np.ndarray:
        y, x = ((p - middle) / scale).T
        rr = y**2 + x**2
        return np.stack(
            [
                np.stack([y * rr, x * rr], 1),
                np.stack([rr + 2 * y**2, 2 * y * x], 1),
                np.stack([2 * y * x, rr + 2 * x**2], 1),
            ],
            2,
        )  # (n, 2, 3)

    def cubic(p: np.ndarray) -> np.ndarray:
        y, x = ((p - middle) / scale).T
        terms = np.stack([y**i * x**j for i, j in powers], 1)
        zero = np.zeros_like(terms)
        return np.stack([np.concatenate([terms, zero], 1), np.concatenate([zero, terms], 1)], 1)

    lattice = Lattice.covering((0, 0), np.asarray(shape) - 1, max(shape) / nodes)
    displacement = np.zeros((len(lattice.points), 2))
    used = [m for m in matches if len(m.p) >= 4]
    if sum(len(m.p) for m in used) >= 200:
        rest = [m.p - m.q for m in used]
        weights = [m.weight.copy() for m in used]
        for basis, ridge in ((brown, 1e-6), (cubic, 2e-2)):
            coefficients = _common_terms(
                [basis(m.q) - basis(m.p) for m in used], rest, weights, ridge
            )
            rest = [
                t - (basis(m.q) - basis(m.p)) @ coefficients
                for m, t in zip(used, rest, strict=True)
            ]
            displacement += basis(lattice.points) @ coefficients
    return Field(lattice=lattice, displacement=displacement.reshape(*lattice.shape, 2))


def _common_terms(
    terms: list[np.ndarray], targets: list[np.ndarray], weights: list[np.ndarray], ridge: float
) -> np.ndarray:
    """Coefficients c with terms @ c = targets up to a free shift per list; robust.

    terms: per list (n, 2, m).  targets: (n, 2).  weights: (n,).
    """
    shares = [w.copy() for w in weights]
    size = terms[0].shape[2]
    out: np.ndarray = np.zeros(size)
    for _ in range(6):
        normal, right = np.zeros((size, size)), np.zeros(size)
        for g, t, w in zip(terms, targets, shares, strict=True):
            total = max(w.sum(), 1e-9)
            g0 = g - np.einsum("n,nij->ij", w, g) / total
            t0 = t - (w[:, None] * t).sum(0) / total
            normal += np.einsum("n,nij,nik->jk", w, g0, g0)
            right += np.einsum("n,nij,ni->j", w, g0, t0)
        normal += ridge * np.trace(normal) / size * np.eye(size) + 1e-12 * np.eye(size)
        out = np.linalg.solve(normal, right)
        for n, (g, t, own) in enumerate(zip(terms, targets, weights, strict=True)):
            r = t - g @ out
            away = np.linalg.norm(r - np.median(r, axis=0), axis=1)
            shares[n] = np.asarray(own / (1 + away**2) ** 2)
    return out
