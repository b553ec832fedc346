"""Mesh files that other programs read: OBJ, PLY and GLB.

What it is: writers to bytes; coordinates become xyz here, in nm (GLB: micrometres, because its
viewers take a unit for a metre). What it is not: the precomputed format.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable

import numpy as np

from petavox.neuron.mesh import Mesh, as_xyz


def obj(mesh: Mesh) -> bytes:
    """Wavefront OBJ: text, nm, xyz."""
    points, faces = as_xyz(mesh)
    out = io.BytesIO()
    out.write(b"# petavox, nm, xyz\n")
    np.savetxt(out, points, "v %.3f %.3f %.3f")
    np.savetxt(out, faces + 1, "f %d %d %d")
    return out.getvalue()


def ply(mesh: Mesh) -> bytes:
    """Stanford PLY, binary little-endian, nm, xyz."""
    points, faces = as_xyz(mesh)
    head = (
        "ply\nformat binary_little_endian 1.0\ncomment petavox, nm, xyz\n"
        f"element vertex {len(points)}\nproperty float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.zeros(len(faces), np.dtype([("n", "u1"), ("v", "<i4", 3)]))
    rows["n"], rows["v"] = 3, faces
    return head.encode() + np.ascontiguousarray(points, "<f4").tobytes() + rows.tobytes()


def glb(mesh: Mesh) -> bytes:
    """glTF 2.0 binary: one mesh, micrometres, xyz."""
    points, faces = as_xyz(mesh)
    v = np.ascontiguousarray(points / 1000, "<f4")
    f = np.ascontiguousarray(faces, "<u4")
    document = {
        "asset": {"version": "2.0", "generator": "petavox"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "mode": 4}]}],
        "buffers": [{"byteLength": v.nbytes + f.nbytes}],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": v.nbytes, "target": 34962},
            {"buffer": 0, "byteOffset": v.nbytes, "byteLength": f.nbytes, "target": 34963},
        ],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": 5126,
                "count": len(v),
                "type": "VEC3",
                "min": v.min(0).tolist() if len(v) else [0, 0, 0],
                "max": v.max(0).tolist() if len(v) else [0, 0, 0],
            },
            {"bufferView": 1, "componentType": 5125, "count": f.size, "type": "SCALAR"},
        ],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    body = v.tobytes() + f.tobytes()
    size = 12 + 8 + len(text) + 8 + len(body)
    return (
        struct.pack("<4sII", b"glTF", 2, size)
        + struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(body), b"BIN\0")
        + body
    )


WRITERS: dict[str, Callable[[Mesh], bytes]] = {"obj": obj, "ply": ply, "glb": glb}
"""Format name, which is also the suffix -> writer."""
