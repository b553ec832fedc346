"""An agglomerated volume with a graph written by hand, for tests of what comes after.

Objects 1 to 6 are slabs along x, 4 voxels wide; 1-2-3 and 4-5 were merged, 6 stayed alone.
"""

from __future__ import annotations

import json

import numpy as np

from petavox import volume
from petavox.segment.agglomeration import ACCEPTED, REJECTED
from petavox.segment.rule import Rule
from petavox.space import Box
from petavox.stages import tables
from petavox.volume import state
from petavox.volume.opening import create, finish

PAIRS = [
    (1, 2, 3.0, ACCEPTED),
    (2, 3, 1.2, ACCEPTED),
    (3, 4, 0.9, REJECTED),
    (4, 5, 2.0, ACCEPTED),
    (5, 6, 0.1, REJECTED),
]


def stored(path, values, kind="labels"):
    made = create(
        path,
        box=Box.of_shape(values.shape, (-2, 0, 0)),
        voxel_size=(10, 10, 10),
        dtype=values.dtype,
        kind=kind,
        chunk=(8, 8, 8),
        shard=(8, 8, 8),
    )
    made.write(made.box, values)
    finish(made, {})


def slabs() -> np.ndarray:
    return np.broadcast_to(1 + np.arange(24, dtype=np.uint64) // 4, (4, 4, 24)).copy()


def agglomerated(folder):
    """Write labels, out and its graph into a folder; gives the path of out."""
    labels, out, graph = folder / "labels", folder / "out", folder / "out.graph"
    base = slabs()
    final = np.array([0, 1, 1, 1, 4, 4, 6], np.uint64)
    stored(labels, base)
    stored(out, final[base])
    origins = {str(i): {"seed": [0, 2, 4 * i - 2], "fovs": 10 * i} for i in range(1, 7)}
    (labels / "origins.json").write_text(json.dumps({"origins": origins}))
    tables.create(graph)
    a, b, odds, decision = zip(*PAIRS, strict=True)
    n = len(a)
    edges = {
        "a": np.array(a, np.uint64),
        "b": np.array(b, np.uint64),
        **{k: np.zeros(n, np.int64) for k in "zy"},
        "x": np.array(a) * 4 - 1,
        **{f"{k}_nm": np.full(n, 5.0) for k in "zyx"},
        **{k: np.full(n, 16) for k in ("faces", "size_a", "size_b")},
        "distance_nm": np.zeros(n),
        **{k: np.full(n, 0.9) for k in ("iou", "aa", "ab", "ba", "bb")},
        **{k: np.zeros(n) for k in ("deleted_a", "deleted_b")},
        **{k: np.ones(n, np.int64) for k in ("tries_a", "tries_b", "fovs")},
        "reason": np.array([""] * n),
        "odds": np.array(odds),
        "odds_asked": np.ones(n),
        "decision": np.array(decision),
    }
    tables.write(graph / "edges.parquet", edges)
    ids = np.arange(1, 7, dtype=np.uint64)
    sizes = np.full(6, 64, np.int64)
    tables.write(graph / "objects.parquet", {"id": ids, "voxels": sizes, "final": final[1:]})
    (graph / "rule.json").write_text(Rule().model_dump_json())
    reads = {"labels": str(labels), "image": str(folder / "image"), "model": "m.safetensors"}
    state.finish(graph, {"reads": reads, "key": "by hand"})
    return out


def read(path) -> list[int]:
    """One row of voxels, an id for each slab."""
    return volume.open(path).read()[0, 0, ::4].tolist()
