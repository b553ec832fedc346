"""Ids of objects across blocks, and the links between them.

What it is: how a block's number and a local id are packed into one uint64, and the table of links
that the votes of faces give. What it is not: files, or the merging (unionfind).

    bit   63 ........ 53 52 ............... 24 23 ................ 0
          always 0       block number (29 bits) local id, from 1 (24 bits)

All ids are below 2^53, so programs that hold them in doubles (JavaScript, JSON) keep them exact.
The smallest member of a merged object lies in its first block, in the grid's row-major order.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from petavox.errors import BadInput

LOCAL_BITS = 24
BLOCK_BITS = 29


def pack(block: int, local: np.ndarray) -> np.ndarray:
    """uint64 ids of a block's local labels; 0 stays 0.

    Raises BadInput if the block's number or a local id does not fit its bits.
    """
    if not 0 <= block < 1 << BLOCK_BITS:
        raise BadInput(
            f"block number {block} does not fit {BLOCK_BITS} bits: use larger blocks "
            f"(at most {(1 << BLOCK_BITS) - 1:,})."
        )
    if local.size and int(local.max()) >= 1 << LOCAL_BITS:
        raise BadInput(
            f"block {block} holds the local id {int(local.max())}, more than {LOCAL_BITS} bits: "
            "use smaller blocks."
        )
    base = np.uint64(block << LOCAL_BITS)
    return np.where(local > 0, local.astype(np.uint64) | base, np.uint64(0))


def block_of(ids: np.ndarray) -> np.ndarray:
    """Block numbers of packed ids, int64."""
    return (np.asarray(ids, np.uint64) >> np.uint64(LOCAL_BITS)).astype(np.int64)


def local_of(ids: np.ndarray) -> np.ndarray:
    """Local ids of packed ids, uint32."""
    return (np.asarray(ids, np.uint64) & np.uint64((1 << LOCAL_BITS) - 1)).astype(np.uint32)


@dataclass(frozen=True)
class Links:
    """Pairs of objects that face each other across one or more faces; arrays of one length.

    a, b: uint64 ids, a on the lower side.  axis: 0 z, 1 y, 2 x.  overlap: voxels in both.
    size_a, size_b: voxels of each where the two blocks overlap.  accepted: they are one object.
    """

    a: np.ndarray
    b: np.ndarray
    axis: np.ndarray
    overlap: np.ndarray
    size_a: np.ndarray
    size_b: np.ndarray
    accepted: np.ndarray

    DTYPES = {  # noqa: RUF012  a constant of the class, not a field
        "a": np.uint64,
        "b": np.uint64,
        "axis": np.uint8,
        "overlap": np.int64,
        "size_a": np.int64,
        "size_b": np.int64,
        "accepted": np.bool_,
    }

    def __len__(self) -> int:
        return len(self.a)

    @property
    def share(self) -> np.ndarray:
        """Overlap over the smaller of both sizes, float64 in 0..1."""
        return self.overlap / np.maximum(np.minimum(self.size_a, self.size_b), 1)

    @classmethod
    def none(cls) -> Self:
        """A table without rows."""
        return cls(**{name: np.zeros(0, dtype) for name, dtype in cls.DTYPES.items()})

    @classmethod
    def joined(cls, tables: list[Links]) -> Self:
        """The rows of several tables, in order."""
        if not tables:
            return cls.none()
        return cls(
            **{f.name: np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(cls)}
        )

    def columns(self) -> dict[str, np.ndarray]:
        """Name -> array, for a table file."""
        return {name: getattr(self, name) for name in self.DTYPES}
