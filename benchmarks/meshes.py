"""All meshes of the 512^3 cortex segmentation, beside a plain loop over zmesh.

    python -m benchmarks.meshes [--box z0:z1,y0:y1,x0:x1] [--alone]

Both read the same file and simplify each object with the same bound (40 nm). The plain loop keeps
the whole volume and all meshes in one process and writes one level, one file an object; petavox
works in blocks with two workers and writes up to four levels, Draco, sharded.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import data_folder, emit
from benchmarks.measured import measured

FILE = "cloudvolume_seg/seg_16_16_40.h5"


def plain(box: str, out: str) -> dict[str, Any]:
    """zmesh on the whole volume, object by object."""
    import h5py
    import numpy as np
    import zmesh

    from petavox.space import Box

    with h5py.File(data_folder() / FILE) as f:
        labels = f["labels"][Box.parse(box).slices()]
    mesher = zmesh.Mesher((40, 16, 16))
    mesher.mesh(labels, close=True)
    simplifier, faces, objects = zmesh.Mesher((1, 1, 1)), 0, 0
    for label in mesher.ids():
        mesh = simplifier.simplify(mesher.get(label), reduction_factor=100, max_error=40)
        mesher.erase(label)
        (Path(out) / f"{label}").write_bytes(mesh.to_precomputed())
        faces += len(mesh.faces)
        objects += 1
    return {"objects": objects, "faces": int(np.int64(faces))}


def ours(box: str, out: str, workers: int) -> dict[str, Any]:
    """petavox mesh."""
    from petavox.blocks import open_engine
    from petavox.stages.mesh import MeshSettings, run

    settings = MeshSettings(box=box, error_nm=40)
    with open_engine(workers=workers) as engine:
        return run(f"{data_folder() / FILE}/labels", Path(out), settings, engine=engine)


def main() -> None:
    """Run both where asked for, emit one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--box", default="0:512,0:512,0:512")
    parser.add_argument("--alone", action="store_true", help="petavox only")
    parser.add_argument("--keep", type=Path, help="folder for petavox's meshes")
    given = parser.parse_args()
    box = given.box
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "plain").mkdir()
        mine = measured(ours, box, str(given.keep or Path(folder) / "meshes"), 2)
        loop = None if given.alone else measured(plain, box, str(Path(folder) / "plain"))
    beside = {}
    if loop is not None:
        beside = {
            **loop.figures("plain_"),
            "plain_objects": loop.result["objects"],
            "plain_faces": loop.result["faces"],
        }
    emit(
        "meshes",
        data=FILE,
        box=box,
        workers=2,
        load=round(os.getloadavg()[0], 1),
        **mine.figures(),
        **beside,
        **{k: v for k, v in mine.result.items() if k != "seconds"},
    )


if __name__ == "__main__":
    main()
