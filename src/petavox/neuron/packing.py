"""What one block makes of its objects in one file, small and readable by object.

What it is: the scratch form between the block step and the joining step of meshes and skeletons:
a file of values, found by their place, with an index of ids; and the values: surfaces and skeleton
pieces in few bytes (differences, zstd). What it is not: a format for anyone else; the files are
removed when all is joined.

File: magic, where the index begins, rows, the values, the index of (id, offset, size, weight).
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from petavox.errors import NotComplete
from petavox.neuron.mesh import Fragment
from petavox.neuron.skeleton import Piece

_MAGIC = b"pvxfrag2"
INDEX = np.dtype([("id", "<u8"), ("offset", "<u8"), ("size", "<u8"), ("weight", "<u8")])
"""One row of a file's index, sorted by id. weight: faces of a surface, vertices of a piece."""


def packed(fragment: Fragment) -> bytes:
    """A fragment of surface in a few bytes a face."""
    v, f = fragment.vertices, fragment.faces
    low = v.min(0)
    first = np.diff(f[:, 0], prepend=0)
    columns = [
        np.diff(v[:, 0] - low[0], prepend=0),
        v[:, 1] - low[1],
        v[:, 2] - low[2],
        first,
        f[:, 1] - f[:, 0],
        f[:, 2] - f[:, 0],
    ]
    raw = b"".join(c.astype("<i4").tobytes() for c in columns)
    head = np.array([len(v), len(f), *low], "<i8").tobytes()
    return head + _compressed(raw)


def unpacked(data: bytes) -> Fragment:
    """The fragment that `packed` was given."""
    nv, nf, *low = (int(n) for n in np.frombuffer(data, "<i8", 5))
    raw = _whole(data[40:], 12 * (nv + nf))
    v = np.frombuffer(raw, "<i4", 3 * nv).reshape(3, nv).T.copy()
    f = np.frombuffer(raw, "<i4", 3 * nf, offset=12 * nv).reshape(3, nf).T.astype(np.int64)
    np.cumsum(v[:, 0], out=v[:, 0])
    np.cumsum(f[:, 0], out=f[:, 0])
    f[:, 1:] += f[:, :1]
    return Fragment((v + np.array(low)).astype(np.int32), f)


def packed_piece(piece: Piece) -> bytes:
    """A piece of a skeleton; its label is the index's."""
    v, e, r = piece.vertices, piece.edges, piece.radii
    raw = v.astype("<i8").tobytes() + e.astype("<i8").tobytes() + r.astype("<f8").tobytes()
    return np.array([piece.voxels, len(v), len(e)], "<i8").tobytes() + _compressed(raw)


def unpacked_piece(label: int, data: bytes) -> Piece:
    """The piece that `packed_piece` was given."""
    voxels, nv, ne = (int(n) for n in np.frombuffer(data, "<i8", 3))
    raw = _whole(data[24:], 32 * nv + 16 * ne)
    return Piece(
        label,
        voxels,
        np.frombuffer(raw, "<i8", 3 * nv).reshape(nv, 3).astype(np.int64),
        np.frombuffer(raw, "<i8", 2 * ne, 24 * nv).reshape(ne, 2).astype(np.int64),
        np.frombuffer(raw, "<f8", nv, 24 * nv + 16 * ne).astype(np.float64),
    )


def write(path: Path, rows: Iterable[tuple[int, bytes, int]]) -> int:
    """Write the values of one block; the file appears when it is whole. Returns its bytes.

    rows: id, value, weight; an id may come several times, and keeps the order of its values.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    found, offset = [], len(_MAGIC) + 16
    try:
        with open(temporary, "wb") as out:
            out.write(b"\0" * offset)
            for label, value, weight in rows:
                out.write(value)
                found.append((label, offset, len(value), weight))
                offset += len(value)
            table = np.array(found, INDEX)
            table = table[np.argsort(table["id"], kind="stable")]
            out.write(table.tobytes())
            out.seek(0)
            out.write(_MAGIC + np.array([offset, len(table)], "<u8").tobytes())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return offset + table.nbytes


def index(path: Path) -> np.ndarray:
    """The index of a file, sorted by id."""
    with open(path, "rb") as f:
        if f.read(len(_MAGIC)) != _MAGIC:
            raise NotComplete(
                f"{path} is no file of pieces of objects; remove its folder, run again."
            )
        offset, rows = (int(n) for n in np.frombuffer(f.read(16), "<u8"))
        f.seek(offset)
        return np.frombuffer(f.read(rows * INDEX.itemsize), INDEX)


def read(path: Path, offset: int, size: int) -> bytes:
    """One value, by its row of the index."""
    with open(path, "rb") as f:
        f.seek(offset)
        return f.read(size)


def _compressed(raw: bytes) -> bytes:
    return pa.Codec("zstd", compression_level=1).compress(raw, asbytes=True)


def _whole(data: bytes, size: int) -> bytes:
    return bytes(pa.Codec("zstd").decompress(data, decompressed_size=size, asbytes=True))
