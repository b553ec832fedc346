"""Independent readers of what petavox writes: meshes, skeletons, SWC; written from the formats'
specifications, with TensorStore for shards. Nothing here imports petavox.neuron."""

from __future__ import annotations

import json
from pathlib import Path

import DracoPy
import numpy as np
import tensorstore as ts


def _store(folder: Path):
    info = json.loads((folder / "info").read_text())
    base = f"file://{folder.resolve()}/"
    kv = ts.KvStore.open(
        {"driver": "neuroglancer_uint64_sharded", "base": base, "metadata": info["sharding"]}
    ).result()
    return info, kv


def ids(folder: Path) -> list[int]:
    _, kv = _store(folder)
    return sorted(int.from_bytes(k, "big") for k in kv.list().result())


def value(folder: Path, label: int) -> bytes:
    _, kv = _store(folder)
    found = kv.read(label.to_bytes(8, "big")).result()
    assert found.state == "value", f"{label} is not in {folder}"
    return found.value


def _locate(folder: Path, label: int) -> tuple[Path, int]:
    """The shard file and the byte where the value of an id starts, by search for its bytes."""
    data = value(folder, label)
    for file in sorted(folder.glob("*.shard")):
        at = file.read_bytes().find(data)
        if at >= 0:
            return file, at
    raise AssertionError("the value is in no shard")


def mesh(folder: Path, label: int, lod: int = 0):
    """Vertices (n, 3) nm xyz, faces, and the manifest, of one level of a multi-resolution mesh."""
    info, _ = _store(folder)
    assert info["@type"] == "neuroglancer_multilod_draco"
    m = value(folder, label)
    chunk = np.frombuffer(m, "<f4", 3)
    origin = np.frombuffer(m, "<f4", 3, 12)
    lods = int(np.frombuffer(m, "<u4", 1, 24)[0])
    at = 28
    scales = np.frombuffer(m, "<f4", lods, at)
    at += 4 * lods
    offsets = np.frombuffer(m, "<f4", 3 * lods, at).reshape(lods, 3)
    at += 12 * lods
    counts = np.frombuffer(m, "<u4", lods, at)
    at += 4 * lods
    positions, sizes = [], []
    for n in counts:
        positions.append(np.frombuffer(m, "<u4", 3 * n, at).reshape(3, n).T)
        at += 12 * int(n)
        sizes.append(np.frombuffer(m, "<u4", n, at))
        at += 4 * int(n)
    assert at == len(m)
    file, begin = _locate(folder, label)
    body = begin - sum(int(s.sum()) for s in sizes)
    raw = file.read_bytes()
    for k in range(lod):
        body += int(sizes[k].sum())
    vertices, faces, total = [], [], 0
    bits = info["vertex_quantization_bits"]
    for where, size in zip(positions[lod], sizes[lod], strict=True):
        piece = DracoPy.decode(raw[body : body + int(size)])
        body += int(size)
        q = np.asarray(piece.points)
        assert np.array_equal(q, np.rint(q))
        assert q.min() >= 0
        assert q.max() < 2**bits
        v = origin + offsets[lod] + chunk * 2.0**lod * (where + q / (2**bits - 1))
        vertices.append(v)
        faces.append(np.asarray(piece.faces).reshape(-1, 3) + total)
        total += len(q)
    facts = {"scales": scales, "chunk": chunk, "origin": origin, "lods": lods, "counts": counts}
    return np.concatenate(vertices), np.concatenate(faces), facts | {"positions": positions}


def skeleton(folder: Path, label: int):
    """Vertices nm xyz, edges, and the attributes by name, of one precomputed skeleton."""
    info, _ = _store(folder)
    assert info["@type"] == "neuroglancer_skeletons"
    data = value(folder, label)
    nv, ne = np.frombuffer(data, "<u4", 2)
    at = 8
    v = np.frombuffer(data, "<f4", 3 * nv, at).reshape(-1, 3)
    at += 12 * int(nv)
    e = np.frombuffer(data, "<u4", 2 * ne, at).reshape(-1, 2)
    at += 8 * int(ne)
    attributes = {}
    for a in info["vertex_attributes"]:
        kind = np.dtype(a["data_type"]).newbyteorder("<")
        n = int(nv) * a["num_components"]
        attributes[a["id"]] = np.frombuffer(data, kind, n, at)
        at += n * kind.itemsize
    assert at == len(data)
    return v, e, attributes


def swc(path: Path) -> np.ndarray:
    """Rows (id, type, x, y, z, radius, parent) of an SWC file."""
    rows = [
        [float(c) for c in line.split()]
        for line in Path(path).read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return np.array(rows).reshape(-1, 7)
