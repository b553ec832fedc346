"""The rough placing of a stack: each section turned and shifted onto the one before it.

What it is: thumbnails, rough alignments of neighbours, and their composition into one frame.
What it is not: the rough alignment of two thumbnails (petavox.align.coarse), or anything elastic.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from petavox.align import coarse
from petavox.align.frames import Field, Lattice
from petavox.align.matching import Source
from petavox.align.solve import Matches

AHEAD = 8
"""Neighbours compared at once."""
BY_HAND = 2
"""Landmarks of a pair that place one section on the other: a turn and a shift."""


def thumb_factor(shape: tuple[int, int], longest: int) -> int:
    """The power of two that brings a section to at most `longest` pixels."""
    factor = 1
    while max(shape) / factor > longest:
        factor *= 2
    return factor


def rigid(f: Field, shape: tuple[int, int]) -> Field:
    """The rotation (or flip) and shift nearest to a field over a section (Procrustes)."""
    p = Lattice((0.0, 0.0), 1.0, (5, 5)).points / 4 * (np.asarray(shape, float) - 1)
    return _procrustes(p, f(p))


def _procrustes(p: np.ndarray, q: np.ndarray) -> Field:
    """The rotation (or flip) and shift that brings points p nearest to q, both (n, 2)."""
    cp, cq = p.mean(0), q.mean(0)
    u, _, vt = np.linalg.svd((q - cq).T @ (p - cp))
    m = u @ vt
    return Field.affine(m, cq - m @ cp)


def carry_over(
    placed: dict[int, Field],
    held: Mapping[int, Field],
    known: Collection[int],
    shapes: Mapping[int, tuple[int, int]],
) -> None:
    """Carry what the held sections' solve changed over to the rough transforms after them.

    placed: rough transforms, changed in place: all after the held ones up to the next of `known`
    (sections with fields of their own, on which those after them were placed).
    """
    last = max(held)
    solved, guess = rigid(held[last], shapes[last]), placed[last]
    linear = solved.matrix @ np.linalg.inv(guess.matrix)
    shift = solved.shift - linear @ guess.shift
    for k in held:
        placed[k] = rigid(held[k], shapes[k])
    for k in sorted(k for k in placed if k > last):
        if k in known:
            break
        f = placed[k]
        placed[k] = Field.affine(linear @ f.matrix, linear @ f.shift + shift)


@dataclass
class Chain:
    """Rough rigid transforms section -> common frame; who was not placed and why; what was odd.

    breaks: sections that fit the one after them, but none before: their place is a guess.
    """

    fields: dict[int, Field] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)


def chain_up(
    source: Source,
    order: Sequence[int],
    known: Mapping[int, Field],
    *,
    thumbnail_px: int,
    narrow: float,
    landmarks: Sequence[Matches] = (),
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
    run: Callable[..., Iterable[Any]] = map,
) -> Chain:
    """Place each section by the one before it; if that fails, by the two before that.

    A section that fits none of them but the one after it begins a new run (too much tissue lost
    between): it is laid on the one before, told in `breaks`, and goes on from there.

    known: sections whose fields are given.  thumbnail_px: longest side of what is compared.
    narrow: degrees searched first, either way.  landmarks: two or more between a section and
    placed ones place it instead.  run: like `map`; neighbours are compared at once.
    """
    largest = tuple(np.max([source.shape(k) for k in order], axis=0))
    factor = thumb_factor((int(largest[0]), int(largest[1])), thumbnail_px)
    thumbs: dict[int, coarse.Thumbnail] = {}
    seen: dict[tuple[int, int], coarse.Rough] = {}

    def made(k: int) -> coarse.Thumbnail:
        image, valid = source.level(k, factor)
        return coarse.thumbnail(image, valid, factor, device=device)

    def look(pairs: Sequence[tuple[int, int]]) -> None:
        """Compare pairs that were not compared before."""
        new = [p for p in pairs if p not in seen]
        needed = sorted({k for p in new for k in p} - set(thumbs))
        thumbs.update(zip(needed, run(made, needed), strict=True))
        found = run(
            lambda p: coarse.rough(thumbs[p[0]], thumbs[p[1]], narrow=narrow, device=device), new
        )
        seen.update(zip(new, found, strict=True))
        for old in [n for n in thumbs if n < max(thumbs) - 2 * AHEAD]:
            del thumbs[old]

    out = Chain({k: rigid(f, source.shape(k)) for k, f in known.items()})
    placed = out.fields
    ends: list[int] = []  # the last section before each break
    for i, k in enumerate(order):
        if k in placed:
            continue
        before = [j for j in order[:i] if j in placed][-3:][::-1]
        if not before:
            before = [j for j in order[i + 1 :] if j in placed][:3]
        if not before:
            placed[k] = Field()
            continue
        if before[0] == order[i - 1] and (before[0], k) not in seen:
            ahead = [*order[i - 1 : i], *(j for j in order[i : i + AHEAD] if j not in placed)]
            look(list(itertools.pairwise(ahead)))
        hand = _by_hand(k, placed, landmarks)
        if hand is not None:
            placed[k] = hand
            continue
        # a run of a few strange sections does not hide those before it
        before += [j for j in ends[-1:] if j not in before]
        best: coarse.Rough | None = None
        for j in before:
            look([(j, k)])
            found = seen[j, k]
            if best is None or found.trust > best.trust:
                best, base = found, j
            if found.found:
                break
            say(
                f"sections {j} and {k}: no rough alignment found (trust {found.trust:.2f}); "
                "trying the section before."
            )
        assert best is not None
        if not best.found:
            cause = (
                f"no rough alignment to sections {', '.join(map(str, before))} "
                f"(best trust {best.trust:.2f})"
            )
            after = order[i + 1 : i + 2]
            look([(k, j) for j in after])
            if any(seen[k, j].found for j in after):
                ends.append(before[0])
                out.breaks.append(k)
                placed[k] = _laid_on(placed[before[0]], source.shape(before[0]), source.shape(k))
                say(
                    f"a NEW RUN begins at section {k}: {cause}, but to section {after[0]}; where "
                    "it lies is a guess: give --landmarks between the two runs."
                )
                continue
            out.failures[k] = cause
            say(f"section {k} FAILED: {cause}; it is left out and bridged.")
            continue
        back = np.linalg.inv(best.transform.matrix)
        m = placed[base].matrix @ back
        t = placed[base].shift - m @ best.transform.shift
        placed[k] = rigid(Field.affine(m, t), source.shape(k))
        for line in _odd(k, placed, before, narrow):
            out.notes.append(line)
            say(line)
    return out


def _by_hand(k: int, placed: Mapping[int, Field], landmarks: Sequence[Matches]) -> Field | None:
    """The rigid transform of section k that landmarks to placed sections tell, if enough do."""
    points, targets = [], []
    for m in landmarks:
        for own, p, other, q in ((m.a, m.p, m.b, m.q), (m.b, m.q, m.a, m.p)):
            if own == k and other in placed:
                points.append(p)
                targets.append(placed[other](q))
    p = np.concatenate([np.zeros((0, 2)), *points])
    if len(np.unique(p, axis=0)) < BY_HAND:
        return None
    return _procrustes(p, np.concatenate(targets))


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
