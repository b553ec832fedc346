"""Which pairs of objects are worth a flood: what is known for nothing, and what it promises.

Floods are what an agglomeration costs. A pair is worth one if it may be true and if much hangs on
it: joining s to l voxels of one body saves about s log2(1 + l / s) bits x voxels of variation of
information.

What it is: arithmetic on columns of pairs. What it is not: a decision; a pair that is not asked
about is not joined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from petavox.segment.candidates import Contacts
from petavox.segment.features import Columns
from petavox.segment.rule import Rule, odds


def known_of(
    found: Contacts,
    ids: np.ndarray,
    voxels: np.ndarray,
    gray: np.ndarray,
    overlaps: Mapping[tuple[int, int], int],
    voxel_size: Sequence[float],
) -> dict[str, np.ndarray]:
    """The columns of pairs: all that is known of each without the network.

    ids, voxels, gray: of all objects, ids ascending; gray is the mean.  overlaps: (smaller id,
    larger id) -> voxels that the flood of one would have taken from the other.
    """
    at_a, at_b = np.searchsorted(ids, found.a), np.searchsorted(ids, found.b)
    place = {k: getattr(found, k) for k in "zyx"}
    pairs = zip(found.a.tolist(), found.b.tolist(), strict=True)
    return {
        "a": found.a,
        "b": found.b,
        **place,
        **{f"{k}_nm": (place[k] + 0.5) * n for k, n in zip("zyx", voxel_size, strict=True)},
        "faces": found.faces,
        "touching": found.touching,
        "distance_nm": found.distance,
        "width_nm": found.width,
        "gray": found.gray,
        "touching_gray": found.touching_gray,
        "bright": found.bright,
        "size_a": voxels[at_a],
        "size_b": voxels[at_b],
        "gray_a": gray[at_a],
        "gray_b": gray[at_b],
        "overlap": np.array([overlaps.get(p, 0) for p in pairs], np.int64),
    }


def promise(columns: Columns, prior: Rule | None) -> tuple[np.ndarray, np.ndarray]:
    """(chance, gain) of each pair, (n,) float64: that it is one object; chance x bits x voxels.

    Without a prior every chance is NaN, and the gain counts by what earlier floods overlapped.
    """
    if prior is None:
        smaller = np.maximum(np.minimum(columns["size_a"], columns["size_b"]), 1)
        return np.full(len(smaller), np.nan), stake(columns) * (columns["overlap"] / smaller + 1e-3)
    found = odds(prior, columns)
    chance = found / (1 + found)
    return chance, stake(columns) * chance


def stake(columns: Columns) -> np.ndarray:
    """Bits x voxels of VI that joining each pair saves if it is true, (n,) float64."""
    smaller = np.maximum(np.minimum(columns["size_a"], columns["size_b"]), 1).astype(np.float64)
    return smaller * np.log2(1 + np.maximum(columns["size_a"], columns["size_b"]) / smaller)


def plausible(
    columns: Columns, prior: Rule | None, least_chance: float, most: int | None
) -> np.ndarray:
    """Which pairs the network is asked about, (n,) bool.

    Those with at least that chance; of more than `most`, those with the largest gain (ties: the
    smaller a, then b).
    """
    chance, gain = promise(columns, prior)
    ask = np.ones(len(chance), bool) if prior is None else chance >= least_chance
    if most is not None and ask.sum() > most:
        order = np.lexsort((columns["b"], columns["a"], -np.where(ask, gain, -1.0)))
        ask[order[most:]] = False
    return ask
