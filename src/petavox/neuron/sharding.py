"""Neuroglancer's sharded key-value files ("neuroglancer_uint64_sharded_v1").

What it is: which shard and minishard an id belongs to (MurmurHash3_x86_128 of the id), and a
writer of one shard file that streams its values to disk. What it is not: a reader (TensorStore's
`neuroglancer_uint64_sharded` driver reads the files), or any meaning of the values.

A shard file: ┌──────────────┬────────────────────────────┬──────────────────┐
              │ shard index  │ values, in the order given │ minishard indices│
              │ 16 B x 2^m   │                            │ 24 B an id       │
              └──────────────┴────────────────────────────┴──────────────────┘
"""

from __future__ import annotations

import math
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from petavox.errors import BadInput


@dataclass(frozen=True)
class Sharding:
    """How ids are spread: 2^shard_bits files of 2^minishard_bits minishards each."""

    shard_bits: int
    minishard_bits: int

    @classmethod
    def of(cls, *, ids: int, size: int) -> Sharding:
        """A sharding for so many ids of so many bytes in all: shards of about 64 MB, 256 ids or
        fewer in a minishard; at least 8 shards for 256 ids or more, so that workers share them.
        """
        shards = max(size / 2**26, 8 if ids >= 256 else 1)
        shard_bits = max(0, math.ceil(math.log2(shards)))
        return cls(shard_bits, max(0, math.ceil(math.log2(max(1.0, ids / 2**shard_bits / 256)))))

    def spec(self) -> dict[str, Any]:
        """The `sharding` member of an info file."""
        return {
            "@type": "neuroglancer_uint64_sharded_v1",
            "preshift_bits": 0,
            "hash": "murmurhash3_x86_128",
            "minishard_bits": self.minishard_bits,
            "shard_bits": self.shard_bits,
            "minishard_index_encoding": "raw",
            "data_encoding": "raw",
        }

    def places(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Shard and minishard (int64) of each id."""
        h = murmur(ids)
        minishard = h & np.uint64((1 << self.minishard_bits) - 1)
        shard = (h >> np.uint64(self.minishard_bits)) & np.uint64((1 << self.shard_bits) - 1)
        return shard.astype(np.int64), minishard.astype(np.int64)

    def file(self, shard: int) -> str:
        """The name of a shard's file."""
        return f"{shard:0{-(-self.shard_bits // 4)}x}.shard"


class ShardWriter:
    """Writes one shard file, value by value; the file appears under its name when it is whole.

    with ShardWriter(folder, sharding, shard) as out:
        out.add(id, value)                      # in any order, each id once
        out.add(id, manifest, before=fragments) # bytes that precede the value, not counted in it
    """

    def __init__(self, folder: Path, sharding: Sharding, shard: int) -> None:
        self.sharding, self.shard = sharding, shard
        self.path = folder / sharding.file(shard)
        self._temporary = folder / f".{self.path.name}.{uuid.uuid4().hex[:8]}.partial"
        self._entries: list[tuple[int, int, int]] = []
        self._index_size = 16 << sharding.minishard_bits
        self._offset = 0

    def __enter__(self) -> Self:
        self._file = open(self._temporary, "wb")
        self._file.write(b"\0" * self._index_size)
        return self

    def add(self, label: int, value: bytes, *, before: bytes = b"") -> None:
        """Append one value; it is found by its id, `before` lies in front of it."""
        self._file.write(before)
        self._file.write(value)
        self._entries.append((label, self._offset + len(before), len(value)))
        self._offset += len(before) + len(value)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        whole = False
        try:
            if kind is None:
                self._finish()
                whole = True
        finally:
            self._file.close()
            if whole:
                os.replace(self._temporary, self.path)
            else:
                self._temporary.unlink(missing_ok=True)

    def _finish(self) -> None:
        ids = np.array([e[0] for e in self._entries], np.uint64)
        at = np.array([e[1] for e in self._entries], np.uint64)
        size = np.array([e[2] for e in self._entries], np.uint64)
        shards, minishards = self.sharding.places(ids)
        if (shards != self.shard).any():
            raise BadInput(f"id {int(ids[shards != self.shard][0])} is not of {self.path.name}.")
        order = np.lexsort((ids, minishards))
        ids, at, size = ids[order], at[order], size[order]
        stops = np.cumsum(np.bincount(minishards, minlength=1 << self.sharding.minishard_bits))
        for mine in map(slice, np.r_[0, stops[:-1]].tolist(), stops.tolist()):
            if mine.stop == mine.start:
                continue
            table = np.stack(
                [
                    np.diff(ids[mine], prepend=np.uint64(0)),
                    # each start counts from the end of the one before, modulo 2^64
                    at[mine] - np.r_[np.uint64(0), (at[mine] + size[mine])[:-1]],
                    size[mine],
                ]
            )
            self._file.write(table.astype("<u8").tobytes())
        ends = self._offset + 24 * stops
        index = np.stack([np.r_[self._offset, ends[:-1]], ends], axis=1).astype("<u8")
        self._file.seek(0)
        self._file.write(index.tobytes())
        self._file.flush()
        os.fsync(self._file.fileno())


def murmur(ids: np.ndarray) -> np.ndarray:
    """The low 8 bytes of MurmurHash3_x86_128 (A. Appleby), seed 0, of each id as 8 bytes.

    ids: uint64.  Returns uint64 of the same shape.
    """
    ids = np.asarray(ids, np.uint64)
    low = (ids & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    high = (ids >> np.uint64(32)).astype(np.uint32)
    with np.errstate(over="ignore"):
        zero = np.zeros_like(low)
        # the eight bytes are all tail: its two words mix into the second and the first state
        second = _rotated(high * np.uint32(0xAB0E9789), 16) * np.uint32(0x38B34AE5)
        first = _rotated(low * np.uint32(0x239B961B), 15) * np.uint32(0xAB0E9789)
        h = [first ^ np.uint32(8), second ^ np.uint32(8), zero + np.uint32(8), zero + np.uint32(8)]
        h = _stirred(h)
        h = [_final(x) for x in h]
        h = _stirred(h)
    return h[0].astype(np.uint64) | (h[1].astype(np.uint64) << np.uint64(32))


def _stirred(h: list[np.ndarray]) -> list[np.ndarray]:
    total = h[0] + h[1] + h[2] + h[3]
    return [total, h[1] + total, h[2] + total, h[3] + total]


def _rotated(x: np.ndarray, by: int) -> np.ndarray:
    return (x << np.uint32(by)) | (x >> np.uint32(32 - by))


def _final(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))
