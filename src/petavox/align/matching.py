"""Which sections of a stack are matched with which, and the matching of a share of them.

What it is: one round of matching as plain values (`Round`), which any process can work on for the
sections that it owns; the pairs' results do not depend on who owns what. What it is not: the
correlation (petavox.align.match), the solve, or the order of rounds (petavox.align.stack).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from petavox.align import match, solve
from petavox.align.frames import Field


class Source(Protocol):
    """Sections by number; full-resolution shape, and images averaged down. Safe for threads."""

    def shape(self, k: int) -> tuple[int, int]:
        """Pixels (h, w) of section k."""
        ...

    def level(self, k: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
        """Section k averaged down by `factor`: image (h, w) and where matches may lie (bool)."""
        ...

    def texture(self, k: int, factor: int) -> np.ndarray:
        """The texture channel of section k at that level (petavox.align.texture), (h, w)."""
        ...


@dataclass(frozen=True)
class Round:
    """One round of matching: everything but the images.

    name: of this round in its run.  group: sections, ascending; free: those that may move.
    runs: of each section of the group, the number of its run: what lies in different runs of the
    stack shows different tissue, and is not matched.
    pulls: common frame -> section, full pixels.  low, high: corners of the common frame.
    factor: level.  size, stride, search: of the windows, pixels of the level.  offsets: which
    neighbours.  batch: windows held at once.  least: confidence below which there is no match.
    textured: match the texture too.
    """

    name: str
    group: tuple[int, ...]
    free: tuple[int, ...]
    runs: tuple[int, ...]
    pulls: Mapping[int, Field]
    low: tuple[float, float]
    high: tuple[float, float]
    factor: int
    size: int
    stride: int
    search: int
    offsets: tuple[int, ...]
    batch: int
    least: float
    textured: bool

    def partners(self, k: int) -> list[int]:
        """Earlier sections of its run to match with k: at the offsets, and over a gap two."""
        run = dict(zip(self.group, self.runs, strict=True))
        present = [j for j in self.group if j < k and run[j] == run[k]]
        wanted = {k - o for o in self.offsets} & set(present)
        # over a missing section the nearest two that exist take its place
        wanted |= set(present[-min(2, len(self.offsets)) :])
        moving = set(self.free)
        return sorted(j for j in wanted if k in moving or j in moving)


Matcher = Callable[[Round], list[solve.Matches]]
"""Does a round: one list of matches per pair, in ascending order of (b, a)."""


def matched(
    source: Source,
    of: Round,
    own: Sequence[int],
    *,
    device: str = "cpu",
    run: Callable[..., Iterable[Any]] = map,
    at_once: int = 4,
) -> list[solve.Matches]:
    """Matches of the sections in `own` with their earlier partners, one list per pair.

    run: like `map`; that of a thread pool does sections and pairs at once.  at_once: sections
    transformed before their pairs are compared; with the partners of these, what is in memory.
    """
    wanted = {k: of.partners(k) for k in sorted(own)}
    wanted = {k: partners for k, partners in wanted.items() if partners}
    if not wanted:
        return []
    needed = sorted({k for k, partners in wanted.items() for k in (k, *partners)})
    pieces: dict[tuple[int, int], list[solve.Matches]] = {}
    for windows in match.windows_over(
        np.array(of.low),
        np.array(of.high),
        size=of.size,
        stride=of.stride,
        factor=of.factor,
        most=of.batch,
    ):

        def transformed(k: int, windows: match.Windows = windows) -> match.Spectra:
            image, valid = source.level(k, of.factor)
            grain = source.texture(k, of.factor) if of.textured else None
            return match.window_spectra(image, valid, of.pulls[k], windows, device, grain)

        kept: dict[int, match.Spectra] = {}

        def compared(
            pair: tuple[int, int],
            windows: match.Windows = windows,
            kept: dict[int, match.Spectra] = kept,
        ) -> solve.Matches:
            j, k = pair
            return match.compare(
                kept[j],
                kept[k],
                (of.pulls[j], of.pulls[k]),
                windows,
                pair,
                search=of.search,
                least=of.least,
            )

        for start in range(0, len(needed), at_once):
            part = needed[start : start + at_once]
            kept.update(zip(part, run(transformed, part), strict=True))
            pairs = [(j, k) for k in part for j in wanted.get(k, [])]
            for m in run(compared, pairs):
                pieces.setdefault((m.a, m.b), []).append(m)
            later = {j for k in needed[start + at_once :] for j in wanted.get(k, [])}
            for j in [j for j in kept if j not in later]:
                del kept[j]
    return [joined(parts) for _, parts in sorted(pieces.items(), key=lambda p: p[0][::-1])]


def joined(parts: Sequence[solve.Matches]) -> solve.Matches:
    """One list of matches of one pair."""
    m = parts[0]
    counts = np.array([max(len(p.p), 1e-9) for p in parts])
    return replace(
        m,
        p=np.concatenate([p.p for p in parts]),
        q=np.concatenate([p.q for p in parts]),
        weight=np.concatenate([p.weight for p in parts]),
        information=float(np.average([p.information for p in parts], weights=counts)),
    )


def weighed(pairs: Sequence[solve.Matches]) -> list[solve.Matches]:
    """Weights times how much each pair tells about shifts, relative to the neighbours' median.

    Tissue itself differs the more, the farther two sections are apart; by how much, the
    coherence of the pair says. A pair of unknown coherence counts 1 / (2 x distance).
    """
    known = [m.information for m in pairs if m.information > 0 and len(m.p)]
    near = [m.information for m in pairs if m.b - m.a == 1 and m.information > 0 and len(m.p)]
    usual = float(np.median(near or known or [1.0]))

    def share(m: solve.Matches) -> float:
        if m.information > 0:
            return float(np.clip(m.information / usual, 0.01, 2.0))
        return 1.0 if abs(m.b - m.a) == 1 else 0.5 / abs(m.b - m.a)

    return [replace(m, weight=m.weight * share(m)) for m in pairs]
