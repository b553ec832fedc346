"""Tiles and sections that are lost: places that neighbouring sections have and one does not.

What it is: a comparison of stage positions. What it is not: a look at images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

NEAREST = 4
"""Sections that a section is compared with: as many before as after it where there are."""


def lost_sections(numbers: list[int]) -> list[int]:
    """Numbers missing between the first and the last."""
    return sorted(set(range(min(numbers), max(numbers) + 1)) - set(numbers)) if numbers else []


def lost_tiles(stage: Mapping[int, np.ndarray], size: tuple[float, float]) -> dict[int, np.ndarray]:
    """Section -> places (n, 2) where most of the sections around it have a tile and it has none.

    stage: section -> positions of its tiles (n, 2), y x.  size: of a tile, in the same unit. Two
    tiles are at one place if they lie less than half a tile apart. Sections that are laid out
    otherwise (half of the places differ) are not compared.
    """
    numbers = sorted(k for k, at in stage.items() if len(at))
    half = np.asarray(size, float) / 2
    out = {}
    for k in numbers:
        near = sorted((j for j in numbers if j != k), key=lambda j: (abs(j - k), j))[:NEAREST]
        votes: list[tuple[np.ndarray, int]] = []
        compared = 0
        for j in near:
            gap = np.abs(stage[j][:, None] - stage[k][None]) < half
            there = gap.all(-1).any(1)
            if there.mean() < 0.5:
                continue
            compared += 1
            for place in stage[j][~there]:
                same = [n for n, (p, _) in enumerate(votes) if (np.abs(p - place) < half).all()]
                if same:
                    votes[same[0]] = (votes[same[0]][0], votes[same[0]][1] + 1)
                else:
                    votes.append((place, 1))
        lost = [p for p, n in votes if 2 * n > compared]
        if lost:
            out[k] = np.array(sorted(map(tuple, lost)))
    return out
