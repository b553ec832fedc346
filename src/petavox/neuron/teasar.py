"""TEASAR skeletons of the objects of one block, by kimimaro.

What it is: the one module that loads kimimaro, which is GPL-3 and therefore an extra; with it
cc3d and edt, which kimimaro brings. What it is not: the joining of blocks
(`petavox.neuron.skeleton`).

TEASAR: Sato et al. 2000; kimimaro: Silversmith et al. 2021. All parameters are in nm.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from pydantic import Field

from petavox.errors import MissingExtra
from petavox.neuron.skeleton import Piece
from petavox.settings import Settings
from petavox.space import Box, VoxelSize


class TeasarSettings(Settings):
    """The rolling ball that clears what a path has explained has radius scale * r + const.

    soma_detection_nm: objects with so large a radius have their holes filled first.
    """

    scale: float = Field(1.5, gt=0)
    const_nm: float = Field(300.0, ge=0)
    pdrf_scale: float = Field(100_000.0, gt=0)
    pdrf_exponent: int = Field(4, ge=1)
    soma_detection_nm: float = Field(750.0, gt=0)

    def kimimaro(self) -> dict[str, float]:
        """The names that kimimaro uses.

        Never its soma mode, which takes all that is near the root out of every path: inside a
        block also the ways to the faces, where the neighbours' paths end, so trees would fall
        apart. The ball of a soma's own vertices clears it, when the whole is joined.
        """
        return {
            "scale": self.scale,
            "const": self.const_nm,
            "pdrf_scale": self.pdrf_scale,
            "pdrf_exponent": self.pdrf_exponent,
            "soma_detection_threshold": self.soma_detection_nm,
            "soma_acceptance_threshold": math.inf,
        }


def require() -> Any:
    """kimimaro, or MissingExtra with the way to install it."""
    try:
        import kimimaro
    except ImportError:
        raise MissingExtra(
            "skeletons need kimimaro, which is not installed (it is GPL-3, so it does not come "
            "with petavox). Install it: pip install 'petavox[skeletons]'."
        ) from None
    return kimimaro


def block_pieces(
    labels: np.ndarray,
    read: Box,
    write: Box,
    total: Box,
    voxel_size: VoxelSize,
    settings: TeasarSettings,
    *,
    dust: float = 0.0,
) -> list[Piece]:
    """The skeleton pieces of one block, by component, in order of their first voxel.

    labels: (z, y, x) unsigned, the voxels of `read`, which holds `write`, the layer after it
    where `total` goes on, and context for the radii. Radii are exact up to the distance to the
    faces of `read`; beyond they are too large, but for an array of one object alone, whose radii
    are the distance to those faces.
    dust: parts smaller than this (nm^3) that end inside the block are left out at once.
    Raises MissingExtra without kimimaro.
    """
    kimimaro = require()
    import cc3d
    import edt

    size = tuple(voxel_size)
    core = Box(write.start, write.grown(1).stop).intersection(total)
    inner = np.ascontiguousarray(labels[core.slices(read.start)])
    parts, count = cc3d.connected_components(_below_2_63(inner), connectivity=26, return_N=True)
    if not count:
        return []
    parts = parts.astype(np.uint32, copy=False)
    label = np.zeros(count + 1, np.uint64)
    label[parts.reshape(-1)] = inner.reshape(-1)
    owned = np.bincount(parts[write.slices(core.start)].reshape(-1), minlength=count + 1)
    # parts in the shared layer alone are the next block's, if that one sees all of them
    leave = (owned == 0) & (_neighbours(parts, core, write, count) < 2)
    leave |= (owned * voxel_size.volume < dust) & ~_at_seams(parts, core, total, count)
    leave[0] = False
    if leave[1:].all():
        return []
    parts[leave[parts]] = 0
    # kimimaro fails on a single row of voxels, such as a block at the far corner of a volume may be
    row = sorted(core.shape)[1] == 1
    # sizes of parts in one block say nothing about objects: dust is judged after joining
    found = (
        {}
        if row
        else kimimaro.skeletonize(
            parts,
            settings.kimimaro(),
            anisotropy=size,
            dust_threshold=0,
            progress=False,
            fix_branching=True,
            fix_borders=True,
            parallel=1,
        )
    )
    depth = edt.edt(labels, anisotropy=size, black_border=False, parallel=1)
    if not np.isfinite(depth).all():  # all one object: the least that a radius can be, not none
        depth = edt.edt(labels, anisotropy=size, black_border=True, parallel=1)
    offset = np.array(core.start) - np.array(read.start)
    out = []
    for part in range(1, count + 1):
        if leave[part]:
            continue
        if part in found and len(found[part].vertices):
            at = np.rint(found[part].vertices / np.array(size)).astype(np.int64)
            edges = found[part].edges.astype(np.int64)
        else:  # kimimaro gives nothing for a single voxel; a part of a row is its own centre line
            at = np.argwhere(parts == part)[: None if row else 1]
            edges = np.stack([np.arange(len(at) - 1), np.arange(1, len(at))], axis=1)
        radii = depth[tuple((at + offset).T)].astype(np.float64)
        out.append(
            Piece(int(label[part]), int(owned[part]), at + np.array(core.start), edges, radii)
        )
    return out


def _below_2_63(labels: np.ndarray) -> np.ndarray:
    """The same objects under numbers that cc3d takes: some arrays of larger ones it fails on."""
    if labels.dtype != np.uint64 or int(labels.max(initial=0)) < 1 << 63:
        return labels
    names, number = np.unique(labels, return_inverse=True)
    return np.asarray(number.reshape(labels.shape) + (names[0] != 0), np.uint32)


def _neighbours(parts: np.ndarray, core: Box, write: Box, count: int) -> np.ndarray:
    """In the own boxes of how many next blocks each part has voxels.

    Two of them touch across an edge or corner of this block, and neither sees the other's voxel:
    only this block, which shares both layers, sees that they are one.
    """
    found = np.zeros(count + 1, np.int64)
    for beyond in itertools.product((False, True), repeat=3):
        if any(beyond):
            start = [b if k else a for a, b, k in zip(write.start, write.stop, beyond, strict=True)]
            stop = [c if k else b for b, c, k in zip(write.stop, core.stop, beyond, strict=True)]
            box = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
            found[np.unique(parts[box.slices(core.start)])] += 1
    return found


def _at_seams(parts: np.ndarray, core: Box, total: Box, count: int) -> np.ndarray:
    """Which parts reach a layer that another block sees too."""
    seen = np.zeros(count + 1, bool)
    for axis in range(3):
        if core.start[axis] > total.start[axis]:
            seen[np.unique(parts.take(0, axis))] = True
        if core.stop[axis] < total.stop[axis]:
            seen[np.unique(parts.take(-1, axis))] = True
    return seen
