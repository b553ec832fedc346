"""How far each section is turned, from the matches of all sections at once.

What it is: one angle per section, from the turns that the matches of pairs show. The joint solve
(petavox.align.solve) resists turns of a section against its base, weakly; a slow turning of the
whole stack, which no pair notices, would be kept for ever if the rough placing had it. What it is
not: elastic, or a change of where sections lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from petavox.align.frames import Field
from petavox.align.solve import Matches

LEAST = 12
"""Matches of a pair from which its turn is believed."""


def turned(
    base: Mapping[int, Field],
    matches: Sequence[Matches],
    fixed: Mapping[int, Field],
    middles: Mapping[int, np.ndarray],
    tolerance: float,
) -> dict[int, Field]:
    """The fields of `base` (affine), each turned about its middle so that matches agree.

    fixed: sections that stay.  middles: section -> a point (2,) of it.  tolerance: px, residual
    at which a match has lost three quarters of its weight (Geman-McClure).
    """
    names = list(base)
    column = {k: i for i, k in enumerate(names)}
    rows, right, weights = [], [], []
    for m in matches:
        if len(m.p) < LEAST or (m.a not in column and m.b not in column):
            continue
        a, b = ((base[k] if k in base else fixed[k])(x) for k, x in ((m.a, m.p), (m.b, m.q)))
        angle, lever = _turn(a, b, m.weight, tolerance)
        row = np.zeros(len(names))
        for k, sign in ((m.b, 1.0), (m.a, -1.0)):
            if k in column:
                row[column[k]] = sign
        rows.append(row)
        right.append(angle)
        weights.append(lever)
    if not rows:
        return dict(base)
    w = np.sqrt(np.array(weights) / np.mean(weights))
    held = 1e-3 * np.eye(len(names))  # what no pair tells stays as it is
    system = np.vstack([w[:, None] * np.array(rows), held])
    angles = np.linalg.lstsq(system, np.concatenate([w * right, np.zeros(len(names))]), rcond=None)
    out = {}
    for k, t in zip(names, angles[0], strict=True):
        c, s = np.cos(t), np.sin(t)
        matrix = np.array([[c, -s], [s, c]]) @ base[k].matrix
        place = base[k](middles[k][None])[0]
        out[k] = Field.affine(matrix, place - matrix @ middles[k])
    return out


def _turn(
    a: np.ndarray, b: np.ndarray, weight: np.ndarray, tolerance: float
) -> tuple[float, float]:
    """The angle by which b must be turned to lie on a (both (n, 2)), and how firmly it is known."""
    w, angle, lever = weight, 0.0, 0.0
    for _ in range(4):
        total = max(w.sum(), 1e-9)
        ca = a - (w[:, None] * a).sum(0) / total
        cb = b - (w[:, None] * b).sum(0) / total
        cross = float((w * (cb[:, 0] * ca[:, 1] - cb[:, 1] * ca[:, 0])).sum())
        dot = float((w * (cb * ca).sum(1)).sum())
        angle, lever = float(np.arctan2(cross, dot)), float((w * (cb**2).sum(1)).sum())
        c, s = np.cos(angle), np.sin(angle)
        gone = np.linalg.norm(ca - cb @ np.array([[c, s], [-s, c]]), axis=1)
        w = weight / (1 + (gone / tolerance) ** 2) ** 2
    return angle, lever
