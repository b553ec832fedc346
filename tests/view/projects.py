"""A small project made by hand, as `petavox run` leaves it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import h5py
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile

from petavox.project.records import StepState, stamp, write
from petavox.stages import mesh
from petavox.volume import state

from .conftest import ID, SIZE, made, voxels

# a cleft on the lower y face of the object (see conftest), nm
CLEFT = (40.0, -100.0, 280.0)


@functools.cache
def meshes() -> Path:
    """Meshes of the object, made once for all tests."""
    place = Path(tempfile.mkdtemp(prefix="petavox-test-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    labels = made(place, "ome-zarr").labels
    mesh.run(labels, place / "meshes", mesh.MeshSettings())
    return place / "meshes"


def done(folder: Path, step: str, things: dict[str, str], **figures) -> None:
    """Record a step as finished."""
    stamps = {thing: stamp(folder / path) for thing, path in things.items()}
    said = StepState(step, "done", figures=figures, seconds=1.5, started=1e9, finished=1e9 + 1.5)
    said.stamps = stamps
    write(folder / "run" / "steps" / f"{step}.json", said)


def project(folder: Path, *, meshed: bool = True) -> Path:
    """An image, objects, neurons that are the same, their meshes, and two synapses."""
    folder.mkdir()
    (folder / "petavox.yaml").write_text(
        "name: by hand\ninput: {image: image.zarr, synapses: synapses/synapses.parquet}\n"
    )
    volumes = made(folder, "ome-zarr")
    shutil.move(volumes.image, folder / "image.zarr")
    shutil.copytree(volumes.labels, folder / "objects.zarr")
    shutil.move(volumes.labels, folder / "neurons.zarr")
    done(folder, "reconcile", {"objects": "objects.zarr"}, objects=1)
    done(folder, "agglomerate", {"neurons": "neurons.zarr"}, neurons=1)
    if meshed:
        shutil.copytree(meshes(), folder / "meshes")
        done(folder, "mesh", {"meshes": "meshes"}, objects=1)
    (folder / "synapses").mkdir()
    z, y, x = CLEFT
    pq.write_table(
        pa.table(
            {
                "id": pa.array([1, 1], pa.uint64()),
                "z_nm": [z, z],
                "y_nm": [y, y],
                "x_nm": [x, x],
                "pre": pa.array([ID, ID], pa.uint64()),
                "post": pa.array([0, 0], pa.uint64()),
                "size": [1e5, 2e5],
                "score": [0.5, 0.75],
            }
        ),
        folder / "synapses" / "synapses.parquet",
    )
    return folder


def unsized(folder: Path) -> Path:
    """A project that begins from sections and a mask in files that do not say their voxel size."""
    folder.mkdir()
    (folder / "petavox.yaml").write_text(
        f"name: by hand\nvoxel_size: {list(SIZE)}\ninput: {{image: sections, mask: mask.h5/m}}\n"
    )
    image, labels = voxels()
    (folder / "sections").mkdir()
    for z, plane in enumerate(image):
        tifffile.imwrite(folder / "sections" / f"{z}.tif", plane)
    with h5py.File(folder / "mask.h5", "w") as f:
        f["m"] = (labels > 0).astype("uint8")
    return folder


def unfinished(folder: Path) -> None:
    """Make a folder one that is still being written."""
    state.begin(folder)
