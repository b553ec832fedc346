"""The rough placing of a stack: each section turned and shifted onto the one before it.

What it is: thumbnails, rough alignments of neighbours, and their composition into one frame.
What it is not: the rough alignment of two thumbnails (petavox.align.coarse), or anything elastic.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from petavox.align import coarse
from petavox.align.frames import Field, Lattice
from petavox.align.matching import Source

AHEAD = 8
"""Neighbours compared at once."""


def thumb_factor(shape: tuple[int, int], longest: int) -> int:
    """The power of two that brings a section to at most `longest` pixels."""
    factor = 1
    while max(shape) / factor > longest:
        factor *= 2
    return factor


def rigid(f: Field, shape: tuple[int, int]) -> Field:
    """The rotation (or flip) and shift nearest to a field over a section (Procrustes)."""
    p = Lattice((0.0, 0.0), 1.0, (5, 5)).points / 4 * (np.asarray(shape, float) - 1)
    q = f(p)
    cp, cq = p.mean(0), q.mean(0)
    u, _, vt = np.linalg.svd((q - cq).T @ (p - cp))
    m = u @ vt
    return Field.affine(m, cq - m @ cp)


def carry_over(
    placed: dict[int, Field],
    held: Mapping[int, Field],
    group: Sequence[int],
    shapes: Mapping[int, tuple[int, int]],
) -> None:
    """Carry what the held sections' solve changed over to the rough transforms after them."""
    last = max(held)
    solved, guess = rigid(held[last], shapes[last]), placed[last]
    linear = solved.matrix @ np.linalg.inv(guess.matrix)
    shift = solved.shift - linear @ guess.shift
    for k in group:
        if k in held:
            placed[k] = rigid(held[k], shapes[k])
        elif k > last:
            f = placed[k]
            placed[k] = Field.affine(linear @ f.matrix, linear @ f.shift + shift)


@dataclass
class Chain:
    """Rough rigid transforms section -> common frame; who was not placed and why; what was odd."""

    fields: dict[int, Field] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def chain_up(
    source: Source,
    order: Sequence[int],
    known: Mapping[int, Field],
    *,
    thumbnail_px: int,
    narrow: float,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
    run: Callable[..., Iterable[Any]] = map,
) -> Chain:
    """Place each section by the one before it; if that fails, by the two before that.

    known: sections whose fields are given.  thumbnail_px: longest side of what is compared.
    narrow: degrees searched first, either way.  run: like `map`; neighbours are compared at once.
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
            out.failures[k] = (
                f"no rough alignment to sections {', '.join(map(str, before))} "
                f"(best trust {best.trust:.2f})"
            )
            say(f"section {k} FAILED: {out.failures[k]}; it is left out and bridged.")
            continue
        back = np.linalg.inv(best.transform.matrix)
        m = placed[base].matrix @ back
        t = placed[base].shift - m @ best.transform.shift
        placed[k] = rigid(Field.affine(m, t), source.shape(k))
        for line in _odd(k, placed, before, narrow):
            out.notes.append(line)
            say(line)
    return out


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
