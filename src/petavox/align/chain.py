"""The rough placing of a stack: each section turned and shifted onto the one before it.

What it is: the composition of rough alignments of neighbours into one frame. What it is not: these
alignments (petavox.align.thumbnails), or anything elastic.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from petavox.align.frames import Field, Lattice
from petavox.align.matching import Source
from petavox.align.solve import Matches
from petavox.align.thumbnails import AHEAD, Comparison

BY_HAND = 2
"""Landmarks of a pair that place one section on the other: a turn and a shift."""


def rigid(f: Field, shape: tuple[int, int]) -> Field:
    """The rotation (or flip) and shift nearest to a field over a section (Procrustes)."""
    p = Lattice((0.0, 0.0), 1.0, (5, 5)).points / 4 * (np.asarray(shape, float) - 1)
    return _procrustes(p, f(p))


def _procrustes(p: np.ndarray, q: np.ndarray, hand: float = 1.0) -> Field:
    """The rotation (or flip) and shift that brings points p nearest to q, both (n, 2).

    hand: below 0 for a flip, where the points lie nearly on a line and cannot tell.
    """
    cp, cq = p.mean(0), q.mean(0)
    u, s, vt = np.linalg.svd((q - cq).T @ (p - cp))
    if s[1] < 0.05 * s[0] and np.linalg.det(u @ vt) * hand < 0:
        u[:, 1] *= -1
    m = u @ vt
    return Field.affine(m, cq - m @ cp)


def carried(
    rough: Mapping[int, Field],
    held: Mapping[int, Field],
    group: Iterable[int],
    shapes: Callable[[int], tuple[int, int]],
) -> dict[int, Field]:
    """Rigid transforms of the sections of a group, after what the solve changed of the rough ones.

    rough: of all sections, in one frame.  held: fields of solved sections; each moves those after
    it, up to the next, as it was moved itself.
    """
    out = {}
    linear, shift = np.eye(2), np.zeros(2)
    for k in sorted({*group, *held}):
        f = rough[k]
        if k in held:
            out[k] = rigid(held[k], shapes(k))
            linear = out[k].matrix @ np.linalg.inv(f.matrix)
            shift = out[k].shift - linear @ f.shift
        else:
            out[k] = Field.affine(linear @ f.matrix, linear @ f.shift + shift)
    return out


@dataclass
class Chain:
    """Rough rigid transforms section -> common frame; who was not placed and why; what was odd.

    breaks: sections that begin a new run: they fit the one after them, but none before, so that
    their place is a guess, until landmarks join them.  runs: section -> number of its run; 0 is the
    first, or what was known.  by_hand: sections placed by landmarks -> one that these are of.
    """

    fields: dict[int, Field] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    runs: dict[int, int] = field(default_factory=dict)
    by_hand: dict[int, int] = field(default_factory=dict)


def chain_up(
    source: Source,
    order: Sequence[int],
    known: Mapping[int, Field],
    *,
    thumbnail_px: int,
    narrow: float,
    landmarks: Sequence[Matches] = (),
    near: int = 12,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
    run: Callable[..., Iterable[Any]] = map,
) -> Chain:
    """Place each section by the one before it; if that fails, by the two before that.

    A section that fits none of them but the one after it begins a new run (too much tissue lost
    between): it is laid on the one before, told in `breaks`, and goes on from there. Sections in
    front of the first known one are placed backwards from it.

    known: sections whose fields are given.  thumbnail_px: longest side of what is compared.
    narrow: degrees searched first, either way.  landmarks: two or more between a section and
    placed ones place it; those to sections more than `near` places away only if no rough alignment
    is found, for they would tear the section from its neighbours.
    run: like `map`; neighbours are compared at once.
    """
    out = Chain(
        {k: rigid(f, source.shape(k)) for k, f in known.items()}, runs=dict.fromkeys(known, 0)
    )
    if not known and order:
        out.fields[order[0]], out.runs[order[0]] = Field(), 0
    compare = Comparison(source, order, thumbnail_px, narrow, device, run)
    place = {k: n for n, k in enumerate(order)}
    usable = [m for m in landmarks if m.a in place and m.b in place]
    close = [m for m in usable if abs(place[m.a] - place[m.b]) <= near]
    for line in (list(order), list(order)[::-1]) if known else (list(order),):
        _walk(line, out, compare, source, close, usable, say)
    return out


def joined(runs: Mapping[int, int], run: int, landmarks: Sequence[Matches]) -> bool:
    """Do enough landmarks tell how a run lies against those before it?

    landmarks: those that were used in the end, of sections that have fields.
    """
    points = [np.zeros((0, 2))]
    for m in landmarks:
        a, b = runs.get(m.a), runs.get(m.b)
        if a is not None and b is not None and a != b and max(a, b) == run:
            points.append(m.p if a == run else m.q)
    return len(np.unique(np.concatenate(points), axis=0)) >= BY_HAND


def _walk(
    line: Sequence[int],
    out: Chain,
    compare: Comparison,
    source: Source,
    close: Sequence[Matches],
    landmarks: Sequence[Matches],
    say: Callable[[str], None],
) -> None:
    """Place the sections of a line, each by those before it in the line; changes `out`.

    close: those of the landmarks that go before a rough alignment.
    """
    placed = out.fields
    ends: list[int] = []  # the last section before each break
    for i, k in enumerate(line):
        before = [j for j in line[:i] if j in placed][-3:][::-1]
        if k in placed or k in out.failures or not before:
            continue
        hand = _by_hand(k, placed, close)
        if hand is not None:
            placed[k], out.by_hand[k] = hand
            out.runs[k] = out.runs[hand[1]]
            continue
        if before[0] == line[i - 1] and (before[0], k) not in compare.seen:
            ahead = [*line[i - 1 : i], *(j for j in line[i : i + AHEAD] if j not in placed)]
            compare(list(itertools.pairwise(ahead)))
        # a run of a few strange sections does not hide those before it
        before += [j for j in ends[-1:] if j not in before]
        base, best = before[0], None
        for j in before:
            (found,) = compare([(j, k)])
            if best is None or found.trust > best.trust:
                best, base = found, j
            if found.found:
                break
            say(
                f"sections {j} and {k}: no rough alignment found (trust {found.trust:.2f}); "
                "trying the section before."
            )
        assert best is not None
        if best.found:
            back = np.linalg.inv(best.transform.matrix)
            m = placed[base].matrix @ back
            t = placed[base].shift - m @ best.transform.shift
            placed[k], out.runs[k] = rigid(Field.affine(m, t), source.shape(k)), out.runs[base]
            odd = _odd(k, placed, before[:3], compare.narrow)
            out.notes += odd
            for told in odd:
                say(told)
            continue
        hand = _by_hand(k, placed, landmarks)
        if hand is not None:
            placed[k], out.by_hand[k] = hand
            out.runs[k] = out.runs[hand[1]]
            continue
        cause = (
            f"no rough alignment to sections {', '.join(map(str, before))} "
            f"(best trust {best.trust:.2f})"
        )
        after = line[i + 1 : i + 2]
        if any(found.found for found in compare([(k, j) for j in after])):
            ends.append(before[0])
            out.breaks.append(k)
            out.runs[k] = max(out.runs.values()) + 1
            placed[k] = _laid_on(placed[before[0]], source.shape(before[0]), source.shape(k))
            say(
                f"a NEW RUN begins at section {k}: {cause}, but to section {after[0]}; where it "
                "lies is a guess: give --landmarks between the two runs."
            )
        else:
            out.failures[k] = cause
            say(f"section {k} FAILED: {cause}; it is left out and bridged.")


def _by_hand(
    k: int, placed: Mapping[int, Field], landmarks: Sequence[Matches]
) -> tuple[Field, int] | None:
    """The rigid transform of section k that landmarks to placed sections tell, if enough do.

    Returns it and one of these sections.
    """
    points, targets, others = [], [], []
    for m in landmarks:
        for own, p, other, q in ((m.a, m.p, m.b, m.q), (m.b, m.q, m.a, m.p)):
            if own == k and other in placed:
                points.append(p)
                targets.append(placed[other](q))
                others.append(other)
    p = np.concatenate([np.zeros((0, 2)), *points])
    if len(np.unique(p, axis=0)) < BY_HAND:
        return None
    hand = float(np.linalg.det(placed[others[0]].matrix))
    return _procrustes(p, np.concatenate(targets), hand), others[0]


def _laid_on(f: Field, of: tuple[int, int], shape: tuple[int, int]) -> Field:
    """The transform of a section of `shape` whose middle lies where that of another does."""
    middle = (np.array([of, shape], float) - 1) / 2
    return Field.affine(f.matrix, f(middle[:1])[0] - f.matrix @ middle[1])


def _odd(k: int, placed: Mapping[int, Field], before: Sequence[int], narrow: float) -> list[str]:
    """How section k lies unlike the up to three before it: flipped, or rotated beyond `narrow`.

    Compared with the one of them that is most like the others: after one that is turned, the
    next is not called turned for not being so.
    """

    def apart(a: int, b: int) -> tuple[bool, float]:
        m = np.linalg.inv(placed[b].matrix) @ placed[a].matrix  # a -> b
        flipped = bool(np.linalg.det(m) < 0)
        degrees = float(np.rad2deg(np.arctan2(m[1, 0], m[0, 0])))
        return flipped, (degrees + 180) % 360 - 180

    usual = min(before, key=lambda a: sum(f + abs(d) for f, d in (apart(a, b) for b in before)))
    flipped, degrees = apart(usual, k)
    out = []
    if flipped:
        out.append(f"section {k} is flipped relative to section {usual}")
    if abs(degrees) > narrow:
        out.append(f"section {k} is rotated by {degrees:.1f} degrees relative to section {usual}")
    return out
