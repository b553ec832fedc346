"""Score a volume of objects along skeletons of the truth.

What it is: skeletons read, and objects looked up at their nodes, for petavox.score.runs. What it is
not: a score, or a comparison of volumes (petavox.stages.score).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from petavox.errors import BadInput
from petavox.score.runs import RunScores, Skeleton, run_scores
from petavox.score.swc import read_swc
from petavox.space import Box
from petavox.volume import Volume


def skeleton_scores(
    result: Volume, skeletons: Sequence[Skeleton], *, merge_nodes: int = 1
) -> tuple[RunScores, int]:
    """ERL of a volume on truth skeletons, and how many nodes lay outside and were left out.

    A node at p nm lies in the voxel floor(p / voxel size). Edges with a node outside of the
    volume count nowhere.
    """
    inside = [_inside(s, result) for s in skeletons]
    kept = [s for s, _ in inside]
    outside = sum(n for _, n in inside)
    return run_scores(
        kept,
        [objects_at(result, voxels_of(s.nodes, result)) for s in kept],
        merge_nodes=merge_nodes,
    ), outside


def voxels_of(nodes: np.ndarray, volume: Volume) -> np.ndarray:
    """Voxels (n, 3) int64 of positions (n, 3) in nm, zyx."""
    # a node on a voxel's face, such as 3 x 4.6 nm, must not fall back by rounding
    return np.floor(nodes / np.array(tuple(volume.voxel_size)) + 1e-6).astype(np.int64)


def objects_at(volume: Volume, voxels: np.ndarray, block: int = 64) -> np.ndarray:
    """Ids (n,) uint64 at voxels (n, 3) inside the volume; only blocks with a voxel are read."""
    out = np.zeros(len(voxels), np.uint64)
    tile = (voxels - np.array(volume.box.start)) // block
    tiles, inverse = np.unique(tile, axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    cuts = np.searchsorted(inverse.ravel()[order], np.arange(1, len(tiles)))
    for rows in np.split(order, cuts) if len(voxels) else []:
        low, high = voxels[rows].min(axis=0), voxels[rows].max(axis=0) + 1
        at = voxels[rows] - low
        values = volume.read(Box(tuple(low.tolist()), tuple(high.tolist())))
        out[rows] = values[at[:, 0], at[:, 1], at[:, 2]]
    return out


def _inside(skeleton: Skeleton, volume: Volume) -> tuple[Skeleton, int]:
    voxels = voxels_of(skeleton.nodes, volume)
    keep = np.all((voxels >= volume.box.start) & (voxels < volume.box.stop), axis=1)
    new = np.cumsum(keep) - 1
    edges = skeleton.edges[keep[skeleton.edges].all(axis=1)]
    return Skeleton(skeleton.id, skeleton.nodes[keep], new[edges]), int((~keep).sum())


def read_skeletons(path: Path, nm_per_unit: float = 1.0) -> list[Skeleton]:
    """Skeletons of one SWC file, or of all in a folder, in the order of their names.

    A file's number, as in `42.swc`, is the skeleton's id; others are counted from 1.
    """
    files = sorted(path.glob("*.swc")) if path.is_dir() else [path]
    if not files:
        raise BadInput(f"there is no .swc file in {path}.")
    return [
        read_swc(f, id=int(f.stem) if f.stem.isdigit() else i, nm_per_unit=nm_per_unit)
        for i, f in enumerate(files, 1)
    ]
