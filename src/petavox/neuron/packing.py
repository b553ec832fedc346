"""Fragments of one block in one file, small and readable by object.

What it is: the scratch form between the block step and the joining step of meshes: each
fragment a few bytes a face (differences, zstd), and an index of ids. What it is not: a format for
anyone else; the files are removed when the meshes are whole.

File: magic, number of rows, index of (id, offset, bytes, faces), then the fragments.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from petavox.errors import NotComplete
from petavox.neuron.mesh import Fragment

_MAGIC = b"pvxfrag1"
INDEX = np.dtype([("id", "<u8"), ("offset", "<u8"), ("size", "<u8"), ("faces", "<u8")])
"""One row of a file's index, sorted by id."""


def packed(fragment: Fragment) -> bytes:
    """A fragment in a few bytes a face."""
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
    return head + pa.Codec("zstd", compression_level=1).compress(raw, asbytes=True)


def unpacked(data: bytes) -> Fragment:
    """The fragment that `packed` was given."""
    nv, nf, *low = (int(n) for n in np.frombuffer(data, "<i8", 5))
    size = 12 * (nv + nf)
    raw = pa.Codec("zstd").decompress(data[40:], decompressed_size=size, asbytes=True)
    v = np.frombuffer(raw, "<i4", 3 * nv).reshape(3, nv).T.copy()
    f = np.frombuffer(raw, "<i4", 3 * nf, offset=12 * nv).reshape(3, nf).T.astype(np.int64)
    np.cumsum(v[:, 0], out=v[:, 0])
    np.cumsum(f[:, 0], out=f[:, 0])
    f[:, 1:] += f[:, :1]
    return Fragment((v + np.array(low)).astype(np.int32), f)


def write(path: Path, fragments: Mapping[int, Fragment]) -> int:
    """Write the fragments of one block; the file appears when it is whole. Returns its bytes."""
    ids = sorted(fragments)
    index = np.zeros(len(ids), INDEX)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    offset = len(_MAGIC) + 8 + index.nbytes
    try:
        with open(temporary, "wb") as out:
            out.write(_MAGIC + len(ids).to_bytes(8, "little") + index.tobytes())
            for k, label in enumerate(ids):
                data = packed(fragments[label])
                index[k] = (label, offset, len(data), len(fragments[label].faces))
                out.write(data)
                offset += len(data)
            out.seek(len(_MAGIC) + 8)
            out.write(index.tobytes())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return offset


def index(path: Path) -> np.ndarray:
    """The index of a file, sorted by id."""
    with open(path, "rb") as f:
        if f.read(len(_MAGIC)) != _MAGIC:
            raise NotComplete(f"{path} is no file of mesh fragments; remove its folder, run again.")
        return np.frombuffer(f.read(int.from_bytes(f.read(8), "little") * INDEX.itemsize), INDEX)


def read(path: Path, row: np.void) -> Fragment:
    """One fragment, by its row of the index."""
    with open(path, "rb") as f:
        f.seek(int(row["offset"]))
        return unpacked(f.read(int(row["size"])))
