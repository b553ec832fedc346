"""Volumes for the viewer: a dark and a bright half, and one object, in several formats."""

from __future__ import annotations

from dataclasses import dataclass

import h5py
import numpy as np
import pytest

import petavox as pv
from petavox.volume import opening

BOX = pv.Box((-3, -16, 7), (5, 14, 47))
SIZE = (40.0, 10.0, 10.0)
OBJECT = pv.Box((-2, -10, 20), (4, 5, 36))
ID = 2**53 + 1


@dataclass
class Pair:
    """Paths of an image (30 left of the middle, 220 right) and of labels with one object."""

    image: str
    labels: str


def voxels():
    image = np.full(BOX.shape, 30, np.uint8)
    image[:, :, 20:] = 220
    labels = np.zeros(BOX.shape, np.uint64)
    labels[OBJECT.slices(BOX.start)] = ID
    return image, labels


def made(folder, format) -> Pair:
    """The pair in a format: "HDF5", "ome-zarr" or "precomputed"."""
    image, labels = voxels()
    if format == "HDF5":
        with h5py.File(folder / "block.h5", "w") as f:
            for name, values in (("image", image), ("labels", labels)):
                f[name] = values
                f[name].attrs["voxel_size_nm"] = SIZE
                f[name].attrs["offset"] = BOX.start
        return Pair(f"{folder}/block.h5/image", f"{folder}/block.h5/labels")
    for name, values in (("image", image), ("labels", labels)):
        volume = pv.create(
            folder / name,
            box=BOX,
            voxel_size=SIZE,
            dtype=values.dtype,
            kind=name,
            chunk=(8, 16, 16),
            shard=(8, 32, 32),
            format=format,
        )
        for block in pv.Grid(BOX, volume.write_shape):
            volume.write(block.write, values[block.write.slices(BOX.start)])
        opening.finish(volume, {})
    return Pair(str(folder / "image"), str(folder / "labels"))


@pytest.fixture
def pair(tmp_path, request) -> Pair:
    return made(tmp_path, getattr(request, "param", "HDF5"))
