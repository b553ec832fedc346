"""Labels of overlapping blocks, kept apart: one sharded array, a shard for each block.

The labels of a block cover its read box, context included, so neighbours say different things
about the same voxels. They are kept side by side; a block's room is its write shape plus twice the
context, rounded up to whole chunks:

      ┌────────┬────────┬───        block (0, 0, 1) has the room from P to 2 P along x;
      │ 0 0 0  │ 0 0 1  │           voxel v of it lies at 1 P + v - (write.start - context)
      └────────┴────────┴───

What it is: where a block's labels lie, and their reading and writing. What it is not: a volume to
look at: `relabel` writes that one.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from petavox import volume
from petavox.errors import BadInput
from petavox.space import Block, Box, Grid, VoxelSize, Zyx, zyx
from petavox.stages.stamps import stamp
from petavox.volume import places, state
from petavox.volume.opening import create

CHUNK = 16
LAYOUT = "blocks.json"


def room(grid: Grid) -> Zyx:
    """Voxels kept for each block, zyx."""
    return zyx(
        [-(-(b + 2 * c) // CHUNK) * CHUNK for b, c in zip(grid.block, grid.context, strict=True)]
    )


def chunk_of(side: int, most: int = 128) -> int:
    """The side of chunks that fill `side` voxels exactly: the largest divisor up to `most`.

    Where that is under a quarter of it, the smallest divisor above, up to twice as much. Raises
    BadInput if only chunks of under 8 voxels would do: such a volume is all index, no data.
    """
    divisors = [d for d in range(1, min(side, 2 * most) + 1) if side % d == 0]
    below = max(d for d in divisors if d <= most)
    if below == side or 4 * below >= most:
        return below
    above = [d for d in divisors if d > most]
    if not above and below >= 8:
        return below
    if not above:
        raise BadInput(
            f"blocks of {side} voxels along one axis cannot be cut into chunks: no number from "
            f"8 to {2 * most} divides {side}. Choose a multiple of 16, such as "
            f"{-(-side // 16) * 16}."
        )
    return above[0]


class BlockLabels:
    """The labels of all blocks of a grid. Local ids, uint32, 0 = nothing."""

    def __init__(self, path: str | Path, grid: Grid, voxel_size: VoxelSize, array: Any) -> None:
        self.path, self.grid, self.voxel_size, self._array = Path(path), grid, voxel_size, array
        self._room = room(grid)

    @classmethod
    def create(cls, path: str | Path, grid: Grid, voxel_size: VoxelSize) -> BlockLabels:
        """An empty one, marked as being written; replaces what is there."""
        side = room(grid)
        shape = zyx([n * s for n, s in zip(grid.shape, side, strict=True)])
        chunk = zyx([chunk_of(s) for s in side])
        array = create(
            path,
            box=Box((0, 0, 0), shape),
            voxel_size=voxel_size,
            dtype=np.uint32,
            kind="labels",
            chunk=chunk,
            shard=side,
            overwrite=True,
        )
        layout = {
            "total": [list(grid.total.start), list(grid.total.stop)],
            "block": list(grid.block),
            "context": list(grid.context),
            "voxel_size": list(voxel_size),
        }
        places.write_json(path, LAYOUT, layout)
        return cls(path, grid, voxel_size, array)

    @classmethod
    def open(
        cls, path: str | Path, *, writable: bool = False, incomplete: bool = False
    ) -> BlockLabels:
        """Raises BadInput if the path holds no labels of blocks, NotComplete if unfinished."""
        if not incomplete:
            state.require_complete(path)
        return _opened(str(path), stamp(Path(path) / LAYOUT), writable)

    def write(self, block: Block, labels: np.ndarray) -> None:
        """Set the labels of a block's read box."""
        if labels.shape != block.read.shape:
            raise BadInput(f"labels of shape {labels.shape} do not fill the box {block.read}.")
        self._array.write(self._place(block, block.read), labels.astype(np.uint32))

    def read(self, block: Block, box: Box | None = None) -> np.ndarray:
        """What a block says about a box inside its read box (default: its write box)."""
        box = block.write if box is None else box
        if not block.read.contains(box):
            raise BadInput(f"block {block.number} knows {block.read}, not {box}.")
        return np.asarray(self._array.read(self._place(block, box)))

    def _place(self, block: Block, box: Box) -> Box:
        shift = [
            i * s - (w - c)
            for i, s, w, c in zip(
                block.index, self._room, block.write.start, self.grid.context, strict=True
            )
        ]
        return box.shifted(shift)


@functools.lru_cache(maxsize=8)
def _opened(path: str, _stamp: tuple[int, ...], writable: bool) -> BlockLabels:
    layout = places.read_json(path, LAYOUT)
    if layout is None:
        raise BadInput(f"{path} holds no labels of blocks (there is no {LAYOUT} in it).")
    start, stop = layout["total"]
    grid = Grid(Box(tuple(start), tuple(stop)), tuple(layout["block"]), tuple(layout["context"]))
    array = volume.open(path, writable=writable, incomplete=True)
    return BlockLabels(path, grid, VoxelSize.of(layout["voxel_size"]), array)


def is_block_labels(path: str | Path) -> bool:
    """True if the path holds labels of overlapping blocks, rather than one volume."""
    return places.read(path, LAYOUT) is not None
