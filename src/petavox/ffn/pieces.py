"""Pieces: boxes of annotated volumes, read when they are wanted and kept in bounded memory.

What it is: a volume given as readers, functions from a Box to an array; a piece of it, its labels
renumbered; and the pieces that are kept, those not used for longest left first.
What it is not: files, or the choice of boxes (petavox.ffn.examples).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from petavox.space import Box

Reader = Callable[[Box], np.ndarray]
"""The voxels of a box, which lies inside the source's own box."""


@dataclass(frozen=True)
class Source:
    """One annotated volume: readers of its image, labels (0 = no object) and mask (0 = ignore)."""

    name: str
    box: Box
    image: Reader
    labels: Reader
    mask: Reader | None = None
    weight: float = 1.0
    """Share of the examples, relative to the other sources'."""


@dataclass(frozen=True)
class Piece:
    """Voxels of a box; its labels renumbered from 1 within it."""

    box: Box
    image: np.ndarray
    labels: np.ndarray
    known: np.ndarray | None
    eligible: np.ndarray
    """(number of labels,) bool: large enough, and not 0."""

    @property
    def nbytes(self) -> int:
        """Memory of its voxels."""
        known = 0 if self.known is None else self.known.nbytes
        return int(self.image.nbytes + self.labels.nbytes + known)


class Pieces:
    """The pieces of some sources that are kept.

    min_object_size: voxels in a piece from which an object is eligible.  memory_mb: bound of what
    is kept; one piece is, whatever its size. What was let go is read again when it is wanted.
    """

    def __init__(self, sources: Sequence[Source], *, min_object_size: int, memory_mb: int) -> None:
        self.sources, self.min_object_size = sources, min_object_size
        self.most = memory_mb << 20
        self.voxel_bytes = 0.0
        """Memory of a voxel, in the source that takes most of those read."""
        self.kept: OrderedDict[tuple[int, Box], Piece] = OrderedDict()

    def piece(self, source: int, box: Box) -> Piece:
        """The voxels of a box of a source, by its number."""
        key = (source, box)
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        piece = self.kept[key] = self._read(self.sources[source], box)
        self.voxel_bytes = max(self.voxel_bytes, piece.nbytes / piece.box.size)
        held = sum(p.nbytes for p in self.kept.values())
        while held > self.most and len(self.kept) > 1:
            held -= self.kept.popitem(last=False)[1].nbytes
        return piece

    def _read(self, source: Source, box: Box) -> Piece:
        labels, known = source.labels(box), None
        if source.mask is not None:
            known = source.mask(box) > 0
        numbers, counts = renumbered(labels)
        eligible = counts >= self.min_object_size
        eligible[0] = False
        return Piece(box, np.ascontiguousarray(source.image(box)), numbers, known, eligible)


def renumbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels as int32 numbers from 1 on (0 stays 0), and how many voxels each number has."""
    if labels.size and int(labels.max()) < 1 << 24:
        # a table beats sorting by far, and most volumes have small ids
        counts = np.bincount(labels.ravel().astype(np.int64))
        present = counts > 0
        present[0] = True
        table = (np.cumsum(present) - 1).astype(np.int32)
        return table[labels], counts[present]
    ids, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(ids) == 0 or ids[0] != 0:
        numbers, counts = numbers + 1, np.concatenate([[0], counts])
    return numbers.reshape(labels.shape).astype(np.int32), counts
