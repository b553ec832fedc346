"""Thumbnails of a stack's sections, and the rough alignments of pairs of them.

What it is: thumbnails made when they are needed and dropped when the stack has gone on, pairs
compared once and several at a time. What it is not: the rough alignment of two
(petavox.align.coarse), or what follows from it (petavox.align.chain).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from petavox.align import coarse
from petavox.align.matching import Source

AHEAD = 8
"""Neighbours compared at once."""


def thumb_factor(shape: tuple[int, int], longest: int) -> int:
    """The power of two that brings a section to at most `longest` pixels."""
    factor = 1
    while max(shape) / factor > longest:
        factor *= 2
    return factor


class Comparison:
    """Rough alignments of pairs, from thumbnails that are made when they are needed."""

    def __init__(
        self,
        source: Source,
        order: Sequence[int],
        thumbnail_px: int,
        narrow: float,
        device: str,
        run: Callable[..., Iterable[Any]],
    ) -> None:
        self.source, self.narrow, self.device, self.run = source, narrow, device, run
        largest = np.max([source.shape(k) for k in order], axis=0) if order else (1, 1)
        self.factor = thumb_factor((int(largest[0]), int(largest[1])), thumbnail_px)
        self.thumbs: dict[int, coarse.Thumbnail] = {}
        self.seen: dict[tuple[int, int], coarse.Rough] = {}

    def __call__(self, pairs: Sequence[tuple[int, int]]) -> list[coarse.Rough]:
        """The rough alignment of each pair; those not compared before are compared at once."""
        new = [p for p in pairs if p not in self.seen]
        needed = sorted({k for p in new for k in p} - set(self.thumbs))
        self.thumbs.update(zip(needed, self.run(self._made, needed), strict=True))
        self.seen.update(zip(new, self.run(self._compared, new), strict=True))
        for _, k in new[-1:]:
            for far in [n for n in self.thumbs if abs(n - k) > 2 * AHEAD]:
                del self.thumbs[far]
        return [self.seen[p] for p in pairs]

    def _made(self, k: int) -> coarse.Thumbnail:
        image, valid = self.source.level(k, self.factor)
        return coarse.thumbnail(image, valid, self.factor, device=self.device)

    def _compared(self, pair: tuple[int, int]) -> coarse.Rough:
        a, b = (self.thumbs[k] for k in pair)
        return coarse.rough(a, b, narrow=self.narrow, device=self.device)
