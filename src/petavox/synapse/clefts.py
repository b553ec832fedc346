"""Clefts: connected components of a thresholded probability, found block by block.

    fragments   the components inside one block; a fragment's id is the place of its first voxel
                in the whole volume (row-major, from 1): no two blocks can give the same
    links       fragments of neighbouring blocks that touch (by a face, an edge or a corner)
    merged      the components of links: sums of their fragments, the smallest id for all

So a component, its id and its figures are the same however the volume was cut. What it is: that,
on arrays; mitochondria are found the same way. What it is not: partners (petavox.synapse.partners).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from petavox.space import Box, Zyx

PARTS = np.dtype(
    [
        ("id", "<u8"),
        ("voxels", "<i8"),
        ("said", "<i8"),
        ("place", "<i8", 3),
        ("low", "<i8", 3),
        ("high", "<i8", 3),
    ]
)
"""Fragments or components.  said: sum of probabilities times 255.  place: sum of the voxels'
coordinates.  low, high: box, half-open. All whole numbers, so that sums do not depend on order."""

NO_LINKS = np.zeros((0, 2), np.uint64)
_AROUND = np.ones((3, 3, 3), bool)


def fragments(
    said: np.ndarray, threshold: float, start: Zyx, total: Box
) -> tuple[np.ndarray, np.ndarray]:
    """The components of one block: labels (z, y, x) uint64, and PARTS in ascending order of id.

    said: (z, y, x) uint8, probability times 255, its first voxel at `start` of the volume `total`.
    threshold: probability that a voxel of a component has at least.
    """
    numbers, count = ndimage.label(said >= np.ceil(threshold * 255), structure=_AROUND)
    parts = np.zeros(count, PARTS)
    labels = np.zeros(said.shape, np.uint64)
    if count == 0:
        return labels, parts
    at = np.flatnonzero(numbers)
    number = numbers.reshape(-1)[at] - 1
    place = np.stack(np.unravel_index(at, said.shape), 1) + np.array(start)
    offset = place - np.array(total.start)
    _, height, width = total.shape
    flat = (offset[:, 0] * height + offset[:, 1]) * width + offset[:, 2] + 1
    # voxels come in row-major order: the first of each number is its smallest
    _, first = np.unique(number, return_index=True)
    parts["id"] = flat[first]
    parts["voxels"] = np.bincount(number, minlength=count)
    np.add.at(parts["said"], number, said.reshape(-1)[at].astype(np.int64))
    np.add.at(parts["place"], number, place)
    parts["low"], parts["high"] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    np.minimum.at(parts["low"], number, place)
    np.maximum.at(parts["high"], number, place + 1)
    labels.reshape(-1)[at] = parts["id"][number]
    return labels, parts[np.argsort(parts["id"])]


def links(labels: np.ndarray) -> np.ndarray:
    """Pairs of different ids that touch: (n, 2) uint64, each pair once, the smaller id first.

    labels: (z, y, x) of a block and a voxel of its neighbours on every side.
    """
    at = np.flatnonzero(labels)
    if len(at) == 0:
        return NO_LINKS
    place = np.stack(np.unravel_index(at, labels.shape), 1)
    own = labels.reshape(-1)[at].astype(np.uint64)
    shape = np.array(labels.shape)
    found = [NO_LINKS]
    # half of the 26 directions: the other half are the same pairs
    for step in itertools.islice(itertools.product((-1, 0, 1), repeat=3), 14, None):
        there = place + np.array(step)
        inside = ((there >= 0) & (there < shape)).all(1)
        other = labels[tuple(there[inside].T)].astype(np.uint64)
        mine = own[inside]
        touch = (other != 0) & (other != mine)
        found.append(np.sort(np.stack([mine[touch], other[touch]], 1), axis=1))
    return np.unique(np.concatenate(found), axis=0)


def merged(
    parts: np.ndarray, pairs: np.ndarray, *, min_voxels: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Components of linked fragments: their PARTS, and for each fragment its component's id.

    parts: PARTS of all fragments, any order.  pairs: (n, 2) links.
    Components of fewer than `min_voxels` are left out; their fragments belong to 0.
    """
    parts = parts[np.argsort(parts["id"])]
    if len(parts) == 0:
        return parts, np.zeros((0, 2), np.uint64)
    a, b = (np.searchsorted(parts["id"], pairs[:, k]) for k in (0, 1))
    graph = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(len(parts), len(parts)))
    count, group = connected_components(graph, directed=False)
    whole = np.zeros(count, PARTS)
    whole["id"] = np.iinfo(np.uint64).max
    whole["low"], whole["high"] = np.iinfo(np.int64).max, np.iinfo(np.int64).min
    for name in ("voxels", "said", "place"):
        np.add.at(whole[name], group, parts[name])
    for name, best in (("id", np.minimum), ("low", np.minimum), ("high", np.maximum)):
        best.at(whole[name], group, parts[name])
    kept = whole["voxels"] >= min_voxels
    final = np.where(kept, whole["id"], np.uint64(0))[group]
    whole = whole[kept]
    return whole[np.argsort(whole["id"])], np.stack([parts["id"], final], 1)


def relabelled(labels: np.ndarray, final: np.ndarray) -> np.ndarray:
    """Labels with each fragment's id replaced by its component's.

    final: (n, 2) uint64: fragment (ascending), component; as `merged` gives it.
    """
    out = np.zeros(labels.shape, np.uint64)
    at = np.flatnonzero(labels)
    if len(at):
        own = labels.reshape(-1)[at].astype(np.uint64)
        out.reshape(-1)[at] = final[np.searchsorted(final[:, 0], own), 1]
    return out


def components(
    said: np.ndarray, threshold: float, start: Zyx = (0, 0, 0), *, min_voxels: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """The components of a whole array: labels (z, y, x) uint64 and PARTS. See `fragments`."""
    labels, parts = fragments(said, threshold, start, Box.of_shape(said.shape, start))
    whole, final = merged(parts, NO_LINKS, min_voxels=min_voxels)
    return relabelled(labels, final), whole


def positions_nm(parts: np.ndarray, voxel_size: Iterable[float]) -> np.ndarray:
    """Centroids, (n, 3) float64 nm, zyx; voxel i covers [i, i + 1) times the voxel size."""
    middle = parts["place"] / np.maximum(parts["voxels"], 1)[:, None] + 0.5
    return np.asarray(middle * np.array(list(voxel_size)))


def scores(parts: np.ndarray) -> np.ndarray:
    """Mean probability of the voxels of each component, (n,) float64."""
    return np.asarray(parts["said"] / (255.0 * np.maximum(parts["voxels"], 1)))
