"""webKnossos datasets: a volume as one layer of a folder that webKnossos opens as it is.

    DATASET/datasource-properties.json      voxel size and layers (version 1, dataFormat zarr3)
    DATASET/LAYER                           an OME-Zarr 0.5 of petavox: one zarr v3 array a level

What it is: the copy of a volume into a layer, and the entry of the layer. webKnossos counts voxels
from the corner of the array, so a layer begins at the dataset's origin: the start of the box that
was exported first. What it is not: WKW files, meshes or mappings, or an upload.

Format: "datasource-properties.json Specification" of webknossos-libs.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import AlreadyExists, BadInput
from petavox.progress import Progress
from petavox.provenance import record
from petavox.space import Box, VoxelSize, Zyx, zyx
from petavox.volume import places, pyramid, state
from petavox.volume.formats.ome_zarr import fitted
from petavox.volume.opening import create, finish
from petavox.volume.opening import open as open_volume
from petavox.volume.volume import Kind, Volume

PROPERTIES = "datasource-properties.json"
MOST = (1 << 53) - 1
"""The largest id that webKnossos can tell from its neighbours."""
_ELEMENTS = {
    Kind.IMAGE: {"uint8": "uint8", "uint16": "uint16", "uint32": "uint32", "float32": "float"},
    Kind.LABELS: {n: n for n in ("uint8", "uint16", "uint32", "uint64")},
}
_CHUNK, _SHARD = (32, 32, 32), (512, 512, 512)


def export_layer(
    source: Volume,
    path: str | Path,
    box: Box,
    dtype: np.dtype[Any],
    memory_mb: int,
    overwrite: bool,
    quiet: bool,
) -> tuple[str, dict[str, Any]]:
    """Copy `box` of a volume into DATASET/LAYER and list it; gives its path and counters.

    Raises BadInput if the type, an id, the voxel size or the place does not fit, AlreadyExists if
    the layer is there.
    """
    place = Path(path)
    dataset, name = place.parent, place.name
    known = _known(dataset)
    elements = _ELEMENTS[source.kind]
    if dtype.name not in elements:
        raise BadInput(
            f"{source.path} is {source.kind} of {dtype.name}; a webKnossos layer of it holds "
            f"{', '.join(elements)}."
        )
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) is None:
        raise BadInput(f"'{name}' is no name for a layer: use letters, digits, dot, _ and -.")
    layers = {layer["name"]: layer for layer in known.get("dataLayers", [])}
    if name in layers and not overwrite:
        raise AlreadyExists(f"{dataset} has a layer '{name}'; choose another, or --overwrite.")
    others = {k: v for k, v in layers.items() if k != name}
    if others and tuple(known["scale"]["factor"]) != tuple(source.voxel_size)[::-1]:
        raise BadInput(
            f"the layers of {dataset} have voxels of {known['scale']['factor']} nm (x, y, z), "
            f"{source.path} of {tuple(source.voxel_size)[::-1]}: a dataset has one voxel size."
        )
    origin = _origin(dataset, next(iter(others), None), box)
    began = time.monotonic()
    moved = Box(_less(box.start, origin), _less(box.stop, origin))
    whole = Box((0, 0, 0), moved.stop)
    c, s = fitted(whole.shape, _CHUNK, _SHARD)
    if name in layers:  # not listed while it is half written
        places.write_json(dataset, PROPERTIES, properties(dataset.name, source.voxel_size, others))
    target = create(
        place,
        box=whole,
        voxel_size=source.voxel_size,
        dtype=dtype,
        kind=source.kind,
        chunk=c,
        shard=s,
        overwrite=overwrite,
    )
    largest = _copied(source, target, moved, origin, memory_mb, quiet)
    made = pyramid.build(place, memory_mb=memory_mb, quiet=quiet)
    settings = {"origin": list(origin), "box": str(box), "dtype": dtype.name}
    counters = {"voxels": box.size, "levels": made["levels"], "largest_id": largest}
    finish(
        target,
        record(
            "export",
            settings=settings,
            inputs={"source": source.path},
            counters=counters,
            seconds=time.monotonic() - began,
        ),
    )
    others[name] = layer_of(open_volume(place), name, moved, elements[dtype.name], largest)
    places.write_json(dataset, PROPERTIES, properties(dataset.name, source.voxel_size, others))
    return str(place), counters | {"origin": list(origin), "dataset": str(dataset)}


def properties(
    name: str, voxel_size: VoxelSize, layers: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """What datasource-properties.json says."""
    z, y, x = voxel_size
    return {
        "version": 1,
        "id": {"name": name, "team": ""},
        "scale": {"factor": [x, y, z], "unit": "nanometer"},
        "dataLayers": list(layers.values()),
    }


def layer_of(
    volume: Volume, name: str, box: Box, element: str, largest: int | None
) -> dict[str, Any]:
    """The entry of one layer; box: its voxels within the array of the finest level."""
    finest = volume.levels[0].voxel_size
    mags = []
    for level in volume.levels:
        factor = [round(a / b) for a, b in zip(level.voxel_size, finest, strict=True)]
        mags.append(
            {
                "mag": factor[::-1],
                "path": f"./{name}/{level.name}",
                "axisOrder": {"x": 2, "y": 1, "z": 0},
            }
        )
    depth, height, width = box.shape
    out: dict[str, Any] = {
        "name": name,
        "category": "segmentation" if volume.kind is Kind.LABELS else "color",
        "boundingBox": {
            "topLeft": list(box.start[::-1]), "width": width, "height": height, "depth": depth,
        },
        "elementClass": element,
        "dataFormat": "zarr3",
        "numChannels": 1,
        "mags": mags,
    }  # fmt: skip
    return out if largest is None else out | {"largestSegmentId": largest}


def _copied(
    source: Volume, target: Volume, moved: Box, origin: Zyx, memory_mb: int, quiet: bool
) -> int | None:
    """Copy the voxels; gives the largest id, or None for an image."""
    from petavox.volume.transfer import slabs

    largest = 0
    with Progress("export", total=moved.size, unit="voxel", quiet=quiet) as progress:
        size = max(source.dtype.itemsize, target.dtype.itemsize)
        for slab in slabs(target.box, target.write_shape, target.chunk, size, memory_mb):
            here = slab.intersection(moved)
            if here.is_empty:
                continue
            there = Box(_less(here.start, _minus(origin)), _less(here.stop, _minus(origin)))
            values = source.read(there)
            if source.kind is Kind.LABELS:
                largest = max(largest, int(values.max(initial=0)))
                if largest > MOST:
                    raise BadInput(
                        f"{source.path} holds the id {largest}; webKnossos tells ids apart up to "
                        f"2^53 - 1 only: renumber the objects."
                    )
            target.write(here, values.astype(target.dtype, copy=False))
            progress.advance(here.size)
    return largest if source.kind is Kind.LABELS else None


def _known(dataset: Path) -> dict[str, Any]:
    """What a dataset says so far; empty if there is none."""
    if dataset.exists() and not (dataset / PROPERTIES).exists() and any(dataset.iterdir()):
        raise BadInput(
            f"{dataset} is there and no webKnossos dataset (it has no {PROPERTIES}): name the "
            "target DATASET/LAYER."
        )
    found = places.read_json(dataset, PROPERTIES) or {}
    usable = isinstance(found.get("dataLayers", []), list)
    if found and not (usable and isinstance(found.get("scale"), dict)):
        raise BadInput(f"{dataset / PROPERTIES} was not written by petavox: use another folder.")
    return found


def _origin(dataset: Path, other: str | None, box: Box) -> Zyx:
    """The voxel of the source at the corner of the dataset."""
    if other is None:
        return box.start
    said = (state.read(dataset / other) or {}).get("provenance", {})
    origin = said.get("settings", {}).get("origin")
    if origin is None:
        raise BadInput(
            f"the layer {dataset / other} was not written by petavox: use another folder."
        )
    if any(a < o for a, o in zip(box.start, origin, strict=True)):
        raise BadInput(
            f"box {box} begins before voxel {tuple(origin)} (z, y, x), where the layers of "
            f"{dataset} begin: export the larger volume first, or a --box of this one."
        )
    return zyx(origin)


def _less(a: Zyx, b: Zyx) -> Zyx:
    return zyx([i - k for i, k in zip(a, b, strict=True)])


def _minus(a: Zyx) -> Zyx:
    return zyx([-i for i in a])
