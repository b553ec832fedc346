"""Pyramids: coarser levels of a volume, for viewers and for work at low resolution.

What it is: the plan of the levels, the two ways to coarsen voxels (mean for images, majority for
labels), and the making of a level block by block. Each level is made from the one before it.

Factors follow the voxel size: an axis is halved while its voxels are less than sqrt(2) times as
long as the finest, so 40 x 4 x 4 nm goes to 40 x 8 x 8, 40 x 16 x 16, 40 x 32 x 32 and only then
to 80 x 64 x 64.

Voxel i of a level covers the voxels [2 i, 2 i + 2) of the level before, counted from coordinate 0
and not from the box's start: boxes with any offset, negative too, lie on one lattice, and a level
of a cut-out equals the cut-out of a level. At the rim a voxel takes those that exist.

      fine        . 3 4 5 6 7 8          box 3:9
      coarse      |1| 2 | 3 | 4|         box 1:5; the first and last cover one voxel each

In OME-Zarr the level's translation is the common centre of what its first voxel covers
(petavox.volume.formats.ome); precomputed keeps corners, where voxel_offset says it exactly.

What it is not: a scheduler. `grid` and `build_block` are for a runner that distributes the work,
`build` does all of it in this process.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.progress import Progress
from petavox.space import Box, Grid, VoxelSize, Zyx, zyx
from petavox.volume import state
from petavox.volume.opening import add_level, open
from petavox.volume.volume import Kind, Level, Volume

MEMORY_MB = 1024
"""Bound on what the making of a block of a level holds."""


def next_factors(voxel_size: VoxelSize, shape: Sequence[int]) -> Zyx:
    """Which axes the next level halves: 2 or 1 for z, y, x. Axes of one voxel stay as they are.

    voxel_size: nm.  shape: voxels, zyx.
    """
    finest = min((v for v, n in zip(voxel_size, shape, strict=True) if n > 1), default=math.inf)
    return zyx(
        [
            2 if n > 1 and v < finest * math.sqrt(2) else 1
            for v, n in zip(voxel_size, shape, strict=True)
        ]
    )


def coarser_box(box: Box, factors: Sequence[int]) -> Box:
    """The voxels of a level that cover `box` of the level before."""
    f = zyx(factors, "factors")
    return Box(
        zyx([a // n for a, n in zip(box.start, f, strict=True)]),
        zyx([-(-b // n) for b, n in zip(box.stop, f, strict=True)]),
    )


def plan(box: Box, voxel_size: VoxelSize, *, smallest: int = 128) -> list[tuple[Box, VoxelSize]]:
    """Boxes and voxel sizes of the coarser levels, until every side is at most `smallest`."""
    levels: list[tuple[Box, VoxelSize]] = []
    while max(box.shape) > smallest:
        factors = next_factors(voxel_size, box.shape)
        box, voxel_size = coarser_box(box, factors), voxel_size.coarser(factors)
        levels.append((box, voxel_size))
    return levels


def coarsened(values: np.ndarray, start: Sequence[int], factors: Sequence[int], kind: Kind) -> Any:
    """Voxels of the level that covers `values`: mean for images, majority for labels.

    values: (z, y, x).  start: voxel coordinates of values[0, 0, 0], zyx.  factors: 1 or 2 each.
    Means of integers are rounded half up. The majority counts 0 as any id; of equally frequent
    ids the smallest other than 0 is taken, so thin objects do not vanish.
    """
    f = zyx(factors, "factors")
    if any(n not in (1, 2) for n in f):
        raise BadInput(f"factors {f}: a level halves an axis or keeps it, so each is 1 or 2.")
    # a lone voxel at the rim counts twice: its share in means and majorities stays what it is
    pads = [(a % n, -(a + length) % n) for a, n, length in zip(start, f, values.shape, strict=True)]
    if any(a or b for a, b in pads):
        values = np.pad(values, pads, mode="edge")
    parts = [
        values[z :: f[0], y :: f[1], x :: f[2]]
        for z in range(f[0])
        for y in range(f[1])
        for x in range(f[2])
    ]
    if len(parts) == 1:
        return np.ascontiguousarray(parts[0])
    return _majority(parts) if kind is Kind.LABELS else _mean(parts)


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    dtype, n = parts[0].dtype, len(parts)
    if dtype.kind == "f":
        total = np.zeros(parts[0].shape, np.float64)
        for p in parts:
            total += p
        return np.asarray(total / n, dtype)
    if dtype.itemsize < 8:
        wide = np.zeros(parts[0].shape, np.uint16 if dtype.itemsize == 1 else np.uint64)
        for p in parts:
            wide += p
        return np.asarray((wide + wide.dtype.type(n // 2)) // wide.dtype.type(n), dtype)
    whole, rest = np.zeros_like(parts[0]), np.zeros_like(parts[0])
    for p in parts:  # quotients and remainders apart, or the sum of 64-bit values overflows
        whole += p // dtype.type(n)
        rest += p % dtype.type(n)
    return np.asarray(whole + (rest + dtype.type(n // 2)) // dtype.type(n))


def _majority(parts: Sequence[np.ndarray]) -> np.ndarray:
    if all(np.array_equal(parts[0], p) for p in parts[1:]):
        return np.ascontiguousarray(parts[0])
    one = parts[0].dtype.type(1)
    # minus 1 turns 0 into the greatest number: in ascending order it is the last to win a tie
    ordered = _sorted([p - one for p in parts])
    best = ordered[0].copy()
    run = np.ones(best.shape, np.uint8)
    most = run.copy()
    for before, this in itertools.pairwise(ordered):
        run = np.where(before == this, run + np.uint8(1), np.uint8(1))
        better = run > most
        best[better] = this[better]
        np.maximum(most, run, out=most)
    return best + one


def _sorted(parts: list[np.ndarray]) -> list[np.ndarray]:
    """Equal-shaped arrays sorted voxel by voxel (odd-even merging exchange, Batcher 1968)."""
    for i, j in _EXCHANGES[len(parts)]:
        low, high = np.minimum(parts[i], parts[j]), np.maximum(parts[i], parts[j])
        parts[i], parts[j] = low, high
    return parts


_EXCHANGES = {
    2: [(0, 1)],
    4: [(0, 1), (2, 3), (0, 2), (1, 3), (1, 2)],
    8: [
        *[(0, 1), (2, 3), (4, 5), (6, 7), (0, 2), (1, 3), (4, 6), (5, 7), (1, 2), (5, 6)],
        *[(0, 4), (1, 5), (2, 6), (3, 7), (2, 4), (3, 5), (1, 2), (3, 4), (5, 6)],
    ],
}


def prepare(path: str | Path, *, smallest: int = 128) -> tuple[Level, ...]:
    """Create the coarser levels of a volume that is still being written; all voxels 0.

    Levels that are there already stay. Returns all levels, finest first. Fill them in order with
    `build_block`, over the blocks of `grid`, and then call `petavox.volume.opening.finish`.
    """
    volume = open(path, writable=True, incomplete=True)
    said = state.read(volume.path)
    if said is not None and said.get("state") == "complete":
        raise BadInput(f"{path} is complete already; levels are added before it is finished.")
    there = {tuple(level.voxel_size) for level in volume.levels}
    for box, size in plan(volume.box, volume.voxel_size, smallest=smallest):
        if tuple(size) not in there:
            add_level(volume, box, size)
    return volume.levels


def grid(path: str | Path, level: Level) -> Grid:
    """The blocks of a level: whole shards, so that each has one writer."""
    volume = open(path, incomplete=True, resolution=level.voxel_size)
    return Grid(volume.box, volume.write_shape)


def build_block(
    path: str | Path,
    level: Level,
    box: Box,
    *,
    memory_mb: int = MEMORY_MB,
    tell: Callable[[int], None] | None = None,
) -> dict[str, int]:
    """Fill `box` of a level from the level before it; a second run gives the same voxels.

    box: whole shards of the level (a block of `grid`).  memory_mb: bound on what is held; larger
    blocks are done in pieces of whole chunks.  tell: called with the voxels of each piece.
    """
    target = open(path, writable=True, incomplete=True, resolution=level.voxel_size)
    at = next(i for i, v in enumerate(target.levels) if v.voxel_size == target.voxel_size)
    if at == 0:
        raise BadInput(f"{path}: {level.voxel_size} is the finest level; it is not made from one.")
    if not box.is_aligned(target.write_shape, target.box):
        raise BadInput(
            f"box {box} is not whole shards of {target.write_shape} of {path}: two writers could "
            "meet in one file."
        )
    source = open(path, incomplete=True, resolution=target.levels[at - 1].voxel_size)
    factors = [round(a / b) for a, b in zip(target.voxel_size, source.voxel_size, strict=True)]
    piece = _piece(target, factors, memory_mb)
    for block in Grid(box, piece):
        fine = Box(
            zyx([a * f for a, f in zip(block.write.start, factors, strict=True)]),
            zyx([b * f for b, f in zip(block.write.stop, factors, strict=True)]),
        ).intersection(source.box)
        values = coarsened(source.read(fine), fine.start, factors, target.kind)
        target.write(block.write, values)
        if tell is not None:
            tell(block.write.size)
    return {"voxels": box.size}


def _piece(target: Volume, factors: Sequence[int], memory_mb: int) -> Zyx:
    """The largest piece of a shard, in whole chunks, whose making fits in memory."""
    piece = list(target.write_shape)
    # a voxel costs its fine ones three times (read, sorted, spare) in the volume's type
    each = 3 * math.prod(factors) * target.dtype.itemsize
    while math.prod(piece) * each > memory_mb << 20:
        ratio = [p // c for p, c in zip(piece, target.chunk, strict=True)]
        axis = int(np.argmax(ratio))
        if ratio[axis] <= 1:
            raise BadInput(
                f"one chunk of {target.chunk} of {target.path} needs more than {memory_mb} MB; "
                "raise the memory."
            )
        piece[axis] = -(-ratio[axis] // 2) * target.chunk[axis]
    return zyx(piece)


def build(
    path: str | Path,
    *,
    smallest: int = 128,
    memory_mb: int = MEMORY_MB,
    quiet: bool = False,
) -> dict[str, Any]:
    """Make all coarser levels of a volume that is still being written, in this process.

    Returns counters: levels, voxels, seconds.
    """
    started = time.monotonic()
    levels = prepare(path, smallest=smallest)
    total = sum(level.box.size for level in levels[1:])
    with Progress("pyramid", total=total, unit="voxel", quiet=quiet) as progress:
        for level in levels[1:]:
            for block in grid(path, level):
                build_block(path, level, block.write, memory_mb=memory_mb, tell=progress.advance)
    return {
        "levels": len(levels),
        "voxels": total,
        "seconds": round(time.monotonic() - started, 3),
    }
