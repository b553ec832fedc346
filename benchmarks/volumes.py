"""MB/s of writing and reading a 256^3 volume of real texture, in each format.

    python -m benchmarks.volumes

What it is: the time of petavox's own path (create, write, open, read), image (uint8) and labels
(uint64), from the FIB-25 validation image and the mouse cortex labels. Bytes are those of the
voxels in memory. Files are fresh from the page cache: this measures codecs and code, not disks.
What it is not: a test of storage.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import tifffile

import petavox as pv
from benchmarks.common import data_folder, emit
from petavox.space import Box, Grid, VoxelSize
from petavox.volume import places, pyramid
from petavox.volume.export import export_volume
from petavox.volume.opening import create, finish

SIDE = 256
REPEATS = 3


def textures() -> dict[str, np.ndarray]:
    """An image and labels of 256^3 voxels; the image is 200 sections deep and mirrored to 256."""
    with h5py.File(data_folder() / "fib25/validation_sample_z0-200.h5") as f:
        image = f["raw"][:, :SIDE, :SIDE]
    with h5py.File(data_folder() / "cloudvolume_seg/seg_16_16_40.h5") as f:
        labels = f["labels"][128:384, 128:384, 128:384].astype(np.uint64)
    return {"image": np.pad(image, ((0, SIDE - len(image)), (0, 0), (0, 0)), "reflect"),
            "labels": labels}  # fmt: skip


def best(work: Callable[[], object]) -> float:
    """Seconds of the quickest of a few runs."""
    times = []
    for _ in range(REPEATS):
        places.context.cache_clear()  # no decoded chunk is left from the run before
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Measure all formats and emit one line each."""
    folder = Path(tempfile.mkdtemp(prefix="petavox-bench-"))
    try:
        for kind, values in textures().items():
            for format in ("ome-zarr", "precomputed", "hdf5", "tiff"):
                if (kind, format) != ("labels", "tiff"):
                    measure(folder, kind, values, format)
            coarsen(folder, kind)
        stack(folder)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, kind: str, values: np.ndarray, format: str) -> None:
    """Write, read whole, read 64^3 at random places."""
    box = Box.of_shape(values.shape, (-8, 0, 16))
    path = folder / f"{kind}-{format}"
    source = folder / f"{kind}-ome-zarr"

    def write() -> None:
        if format in ("hdf5", "tiff"):
            target = f"{path}.h5/x" if format == "hdf5" else str(path)
            export_volume(pv.open(source), target, format=format, overwrite=True, quiet=True)
            return
        v = create(path, box=box, voxel_size=VoxelSize(8, 8, 8), dtype=values.dtype, kind=kind,
                   format=format, overwrite=True)  # fmt: skip
        for block in Grid(box, v.write_shape):
            v.write(block.write, values[block.write.slices(box.start)])
        finish(v, {"stage": "benchmark"})

    seconds = best(write)
    where = f"{path}.h5/x" if format == "hdf5" else path
    size = VoxelSize(8, 8, 8)
    assert np.array_equal(pv.open(where, voxel_size=size).read(), values)
    read = best(lambda: pv.open(where, voxel_size=size).read())
    rng = np.random.default_rng(0)
    v = pv.open(where, voxel_size=size)
    starts = [tuple(rng.integers(a, b - 63) for a, b in zip(v.box.start, v.box.stop, strict=True))
              for _ in range(20)]  # fmt: skip

    def cubes() -> None:
        fresh = pv.open(where, voxel_size=size)
        for start in starts:
            fresh.read(Box.of_shape((64, 64, 64), start))

    random = best(cubes) / len(starts)
    place = Path(f"{path}.h5") if format == "hdf5" else path
    files = [p for p in ([place] if place.is_file() else place.rglob("*")) if p.is_file()]
    emit(
        "volumes",
        kind=kind,
        dtype=values.dtype.name,
        format=format,
        write_mb_per_s=round(values.nbytes / 1e6 / seconds, 1),
        read_mb_per_s=round(values.nbytes / 1e6 / read, 1),
        random_64_cube_ms=round(1e3 * random, 2),
        stored_mb=round(sum(p.stat().st_size for p in files) / 1e6, 2),
        files=len(files),
        load=round(os.getloadavg()[0], 1),
    )


def coarsen(folder: Path, kind: str) -> None:
    """All coarser levels of the OME-Zarr volume, which then has them."""
    path = folder / f"{kind}-ome-zarr"
    v = pv.open(path)
    bare = folder / "bare"

    def work() -> None:
        target = create(bare, box=v.box, voxel_size=v.voxel_size, dtype=v.dtype, kind=v.kind,
                        overwrite=True)  # fmt: skip
        target.write(v.box, values)

    values = v.read()
    work()
    started = time.perf_counter()
    made = pyramid.build(bare, smallest=32, quiet=True)
    seconds = time.perf_counter() - started
    emit(
        "volumes",
        kind=kind,
        dtype=v.dtype.name,
        what="pyramid",
        levels=made["levels"],
        fine_mb_per_s=round(values.nbytes / 1e6 / seconds, 1),
    )


def stack(folder: Path) -> None:
    """Reading a stack of TIFF sections, section by section."""
    path = folder / "sections"
    path.mkdir()
    for z, plane in enumerate(textures()["image"]):
        tifffile.imwrite(path / f"{z}.tif", plane)
    v = pv.open(path, voxel_size=VoxelSize(8, 8, 8))
    seconds = best(v.read)
    emit("volumes", kind="image", dtype="uint8", format="uncompressed tiff sections",
         read_mb_per_s=round(v.box.size / 1e6 / seconds, 1))  # fmt: skip


if __name__ == "__main__":
    main()
