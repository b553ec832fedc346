"""The order of sections by likeness: which of them seem to have been swapped.

What it is: a comparison of aligned thumbnails, and a search for an order whose neighbours are
more alike. What it is not: a change of the order; that is for a person to decide.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from petavox.align import match
from petavox.align.frames import Field, Lattice, extent
from petavox.align.matching import Source
from petavox.align.thumbnails import thumb_factor


def suggested_order(
    source: Source,
    usable: Sequence[int],
    fields: Mapping[int, Field],
    thumbnail_px: int,
    device: str = "cpu",
) -> list[int]:
    """The order of sections by likeness after alignment, or [] if the given one is as good.

    Neighbours are more alike than sections farther apart. Every pair up to three apart is
    compared as thumbnails; moving one section or reversing a run of two or three is tried until
    nothing raises the sum of the neighbours' correlations by more than its own noise.
    """
    known = [k for k in usable if k in fields]
    if len(known) < 4:
        return []
    shape = source.shape(known[0])
    factor = thumb_factor(shape, 2 * thumbnail_px)
    views: dict[int, tuple[Any, Any]] = {}
    like: dict[tuple[int, int], float] = {}
    for i, k in enumerate(known):
        f = fields[k]
        low, high = extent(f, source.shape(k))
        pull = f.inverse(Lattice.covering(low, high, max(shape) / 12))
        image, valid = source.level(k, factor)
        size = (int(shape[0] // factor), int(shape[1] // factor))
        views[k] = match.warped(image, valid, pull, (0, 0), size, factor, device)
        for j in known[max(0, i - 4) : i]:
            map_ = match.patch_correlation(views[j], views[k], max(16, min(size) // 6), 1.0)
            good = map_[np.isfinite(map_)]
            like[j, k] = float(good.mean()) if len(good) else 0.0
        for old in known[: max(0, i - 4)]:
            views.pop(old, None)

    order = liked_order(known, like)
    if order == known:
        return []
    place = dict(zip(known, order, strict=True))
    return [place.get(k, k) for k in usable]


def liked_order(known: Sequence[int], like: Mapping[tuple[int, int], float]) -> list[int]:
    """An order of `known` whose neighbours are more alike than can be by chance, or the same.

    like: of pairs (earlier, later), those at most four apart; what is not measured is as unlike as
    the least like measured. The work grows with the square of the sections, and only if some move.
    """
    floor = min(like.values())

    def gain(order: Sequence[int]) -> float:
        return sum(like.get((min(a, b), max(a, b)), floor) for a, b in itertools.pairwise(order))

    order = list(known)
    noise = 0.25 * float(np.std([like[a, b] for a, b in itertools.pairwise(known)])) + 0.02
    for _ in range(len(known)):
        best, best_gain = order, noise
        for i in range(len(order)):
            for n in (2, 3, 4):
                if i + n > len(order):
                    continue
                run = order[i : i + n]
                # only the run and its rims change
                before, after = order[max(0, i - 1) : i], order[i + n : i + n + 1]
                now = gain(before + run + after)
                for new in (run[::-1], run[1:] + run[:1], run[-1:] + run[:-1]):
                    more = gain(before + new + after) - now
                    if more > best_gain + 1e-9:
                        best, best_gain = order[:i] + new + order[i + n :], more
        if best is order:
            break
        order = best
    return order
