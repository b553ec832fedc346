"""An asymmetric phantom, written byte by byte in each format, to try petavox's readers on.

What it is: files made from the formats' specifications with nothing but NumPy, JSON and struct (and
h5py, tifffile, Pillow where the format is theirs), none of petavox's own writers. Every voxel has
a value of its own and the three sides, voxel edges and offsets all differ, so an xyz/zyx mix-up,
a flip or a wrong offset in a reader cannot go unseen. A writer is then tried through the reader.
What it is not: a phantom of tissue (petavox.phantom).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tifffile
from PIL import Image

from petavox.errors import PetavoxError
from petavox.space import Box, VoxelSize, Zyx
from petavox.volume.export import export_volume
from petavox.volume.opening import WRITERS, open

SHAPE: Zyx = (3, 5, 7)
START: Zyx = (2, -4, 11)
SIZE = VoxelSize(40.0, 6.0, 4.0)


def phantom() -> np.ndarray:
    """Values 0..104, (z, y, x) uint8, each once."""
    return np.arange(np.prod(SHAPE), dtype=np.uint8).reshape(SHAPE)


def _ome(unit_axes: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "multiscales": [
            {
                "axes": unit_axes,
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [40.0, 6.0, 4.0]},
                            {"type": "translation", "translation": [80.0, -24.0, 44.0]},
                        ],
                    }
                ],
            }
        ]
    }


_AXES = [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"]


def _save(file: Path, data: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def _zarr3(folder: Path) -> Path:
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": {"version": "0.5", **_ome(_AXES)}},
    }
    array = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(SHAPE),
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(SHAPE)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
    }
    _save(folder / "v.zarr/zarr.json", group)
    _save(folder / "v.zarr/0/zarr.json", array)
    _save(folder / "v.zarr/0/c/0/0/0", phantom().tobytes())
    return folder / "v.zarr"


def _zarr2(folder: Path) -> Path:
    array = {
        "zarr_format": 2,
        "shape": list(SHAPE),
        "chunks": list(SHAPE),
        "dtype": "|u1",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": None,
    }
    ome = _ome(_AXES)
    ome["multiscales"][0]["version"] = "0.4"
    _save(folder / "v2.zarr/.zgroup", {"zarr_format": 2})
    _save(folder / "v2.zarr/.zattrs", ome)
    _save(folder / "v2.zarr/0/.zarray", array)
    _save(folder / "v2.zarr/0/0.0.0", phantom().tobytes())
    return folder / "v2.zarr"


def _n5(folder: Path) -> Path:
    xyz = list(reversed(SHAPE))
    attributes = {
        "dimensions": xyz,
        "blockSize": xyz,
        "dataType": "uint8",
        "compression": {"type": "raw"},
        "transform": {
            "axes": ["z", "y", "x"],
            "scale": [40.0, 6.0, 4.0],
            "translate": [80.0, -24.0, 44.0],
            "units": ["nm", "nm", "nm"],
        },
    }
    _save(folder / "v.n5/attributes.json", attributes)
    _save(folder / "v.n5/0/0/0", struct.pack(">HH3I", 0, 3, *xyz) + phantom().tobytes())
    return folder / "v.n5"


def _precomputed(folder: Path) -> Path:
    info = {
        "@type": "neuroglancer_multiscale_volume",
        "type": "image",
        "data_type": "uint8",
        "num_channels": 1,
        "scales": [
            {
                "key": "4_6_40",
                "resolution": [4, 6, 40],
                "size": [7, 5, 3],
                "voxel_offset": [11, -4, 2],
                "chunk_sizes": [[7, 5, 3]],
                "encoding": "raw",
            }
        ],
    }
    _save(folder / "v.precomputed/info", info)
    # x runs fastest in the file, as it does in a C-ordered zyx array
    _save(folder / "v.precomputed/4_6_40/11-18_-4-1_2-5", phantom().tobytes())
    return folder / "v.precomputed"


def _hdf5(folder: Path) -> Path:
    with h5py.File(folder / "v.h5", "w") as f:
        data = f.create_dataset("v", data=phantom())
        data.attrs["voxel_size_nm"] = [40.0, 6.0, 4.0]
        data.attrs["offset"] = [2, -4, 11]
    return folder / "v.h5/v"


def _tiff(folder: Path) -> Path:
    (folder / "tif").mkdir()
    for z, plane in enumerate(phantom()):
        tifffile.imwrite(folder / f"tif/section_{z + 8}.tif", plane)  # 8, 9, 10: natural order
    return folder / "tif"


def _png(folder: Path) -> Path:
    (folder / "png").mkdir()
    for z, plane in enumerate(phantom()):
        Image.fromarray(plane).save(folder / f"png/section_{z + 8}.png")
    return folder / "png"


def _mrc(folder: Path) -> Path:
    head = bytearray(1024)
    struct.pack_into("<10i", head, 0, 7, 5, 3, 6, 11, -4, 2, 7, 5, 3)
    struct.pack_into("<3f", head, 40, 7 * 40.0, 5 * 60.0, 3 * 400.0)  # cell in angstrom
    struct.pack_into("<3i", head, 64, 1, 2, 3)
    head[208:216] = b"MAP DD\0\0"
    _save(folder / "v.mrc", bytes(head) + phantom().astype("<u2").tobytes())
    return folder / "v.mrc"


@dataclass(frozen=True)
class _Trial:
    make: Callable[[Path], Path]
    placed: bool  # the format keeps voxel size and offset
    export: str | None  # name of petavox's writer


_TRIALS = {
    "OME-Zarr 0.5": _Trial(_zarr3, True, "ome-zarr"),
    "zarr v3": _Trial(_zarr3, True, "ome-zarr"),
    "OME-Zarr 0.4": _Trial(_zarr2, True, None),
    "zarr v2": _Trial(_zarr2, True, None),
    "N5": _Trial(_n5, True, None),
    "precomputed": _Trial(_precomputed, True, "precomputed"),
    "HDF5": _Trial(_hdf5, True, "hdf5"),
    "MRC": _Trial(_mrc, True, None),
    "stack of tif sections": _Trial(_tiff, False, "tiff"),
    "stack of tiff sections": _Trial(_tiff, False, "tiff"),
    "stack of png sections": _Trial(_png, False, None),
}
FORMATS = tuple(_TRIALS)
"""Formats that can be tried, as `Volume.format` names them."""


def tried(format: str, folder: Path) -> list[str]:
    """Try the reader of a format, and the writer if petavox has one, in an empty folder.

    format: as `Volume.format` names it.  Returns what is wrong, as sentences; none if all is well.
    """
    trial = _TRIALS[format]
    size = None if trial.placed else SIZE
    box = Box.of_shape(SHAPE, START if trial.placed else (0, 0, 0))
    wrong = _differs("reader", trial.make(folder), size, box)
    if wrong or trial.export is None:
        return wrong
    # a known-good source for the writer: HDF5 by h5py, its reader tried first
    source = folder / "v.h5/v" if (folder / "v.h5").exists() else _hdf5(folder)
    wrong = _differs("HDF5 reader", source, None, Box.of_shape(SHAPE, START))
    names = {"hdf5": "written.h5/v", "tiff": "written_tif"}
    target = folder / names.get(trial.export, "written")
    try:
        out = export_volume(open(source), str(target), format=trial.export, quiet=True)
    except PetavoxError as e:
        return [*wrong, f"the writer failed: {e}"]
    assert trial.export not in WRITERS or out["path"] == str(target)
    return wrong + _differs("writer", target, size, box)


def _differs(what: str, path: Path, size: VoxelSize | None, box: Box) -> list[str]:
    try:
        volume = open(path, voxel_size=size)
        values = volume.read()
    except PetavoxError as e:
        return [f"the {what} failed: {e}"]
    wrong = []
    if tuple(volume.voxel_size) != tuple(SIZE):
        wrong.append(f"the {what} gives voxels of {volume.voxel_size}, not {SIZE}")
    if volume.box != box:
        wrong.append(f"the {what} gives the box {volume.box}, not {box}")
    if not np.array_equal(values, phantom()):
        wrong.append(f"the {what} gives other voxels than the file holds")
    return wrong
