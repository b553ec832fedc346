"""Examples: voxels drawn from annotated volumes, with the image and the object around them.

What it is: sampling on the fly. Small random sub-blocks of the volumes are read and kept for a
while (petavox.ffn.pieces), so a volume of any size can be trained on in bounded memory. In a block
some voxels are drawn as candidates and put into thirteen partitions (petavox.ffn.partitions); an
example is a random partition first, a random candidate in it second.
What it is not: files, augmentation, or the path the network takes through an example.

Example number i of feeder k is a pure function of (seed, k, i): to resume is to know i, and the
result does not depend on threads or on when a block was read. Feeders draw from disjoint sets of
centres: the volume's voxels are dealt out in a small lattice of cells.

      block 0 ─────────────┐
          block 1 ─────────┼───┐        example i draws from `blocks` blocks; every
              block 2 ─────┼───┼───┐    `examples_per_block` examples the oldest is left
      i ─────────────────▶ │   │   │    and a new one is read
"""

from __future__ import annotations

import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from petavox.errors import BadInput
from petavox.ffn.partitions import PARTITIONS, partition_of, shares
from petavox.ffn.pieces import Piece, Pieces, Source
from petavox.settings import Settings, ZyxSetting
from petavox.space import Box, Zyx, zyx

log = logging.getLogger("petavox")


class ExampleSettings(Settings):
    """How examples are drawn."""

    block: ZyxSetting = (192, 192, 192)
    """Voxels of a sub-block that is read at once."""
    blocks: int = Field(8, ge=1, le=64)
    """Sub-blocks that examples are drawn from at any time, for each feeder."""
    examples_per_block: int = Field(64, ge=1)
    """Examples after which the oldest sub-block is replaced."""
    candidates: int = Field(1024, ge=16)
    """Voxels of a sub-block that may become examples."""
    min_object_size: int = Field(10_000, ge=1)
    """Objects with fewer voxels in the sub-block are no examples."""
    margin: ZyxSetting = (0, 0, 0)
    """No patch comes nearer than this (voxels, zyx) to the rim of the annotated box."""
    clearance: ZyxSetting = (0, 0, 0)
    """A centre has its own object this far (voxels, zyx) both ways along every axis: floods start
    inside objects, and of a voxel in a membrane nobody can say whose it is."""
    memory_mb: int = Field(1024, ge=16)
    """Bound of the sub-blocks kept in memory, for each feeder; where it does not hold `blocks` of
    them, they are read again and again."""


@dataclass(frozen=True)
class Example:
    """Surroundings of a centre: all arrays (z, y, x), patch plus context, the centre in the middle.

    image: the volume's own type.  labels: int32, numbers of this block, 0 = no object.
    known: bool, False where nothing is annotated or the volume has ended.
    """

    image: np.ndarray
    labels: np.ndarray
    known: np.ndarray
    centre: Zyx
    source: int
    partition: int


@dataclass(frozen=True)
class _Block:
    """A sub-block with the candidates drawn in it: (n, 3) positions in the volume, by partition.

    share: of its voxels, those of eligible objects.
    """

    source: int
    box: Box
    share: float
    by_partition: dict[int, np.ndarray]


class Sampler:
    """Draws the examples of one feeder.

    patch: voxels that the network may reach.  context: further voxels on each side, for
    augmentation.  radius: of the box in which an object's share is counted.
    feeder, feeders: which of how many; their centres are disjoint.
    Raises BadInput if a source is too small for the patch.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        patch: Zyx,
        radius: Zyx,
        context: Zyx = (0, 0, 0),
        settings: ExampleSettings | None = None,
        seed: int = 0,
        feeder: int = 0,
        feeders: int = 1,
    ) -> None:
        self.settings = settings or ExampleSettings()
        self.sources, self.patch, self.radius, self.context = list(sources), patch, radius, context
        self.seed, self.feeder, self.feeders = seed, feeder, feeders
        self.reach = zyx([max(p // 2, r) for p, r in zip(patch, radius, strict=True)])
        self._cells = math.ceil(round(feeders ** (1 / 3), 9))
        self._check()
        weights = np.array([s.weight for s in self.sources], float)
        self._chances = weights / weights.sum()
        self._blocks: OrderedDict[int, _Block] = OrderedDict()
        self._pieces = Pieces(
            self.sources,
            min_object_size=self.settings.min_object_size,
            memory_mb=self.settings.memory_mb,
        )
        self._lock = threading.Lock()
        self._warned = feeder > 0  # once is enough: all feeders have the same settings

    def _check(self) -> None:
        if not self.sources:
            raise BadInput("there is no volume to train on; give at least one under `volumes`.")
        least = [2 * r + max(1, self._cells) for r in self.reach]
        for source in self.sources:
            room = (
                source.box.grown([-m for m in self.settings.margin]).shape
                if all(
                    n > 2 * m for n, m in zip(source.box.shape, self.settings.margin, strict=True)
                )
                else (0, 0, 0)
            )
            if any(n < k for n, k in zip(room, least, strict=True)):
                raise BadInput(
                    f"volume {source.name} has {source.box.shape} voxels to train on, margin "
                    f"{self.settings.margin}; a patch needs {tuple(least)} (z y x). Use a larger "
                    "box, a smaller fov, or fewer moves."
                )
            if any(c > r for c, r in zip(self.settings.clearance, self.reach, strict=True)):
                raise BadInput(
                    f"examples.clearance is {self.settings.clearance}; a patch reaches only "
                    f"{self.reach} voxels from its centre (z y x): give less."
                )
            if source.weight <= 0:
                raise BadInput(f"volume {source.name} has weight {source.weight}; it must be > 0.")
        if any(b < k for b, k in zip(self.settings.block, least, strict=True)):
            raise BadInput(
                f"examples.block is {self.settings.block}, but a patch needs {tuple(least)}."
            )

    # -- what is drawn ---------------------------------------------------------------------

    def example(self, number: int) -> Example:
        """Example `number`, always the same for the same seed and feeder."""
        rng = np.random.default_rng([self.seed, 1, self.feeder, number])
        first = number // self.settings.examples_per_block
        with self._lock:
            blocks = [self._block(j) for j in range(first, first + self.settings.blocks)]
        present = sorted({p for b in blocks for p in b.by_partition})
        if not present:
            raise BadInput(
                "no voxel to train on was found in "
                f"{len(blocks)} sub-blocks of {', '.join(s.name for s in self.sources)}: all "
                f"objects are under {self.settings.min_object_size} voxels, or nothing is "
                "annotated. Lower examples.min_object_size, or check the labels."
            )
        partition = int(rng.choice(present))
        holding = [b for b in blocks if partition in b.by_partition]
        block = holding[int(rng.integers(len(holding)))]
        points = block.by_partition[partition]
        centre = zyx(points[int(rng.integers(len(points)))].tolist())
        with self._lock:
            if not self._warned and (block.source, block.box) not in self._pieces.kept:
                self._warn()
            piece = self._pieces.piece(block.source, block.box)
        return self._cut(block, piece, centre, partition)

    def _warn(self) -> None:
        """A block in use is to be read again: say so if memory is too small for all of them."""
        voxels = sum(box.size for _, box in {(b.source, b.box) for b in self._blocks.values()})
        need = math.ceil(voxels * self._pieces.voxel_bytes / 2**20)
        if need > self.settings.memory_mb:
            self._warned = True
            log.warning(
                "examples.memory_mb is %d, which does not hold the %d sub-blocks of "
                "examples.block %s in use: they are read again and again, which is slow; raise it "
                "to %d (also with --resume), or give a smaller block",
                self.settings.memory_mb, self.settings.blocks, self.settings.block, need,
            )  # fmt: skip

    def annotated_voxels(self) -> int:
        """Estimate of the voxels that hold an eligible object, from the first sub-blocks."""
        with self._lock:
            blocks = [self._block(j) for j in range(self.settings.blocks)]
        total = 0.0
        for i, source in enumerate(self.sources):
            met = [b.share for b in blocks if b.source == i]
            # a source not met yet is counted as annotated in full
            total += (float(np.mean(met)) if met else 1.0) * source.box.size
        return round(total)

    # -- blocks ----------------------------------------------------------------------------

    def _block(self, number: int) -> _Block:
        if number in self._blocks:
            return self._blocks[number]
        rng = np.random.default_rng([self.seed, 2, self.feeder, number])
        which = int(rng.choice(len(self.sources), p=self._chances))
        inner = self.sources[which].box.grown([-m for m in self.settings.margin])
        shape = [min(a, b) for a, b in zip(self.settings.block, inner.shape, strict=True)]
        start = [
            a + int(rng.integers(n - s + 1))
            for a, n, s in zip(inner.start, inner.shape, shape, strict=True)
        ]
        piece = self._pieces.piece(which, Box.of_shape(shape, start))
        share = float(piece.eligible[piece.labels].mean())
        block = _Block(which, piece.box, share, self._candidates(piece, rng))
        self._blocks[number] = block
        while len(self._blocks) > self.settings.blocks + 1:
            self._blocks.popitem(last=False)
        return block

    def _candidates(self, piece: Piece, rng: np.random.Generator) -> dict[int, np.ndarray]:
        wanted, found, tries = self.settings.candidates, [np.zeros((0, 3), np.int64)], 0
        while sum(map(len, found)) < wanted and tries < 20:
            tries += 1
            points = self._positions(piece.box, wanted, rng)
            if len(points) == 0:
                break
            here = tuple((points - piece.box.start).T)
            good = piece.eligible[piece.labels[here]]
            if piece.known is not None:
                good &= piece.known[here]
            good &= _clear(piece.labels, points - piece.box.start, self.settings.clearance)
            found.append(points[good])
        chosen = np.concatenate(found)[:wanted]
        share = shares(piece.labels, chosen - piece.box.start, self.radius)
        classes = partition_of(share)
        return {p: chosen[classes == p] for p in range(PARTITIONS) if (classes == p).any()}

    def _positions(self, box: Box, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, 3) random centres inside a box that belong to this feeder."""
        m = self._cells
        owned = np.arange(self.feeder, m**3, self.feeders)
        cell = rng.choice(owned, count)
        residues = np.stack([cell // (m * m), cell // m % m, cell % m], 1)
        low = np.array(box.start) + self.reach
        high = np.array(box.stop) - self.reach  # exclusive
        first = low + (residues - low) % m
        slots = (high - 1 - first) // m + 1
        return first + m * np.floor(rng.random((count, 3)) * slots).astype(np.int64)

    def _cut(self, block: _Block, piece: Piece, centre: Zyx, partition: int) -> Example:
        half = zyx([p // 2 + c for p, c in zip(self.patch, self.context, strict=True)])
        wanted = Box(centre, zyx([c + 1 for c in centre])).grown(half)
        inside = wanted.intersection(piece.box)
        pads = [
            (a - w, v - b)
            for w, a, b, v in zip(wanted.start, inside.start, inside.stop, wanted.stop, strict=True)
        ]
        here = inside.slices(piece.box.start)
        known = np.ones(inside.shape, bool) if piece.known is None else piece.known[here]
        image, labels = piece.image[here], piece.labels[here]
        if any(p != (0, 0) for p in pads):
            # beyond the block there is only context: its image is a mirror, its labels unknown
            image = np.pad(image, pads, mode="symmetric")
            labels, known = np.pad(labels, pads), np.pad(known, pads)
        return Example(image, labels, known, centre, block.source, partition)


def _clear(labels: np.ndarray, points: np.ndarray, clearance: Zyx) -> np.ndarray:
    """(n,) bool: whether the voxels at +-clearance along each axis are of the point's own object.

    points: (n, 3), at least `clearance` from every rim.
    """
    own = labels[tuple(points.T)]
    clear = np.ones(len(points), bool)
    for axis, step in enumerate(clearance):
        for offset in (-step, step):
            there = points.copy()
            there[:, axis] += offset
            clear &= labels[tuple(there.T)] == own
    return clear
