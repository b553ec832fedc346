"""What all seams of a section say together: places of tiles, gain and offset, sums around loops.

What it is: small sparse least squares over the graph of tiles. What it is not: anything elastic
(petavox.align.mosaic).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from petavox.align.seams import Seam, StitchSettings


def positions(
    stage: np.ndarray, seams: Sequence[Seam], settings: StitchSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Tile positions (n, 2) from the believed seams, with the stage as a weak prior; robust.

    Returns positions (pixels, y x) and the residual of each seam (pixels). Iteratively reweighted
    (Geman-McClure), so that one false pair cannot throw a tile off; a tile without a believed
    seam keeps its place relative to its neighbours' stage positions.
    """
    n = len(stage)
    good = [s for s in seams if s.trust >= settings.least_trust]
    out = np.array(stage, float)
    residual = np.full(len(seams), np.nan)
    if n == 0 or not good:
        return out, residual
    a = np.array([s.a for s in good])
    b = np.array([s.b for s in good])
    # the place p of tile a is q of tile b: position_a + p = position_b + q
    d = -np.array([s.shift for s in good])
    w0 = np.array([s.trust for s in good])
    w = w0.copy()
    m = len(good)
    rows = np.repeat(np.arange(m), 2)
    columns = np.stack([a, b], 1).ravel()
    edges = sp.csr_array((np.tile([-1.0, 1.0], m), (rows, columns)), shape=(m, n))
    stage_w = np.full(n, settings.stage_weight)
    for tolerance in (60.0, 20.0, 10.0, 6.0, 6.0):
        # neighbours without a believed seam hang together as the stage says
        loose = [s for s in seams if s.trust < settings.least_trust]
        weak = sp.csr_array((0, n))
        right = edges.T @ (w[:, None] * d) + stage_w[:, None] * stage
        normal = edges.T @ sp.diags_array(w) @ edges + sp.diags_array(stage_w)
        if loose:
            la, lb = np.array([s.a for s in loose]), np.array([s.b for s in loose])
            k = len(loose)
            weak = sp.csr_array(
                (
                    np.tile([-1.0, 1.0], k),
                    (np.repeat(np.arange(k), 2), np.stack([la, lb], 1).ravel()),
                ),
                shape=(k, n),
            )
            normal = normal + weak.T @ weak * (5 * settings.stage_weight)
            right = right + weak.T @ (5 * settings.stage_weight * (stage[lb] - stage[la]))
        out = np.asarray(sla.spsolve(normal.tocsc(), right)).reshape(n, 2)
        r = np.linalg.norm(out[b] - out[a] - d, axis=1)
        w = w0 / (1 + (r / tolerance) ** 2) ** 2
    ends = np.array([[s.a, s.b] for s in seams])
    shifts = np.array([s.shift for s in seams])
    residual = np.linalg.norm(out[ends[:, 1]] - out[ends[:, 0]] + shifts, axis=1)
    return out, residual


def gains(seams: Sequence[Seam], count: int) -> dict[int, tuple[float, float]]:
    """Gain and offset per tile, value * gain + offset, so that overlaps have one mean and spread.

    The mean gain of a section is 1 and the mean offset 0; ridge against drift over many tiles.
    """
    good = [s for s in seams if s.trust > 0 and s.level[2] > 1e-6 and s.level[3] > 1e-6]
    if not good or count == 0:
        return {i: (1.0, 0.0) for i in range(count)}
    a = np.array([s.a for s in good])
    b = np.array([s.b for s in good])
    level = np.array([s.level for s in good])

    def spread_out(difference: np.ndarray) -> np.ndarray:
        rows = np.repeat(np.arange(len(a)), 2)
        edges = sp.csr_array(
            (np.tile([-1.0, 1.0], len(a)), (rows, np.stack([a, b], 1).ravel())),
            shape=(len(a), count),
        )
        w = np.ones(len(a))
        x = np.zeros(count)
        for _ in range(3):
            normal = edges.T @ sp.diags_array(w) @ edges + 0.01 * sp.eye_array(count)
            x = np.asarray(sla.spsolve(normal.tocsc(), edges.T @ (w * difference)))
            r = np.abs(edges @ x - difference)
            w = 1 / (1 + (r / (3 * np.median(r) + 1e-6)) ** 2)
        return x - x.mean()

    log_gain = spread_out(np.log(level[:, 2] / level[:, 3]))
    g = np.exp(np.clip(log_gain, -0.7, 0.7))
    offset = spread_out(level[:, 0] * g[a] - level[:, 1] * g[b])
    return {i: (float(g[i]), float(offset[i])) for i in range(count)}


def cycle_residual(seams: Sequence[Seam], settings: StitchSettings) -> float:
    """Mean length (pixels) of the sum of shifts around all loops of three or four tiles."""
    edge: dict[tuple[int, int], np.ndarray] = {}
    links: dict[int, set[int]] = {}
    for s in seams:
        if s.trust >= settings.least_trust:
            edge[s.a, s.b], edge[s.b, s.a] = s.shift, -s.shift
            links.setdefault(s.a, set()).add(s.b)
            links.setdefault(s.b, set()).add(s.a)
    sums = []
    for i, near in links.items():
        for j in near:
            for k in links[j]:
                if k <= i or k == j:
                    continue
                if k in near and i < j < k:
                    sums.append(np.linalg.norm(edge[i, j] + edge[j, k] + edge[k, i]))
                for m in (links[k] & near) - {j}:
                    if i < min(j, k, m) and j < m:
                        sums.append(
                            np.linalg.norm(edge[i, j] + edge[j, k] + edge[k, m] + edge[m, i])
                        )
    return float(np.mean(sums)) if sums else 0.0
