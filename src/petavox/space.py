"""Boxes, voxel sizes and grids of blocks.

What it is: integer geometry in voxels, zyx, half-open, offsets of any sign; and the size of a
voxel in nm. What it is not: I/O, or anything that knows what a voxel holds.

A block of a grid with context c, inside the total box of a volume:

      read  ┌───────────────┐
            │  c   write    │
            │   ┌───────┐   │
            │   │       │   │      read is clipped to the total box, so blocks at the rim
            │   └───────┘   │      have less context; write boxes tile the total exactly.
            └───────────────┘

>>> Box((0, 0, 0), (4, 8, 8)).grown(1)
Box((-1, -1, -1), (5, 9, 9))
>>> [b.write.shape for b in Grid(Box((0, 0, 0), (4, 4, 5)), block=(4, 4, 4), context=(0, 0, 1))]
[(4, 4, 4), (4, 4, 1)]
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from petavox.errors import BadInput

Zyx = tuple[int, int, int]
"""Three integers in the order z, y, x."""


def zyx(values: Sequence[int] | int, name: str = "value") -> Zyx:
    """Three integers from a sequence of three, or one integer for all axes.

    Raises BadInput, naming `name`, if there are not three or one of them is not an integer.
    """
    given = [values] * 3 if isinstance(values, int) else list(values)
    if len(given) != 3:
        raise BadInput(f"{name} is {tuple(given)}: give three integers in the order z y x.")
    if any(int(v) != v for v in given):
        raise BadInput(f"{name} is {tuple(given)}: all three must be whole numbers of voxels.")
    return (int(given[0]), int(given[1]), int(given[2]))


@dataclass(frozen=True, order=True)
class Box:
    """A half-open box [start, stop) of voxels, zyx; may be empty, may lie at negative places."""

    start: Zyx
    stop: Zyx

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", zyx(self.start, "box start"))
        object.__setattr__(self, "stop", zyx(self.stop, "box stop"))
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise BadInput(f"box {self.start}..{self.stop} ends before it starts (order z y x).")

    def __repr__(self) -> str:
        return f"Box({self.start}, {self.stop})"

    def __str__(self) -> str:
        return ",".join(f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))

    @classmethod
    def of_shape(cls, shape: Sequence[int], start: Sequence[int] = (0, 0, 0)) -> Box:
        """The box of `shape` voxels that begins at `start`."""
        s, n = zyx(start, "start"), zyx(shape, "shape")
        return cls(s, (s[0] + n[0], s[1] + n[1], s[2] + n[2]))

    @classmethod
    def parse(cls, text: str) -> Box:
        """A box from `z0:z1,y0:y1,x0:x1`."""
        part = r"\s*(-?\d+)\s*:\s*(-?\d+)\s*"
        found = re.fullmatch(f"{part},{part},{part}", text)
        if found is None:
            raise BadInput(
                f"box '{text}' is not of the form z0:z1,y0:y1,x0:x1, such as 0:64,0:128,0:128."
            )
        n = [int(g) for g in found.groups()]
        return cls((n[0], n[2], n[4]), (n[1], n[3], n[5]))

    @property
    def shape(self) -> Zyx:
        """Voxels along z, y, x."""
        a, b = self.start, self.stop
        return (b[0] - a[0], b[1] - a[1], b[2] - a[2])

    @property
    def size(self) -> int:
        """Number of voxels."""
        return math.prod(self.shape)

    @property
    def is_empty(self) -> bool:
        """True if it holds no voxel."""
        return self.size == 0

    def contains(self, other: Box) -> bool:
        """True if every voxel of `other` lies in this box."""
        return other.is_empty or (
            all(a <= b for a, b in zip(self.start, other.start, strict=True))
            and all(a >= b for a, b in zip(self.stop, other.stop, strict=True))
        )

    def contains_point(self, point: Sequence[int]) -> bool:
        """True if the voxel at `point` (zyx) lies in this box."""
        return all(a <= p < b for a, p, b in zip(self.start, point, self.stop, strict=True))

    def intersection(self, other: Box) -> Box:
        """The voxels in both; an empty box where they do not meet."""
        start = [max(a, b) for a, b in zip(self.start, other.start, strict=True)]
        stop = [min(a, b) for a, b in zip(self.stop, other.stop, strict=True)]
        return Box(zyx(start), zyx([max(a, b) for a, b in zip(start, stop, strict=True)]))

    def hull(self, other: Box) -> Box:
        """The smallest box that contains both; an empty box adds nothing."""
        if self.is_empty:
            return other
        if other.is_empty:
            return self
        return Box(
            zyx([min(a, b) for a, b in zip(self.start, other.start, strict=True)]),
            zyx([max(a, b) for a, b in zip(self.stop, other.stop, strict=True)]),
        )

    def grown(self, by: Sequence[int] | int) -> Box:
        """Larger by `by` voxels on both sides of each axis; shrunk where negative."""
        n = zyx(by, "growth")
        return Box(
            zyx([a - g for a, g in zip(self.start, n, strict=True)]),
            zyx([b + g for b, g in zip(self.stop, n, strict=True)]),
        )

    def shifted(self, by: Sequence[int]) -> Box:
        """Moved by `by` voxels."""
        n = zyx(by, "shift")
        return Box(
            zyx([a + s for a, s in zip(self.start, n, strict=True)]),
            zyx([b + s for b, s in zip(self.stop, n, strict=True)]),
        )

    def slices(self, origin: Sequence[int] = (0, 0, 0)) -> tuple[slice, slice, slice]:
        """Slices of this box in an array whose first voxel is at `origin`."""
        o = zyx(origin, "origin")
        z, y, x = (slice(a - p, b - p) for a, b, p in zip(self.start, self.stop, o, strict=True))
        return (z, y, x)

    def snapped_out(self, chunk: Sequence[int], origin: Sequence[int] = (0, 0, 0)) -> Box:
        """The smallest box of whole chunks of a lattice through `origin` that contains this one."""
        c, o = zyx(chunk, "chunk"), zyx(origin, "origin")
        return Box(
            zyx([(a - p) // n * n + p for a, n, p in zip(self.start, c, o, strict=True)]),
            zyx([-((p - b) // n) * n + p for b, n, p in zip(self.stop, c, o, strict=True)]),
        )

    def is_aligned(self, chunk: Sequence[int], total: Box) -> bool:
        """True if it cuts no chunk of a lattice that starts at `total.start` and ends with it."""
        return self == self.snapped_out(chunk, total.start).intersection(total)


@dataclass(frozen=True)
class VoxelSize:
    """The edges of a voxel in nm, zyx; each positive and finite."""

    z: float
    y: float
    x: float

    def __post_init__(self) -> None:
        for axis in "zyx":
            value = float(getattr(self, axis))
            object.__setattr__(self, axis, value)
            if not (math.isfinite(value) and value > 0):
                raise BadInput(
                    f"voxel size along {axis} is {value} nm: it must be a positive number."
                )

    def __str__(self) -> str:
        return " x ".join(f"{v:g}" for v in self) + " nm"

    def __iter__(self) -> Iterator[float]:
        return iter((self.z, self.y, self.x))

    @classmethod
    def of(cls, values: Sequence[float], name: str = "voxel size") -> VoxelSize:
        """From three numbers in nm, zyx. Raises BadInput, naming `name`, if not three."""
        given = [float(v) for v in values]
        if len(given) != 3:
            raise BadInput(
                f"{name} has {len(given)} numbers {tuple(given)}: give three, in nm, "
                "in the order z y x, such as 40 4 4."
            )
        return cls(*given)

    @property
    def volume(self) -> float:
        """Volume of a voxel in cubic nm."""
        return self.z * self.y * self.x

    def coarser(self, factors: Sequence[int]) -> VoxelSize:
        """The voxel size after downsampling by whole `factors`, zyx."""
        f = zyx(factors, "factors")
        return VoxelSize(self.z * f[0], self.y * f[1], self.x * f[2])


@dataclass(frozen=True)
class Block:
    """One piece of work: it reads `read`, and alone writes `write`.

    index: place in the grid, zyx.  number: place in the grid's row-major order.
    """

    index: Zyx
    number: int
    read: Box
    write: Box
    total: Box


@dataclass(frozen=True)
class Grid:
    """Blocks of a fixed shape that tile `total`, each read with `context` voxels around it.

    The lattice starts at `total.start`; the last block of an axis may be short. Blocks are made
    on demand: a grid of a million blocks costs nothing until walked.
    """

    total: Box
    block: Zyx
    context: Zyx = (0, 0, 0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", zyx(self.block, "block shape"))
        object.__setattr__(self, "context", zyx(self.context, "context"))
        if min(self.block) < 1:
            raise BadInput(f"block shape is {self.block}: each side must be at least 1 voxel.")
        if min(self.context) < 0:
            raise BadInput(f"context is {self.context}: it cannot be negative.")

    @property
    def shape(self) -> Zyx:
        """Number of blocks along z, y, x."""
        return zyx([-(-n // b) for n, b in zip(self.total.shape, self.block, strict=True)])

    def __len__(self) -> int:
        return math.prod(self.shape)

    def at(self, index: Sequence[int]) -> Block:
        """The block at a place of the grid."""
        i, n = zyx(index, "block index"), self.shape
        if not all(0 <= a < b for a, b in zip(i, n, strict=True)):
            raise IndexError(f"block {i} is outside the grid of {n} blocks")
        start = [t + a * b for t, a, b in zip(self.total.start, i, self.block, strict=True)]
        write = Box.of_shape(self.block, start).intersection(self.total)
        read = write.grown(self.context).intersection(self.total)
        return Block(i, (i[0] * n[1] + i[1]) * n[2] + i[2], read, write, self.total)

    def __getitem__(self, number: int) -> Block:
        n = self.shape
        if not 0 <= number < len(self):
            raise IndexError(f"block number {number} is outside 0..{len(self) - 1}")
        return self.at((number // (n[1] * n[2]), number // n[2] % n[1], number % n[2]))

    def __iter__(self) -> Iterator[Block]:
        return (self.at(i) for i in itertools.product(*map(range, self.shape)))

    def touching(self, box: Box) -> Iterator[Block]:
        """The blocks whose write box meets `box`, in order."""
        inside = box.intersection(self.total)
        if inside.is_empty:
            return
        ranges = [
            range((a - t) // b, (e - 1 - t) // b + 1)
            for a, e, t, b in zip(
                inside.start, inside.stop, self.total.start, self.block, strict=True
            )
        ]
        for i in itertools.product(*ranges):
            yield self.at(i)
