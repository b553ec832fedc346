"""Read the tensors of a TensorFlow checkpoint (index + data) without TensorFlow.

What it is: a reader of the tensor-bundle format: an index file that is a LevelDB table of
protocol-buffer entries, and one data file of raw little-endian values. Every offset is checked
against the file's size and every checksum (CRC-32C) is verified; no code in the file is run.
What it is not: a reader of partitioned variables, compressed blocks or several data shards;
those are refused in a sentence.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from petavox.errors import BadInput

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64}
_MAX_TENSOR = 1 << 32  # bytes; far above any flood-filling network


@dataclass(frozen=True)
class _Entry:
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int | None
    sliced: bool


def read_checkpoint(index: str | Path) -> dict[str, np.ndarray]:
    """All numeric tensors of a checkpoint, by name.

    index: the `.index` file, or its name without the suffix. Raises BadInput if a file is
    missing, truncated, corrupt or of a kind that is not supported.
    """
    index = Path(index)
    if index.suffix != ".index":
        index = index.with_name(index.name + ".index")
    data = index.with_name(index.name.removesuffix(".index") + ".data-00000-of-00001")
    for file in (index, data):
        if not file.is_file():
            raise BadInput(f"the checkpoint needs {file}, which is not there.")
    table, raw = index.read_bytes(), data.read_bytes()
    try:
        entries = {key.decode(): value for key, value in _table(table)}
        tensors = {}
        for name, value in entries.items():
            if name:
                found = _tensor(_entry(value), raw, name, data)
                if found is not None:
                    tensors[name] = found
        return tensors
    except (struct.error, IndexError, UnicodeDecodeError, ValueError, OverflowError) as e:
        raise BadInput(f"{index} is damaged or no TensorFlow checkpoint index ({e}).") from None


def _tensor(entry: _Entry, raw: bytes, name: str, data: Path) -> np.ndarray | None:
    if entry.dtype not in _TYPES:
        return None  # strings and the like: bookkeeping of the trainer, no weights
    if entry.sliced or entry.shard != 0:
        raise BadInput(f"tensor '{name}' of {data} is partitioned; only whole ones are read.")
    dtype = np.dtype(_TYPES[entry.dtype])
    expected = int(np.prod(entry.shape, dtype=np.int64)) * dtype.itemsize
    if entry.size != expected or entry.size > _MAX_TENSOR or min(entry.shape, default=0) < 0:
        raise BadInput(
            f"tensor '{name}' claims {entry.size} bytes for shape {entry.shape} of {dtype.name}."
        )
    if entry.offset < 0 or entry.offset + entry.size > len(raw):
        raise BadInput(
            f"{data} is truncated: tensor '{name}' ends at byte {entry.offset + entry.size}, "
            f"the file at {len(raw)}."
        )
    piece = raw[entry.offset : entry.offset + entry.size]
    if entry.crc is not None and _masked_crc32c(piece) != entry.crc:
        raise BadInput(f"{data} is corrupt: the checksum of tensor '{name}' does not match.")
    return np.frombuffer(piece, dtype.newbyteorder("<")).astype(dtype).reshape(entry.shape)


def _table(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in order."""
    if len(file) < _FOOTER or struct.unpack("<Q", file[-8:])[0] != _MAGIC:
        raise ValueError("its footer is missing")
    at = len(file) - _FOOTER
    _, at = _varint(file, at)
    _, at = _varint(file, at)  # the meta-index block is not needed
    offset, at = _varint(file, at)
    size, at = _varint(file, at)
    for _, handle in _block(file, offset, size):
        data_offset, at = _varint(handle, 0)
        data_size, _ = _varint(handle, at)
        yield from _block(file, data_offset, data_size)


def _block(file: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of one block: keys share a prefix with the key before."""
    if offset + size + 5 > len(file) - _FOOTER + 5:
        raise ValueError("a block reaches beyond the end")
    kind, crc = file[offset + size], struct.unpack_from("<I", file, offset + size + 1)[0]
    if kind != 0:
        raise ValueError("its blocks are compressed, which is not supported")
    if _masked_crc32c(file[offset : offset + size + 1]) != crc:
        raise ValueError("a block's checksum does not match")
    block = file[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    end = size - 4 * (restarts + 1)
    at, key = 0, b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        if shared > len(key) or at + fresh + length > end:
            raise ValueError("an entry reaches beyond its block")
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def _entry(value: bytes) -> _Entry:
    """A BundleEntryProto: type, shape, shard, offset, size, checksum, slices."""
    number = {1: 0, 3: 0, 4: 0, 5: 0}
    shape: tuple[int, ...] = ()
    crc, sliced = None, False
    for field, item in _fields(value):
        if field == 2 and isinstance(item, bytes):
            shape = tuple(_dimension(d) for f, d in _fields(item) if f == 2)
        elif field == 6 and isinstance(item, int):
            crc = item
        elif field == 7:
            sliced = True
        elif isinstance(item, int):
            number[field] = item
    return _Entry(number[1], shape, number[3], number[4], number[5], crc, sliced)


def _dimension(value: bytes | int) -> int:
    if isinstance(value, int):
        raise ValueError("a dimension is not a message")
    return next((int(v) for f, v in _fields(value) if f == 1 and isinstance(v, int)), 0)


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Field numbers and values of a protocol-buffer message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
        elif wire in (1, 5):
            width, form = (8, "<Q") if wire == 1 else (4, "<I")
            yield tag >> 3, struct.unpack_from(form, message, at)[0]
            at += width
        elif wire == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("a field reaches beyond its message")
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError(f"unknown wire type {wire}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")


def _crc_table() -> list[int]:
    table = []
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ (0x82F63B78 if i & 1 else 0)
        table.append(i)
    return table


_CRC = _crc_table()


def _masked_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
