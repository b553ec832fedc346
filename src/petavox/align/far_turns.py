"""Large turns and flips that landmarks ask of the sections of a stack: far_landmarks begins there.

What it is: one turn per section, from least squares over angles, and which pieces of the stack are
mirrored. An affine of first order cannot find a turn of more than some 125 degrees from two
landmarks: it becomes a mirror first. What it is not: shifts, or shapes.

A piece is what hangs together by matches. Nothing is mirrored inside a piece, and one piece against
another only if three landmarks or more, not in a line, cannot be met by a turn.

      piece 0            piece 1
    k-2 ── k-1 ── k  ┆  k+1 ── k+2      ── matched   ┆ not
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph as graph
import scipy.sparse.linalg as sla

Tie = tuple[int, int, np.ndarray, np.ndarray]
"""Sections a and b; places (n, 2) of the same things in them, as they lie now in the volume."""
Spring = tuple[int, int, float]
"""Sections a and b, and the weight that holds them to one another."""


def start(
    known: Sequence[int],
    held: Collection[int],
    springs: Sequence[Spring],
    ties: Sequence[Tie],
    *,
    middle: np.ndarray,
    stiff: float,
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Matrix (2, 2) and shift (2,) of each section: a turn about `middle`, in some after a flip.

    known: all sections, ascending.  held: those that stay.  springs: of weight 1 or more inside a
    piece, below between pieces.  stiff: what a turn (radians squared) of a spring of weight 1
    costs, where a tie costs its pixels squared.
    """
    piece = pieces(known, [(a, b) for a, b, weight in springs if weight >= 1])
    ties = [(a, b, p, q) if (piece[a], a) <= (piece[b], b) else (b, a, q, p) for a, b, p, q in ties]
    flip = _flips(known, held, piece, ties)
    mirror = np.diag([1.0, -1.0])
    flat = {k: mirror if flip[piece[k]] < 0 else np.eye(2) for k in known}
    ties = [(a, b, (p - middle) @ flat[a], (q - middle) @ flat[b]) for a, b, p, q in ties]
    angle = _angles(known, held, piece, springs, ties, stiff)
    out = {}
    for k in known:
        c, s = np.cos(angle[k]), np.sin(angle[k])
        matrix = np.array([[c, -s], [s, c]]) @ flat[k]
        out[k] = (matrix, middle - matrix @ middle)
    return out


def pieces(known: Sequence[int], joined: Sequence[tuple[int, int]]) -> dict[int, int]:
    """Section -> number of the piece that it hangs together with."""
    at = {k: n for n, k in enumerate(known)}
    ends = np.array([(at[a], at[b]) for a, b in joined], int).reshape(-1, 2)
    links = sp.coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(at), len(at)))
    labels = graph.connected_components(links.tocsr(), directed=False)[1]
    return {k: int(labels[n]) for k, n in at.items()}


def _flips(
    known: Sequence[int], held: Collection[int], piece: Mapping[int, int], ties: Sequence[Tie]
) -> dict[int, int]:
    """Piece -> 1, or -1 if it is to be mirrored.

    One of which landmarks tell nothing follows the section before it.
    """
    asked: dict[tuple[int, int], int] = {}
    keys = [(piece[a], piece[b]) for a, b, *_ in ties]
    for (i, j), (p, q) in _pooled(keys, ties).items():
        hand = _hand(p, q)
        if i != j and hand:
            asked[i, j] = hand
    signs = {piece[k]: 1 for k in held}

    def spread() -> None:
        new = True
        while new:
            new = False
            for (i, j), hand in asked.items():
                for one, other in ((i, j), (j, i)):
                    if one in signs and other not in signs:
                        signs[other], new = signs[one] * hand, True

    spread()
    last = 1
    for k in known:
        if piece[k] not in signs:
            signs[piece[k]] = last
            spread()
        last = signs[piece[k]]
    return signs


def _pooled(
    keys: Sequence[tuple[int, int]], ties: Sequence[Tie]
) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """The places of all ties of a key."""
    parts: dict[tuple[int, int], list[Tie]] = {}
    for key, tie in zip(keys, ties, strict=True):
        parts.setdefault(key, []).append(tie)
    return {
        key: (np.concatenate([tie[2] for tie in some]), np.concatenate([tie[3] for tie in some]))
        for key, some in parts.items()
    }


def _hand(p: np.ndarray, q: np.ndarray) -> int:
    """1 if a turn brings places q to p, -1 if only a flip does, 0 if they cannot tell."""
    if len(np.unique(q, axis=0)) < 3:
        return 0
    p, q = p - p.mean(0), q - q.mean(0)
    u, s, vt = np.linalg.svd(p.T @ q)
    if s[1] < 0.05 * s[0]:  # nearly in a line
        return 0
    if np.linalg.det(u @ vt) > 0:
        return 1
    total = float((p**2).sum() + (q**2).sum())
    # one wrong landmark of three leaves something after a flip too
    return -1 if total - 2 * (s[0] + s[1]) < 0.25 * (total - 2 * (s[0] - s[1])) else 0


def _angles(
    known: Sequence[int],
    held: Collection[int],
    piece: Mapping[int, int],
    springs: Sequence[Spring],
    ties: Sequence[Tie],
    stiff: float,
) -> dict[int, float]:
    """The turn of each section, radians, that springs and ties agree on best."""
    wanted = [(a, b, stiff * weight, 0.0) for a, b, weight in springs]
    # one landmark of each of two pairs tells the turn of a piece as well as two of one pair
    keys = [(-1 - piece[a], piece[b]) if piece[a] != piece[b] else (a, b) for a, b, *_ in ties]
    pooled = _pooled(keys, ties)
    for key, (a, b, *_) in zip(keys, ties, strict=True):
        p, q = (x - x.mean(0) for x in pooled[key])
        dot, cross = np.sum(q * p), np.sum(q[:, 0] * p[:, 1] - q[:, 1] * p[:, 0])
        share = np.hypot(dot, cross) / keys.count(key)
        if share:
            wanted.append((a, b, float(share), float(np.arctan2(cross, dot))))
    wanted = _unwound(known, held, wanted)
    free = [k for k in known if k not in held]
    at = {k: n for n, k in enumerate(free)}
    entries = [
        (n, at[k], sign * np.sqrt(weight))
        for n, (a, b, weight, _) in enumerate(wanted)
        for k, sign in ((a, -1.0), (b, 1.0))
        if k in at
    ]
    r, c, v = (np.array(e) for e in zip(*entries, strict=True))
    system = sp.csr_array((v, (r, c)), shape=(len(wanted), len(free)))
    target = np.array([np.sqrt(weight) * turn for _, _, weight, turn in wanted])
    found = np.atleast_1d(sla.spsolve(sp.csc_matrix(system.T @ system), system.T @ target))
    return dict.fromkeys(known, 0.0) | {k: float(x) for k, x in zip(free, found, strict=True)}


def _unwound(
    known: Sequence[int], held: Collection[int], wanted: Sequence[tuple[int, int, float, float]]
) -> list[tuple[int, int, float, float]]:
    """The turns, each with the whole turns that bring it nearest to those along the stiffest tree.

    Around a loop 178 and -178 degrees would else differ by 356, which its sections would share.
    """
    at = {k: 0 if k in held else n for n, k in enumerate(known, 1)}  # all that stay are one
    best: dict[tuple[int, int], tuple[float, float]] = {}
    for a, b, weight, turn in wanted:
        i, j = at[a], at[b]
        key, there = ((i, j), turn) if i < j else ((j, i), -turn)
        if i != j and weight > best.get(key, (0.0, 0.0))[0]:
            best[key] = (weight, there)
    ends = np.array(list(best), int).reshape(-1, 2)
    cost = -np.array([weight for weight, _ in best.values()])
    size = len(known) + 1
    links = sp.coo_array((cost, (ends[:, 0], ends[:, 1])), shape=(size, size)).tocsr()
    tree = graph.minimum_spanning_tree(links)
    order, before = graph.breadth_first_order(tree, 0, directed=False)
    angle = np.zeros(size)
    for n in map(int, order[1:]):
        m = int(before[n])
        angle[n] = angle[m] + (best[m, n][1] if m < n else -best[n, m][1])
    out = []
    for a, b, weight, turn in wanted:
        along = float(angle[at[b]] - angle[at[a]])
        out.append((a, b, weight, along + (turn - along + np.pi) % (2 * np.pi) - np.pi))
    return out
