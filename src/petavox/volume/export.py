"""Volumes in formats for other programs: HDF5, TIFF sections, layers of webKnossos.

What it is: `petavox export`: the same voxels, slab by slab. What it is not: the formats that
petavox works on; these are written as an import writes them (petavox.volume.transfer).
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import AlreadyExists, BadInput
from petavox.progress import Progress
from petavox.provenance import record
from petavox.space import Box
from petavox.volume import places, state
from petavox.volume.formats import hdf5, stacks
from petavox.volume.opening import WRITERS, begin
from petavox.volume.transfer import copy, import_volume, require_apart, slabs, wanted, wider
from petavox.volume.volume import Volume
from petavox.volume.webknossos import export_layer

EXPORTS = (*WRITERS, "hdf5", "tiff", "webknossos")
"""Formats that `export_volume` writes."""


def export_volume(
    source: Volume,
    path: str,
    *,
    format: str,
    box: Box | None = None,
    dtype: str | None = None,
    memory_mb: int = 1024,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Copy a volume into a format for other programs; see EXPORTS. Returns figures.

    hdf5: `file.h5` or `file.h5/name` (name: image or labels by default); what else is in the file
    is kept.  tiff: a folder with one
    file a section, 00000.tif on; a stack keeps neither voxel size nor offset, they go into the
    provenance beside it.  webknossos: DATASET/LAYER, see petavox.volume.webknossos.
    """
    if format in WRITERS:
        return import_volume(
            source, path, format=format, box=box, dtype=dtype, memory_mb=memory_mb,
            overwrite=overwrite, stage="export", quiet=quiet,
        )  # fmt: skip
    if format not in EXPORTS:
        raise BadInput(f"format '{format}' is not one of {', '.join(EXPORTS)}.")
    started = time.monotonic()
    box, typ = wanted(source, box), wider(source, dtype)
    require_apart(source.path, path)
    if places.is_url(path):
        raise BadInput(f"{path}: {format} is written to files only, not to URLs.")
    write = {"hdf5": _export_hdf5, "tiff": _export_tiff, "webknossos": export_layer}[format]
    written, counters = write(source, path, box, typ, memory_mb, overwrite, quiet)
    seconds = round(time.monotonic() - started, 3)
    out = {
        "path": written,
        "format": format,
        "box": str(box),
        "voxel_size_nm": list(source.voxel_size),
        "kind": str(source.kind),
        "dtype": typ.name,
    }
    if format == "tiff":
        state.finish(
            path,
            record(
                "export",
                settings=out,
                inputs={"source": source.path},
                counters=counters,
                seconds=seconds,
            ),
        )
    return {**out, **counters, "seconds": seconds}


def _export_hdf5(
    source: Volume,
    path: str,
    box: Box,
    dtype: np.dtype[Any],
    memory_mb: int,
    overwrite: bool,
    quiet: bool,
) -> tuple[str, dict[str, Any]]:
    found = hdf5.split(Path(path))
    if found is None:
        raise BadInput(f"{path} does not name an HDF5 file; end it with .h5 or .h5/NAME.")
    file, name = found
    name = name or str(source.kind)
    beside = file if file.exists() else None
    if beside is not None:
        if not overwrite:
            raise AlreadyExists(
                f"{file} is there already; choose another name, or pass --overwrite: only {name} "
                "is replaced, what else is in the file is kept."
            )
        hdf5.require_place(file, name)
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise BadInput(f"cannot write to {file}: {e.strerror}.") from None
    try:
        with hdf5.created(
            part, name, box=box, voxel_size=source.voxel_size, dtype=dtype, kind=source.kind,
            beside=beside,
        ) as target:  # fmt: skip
            counters = copy(source, target, memory_mb=memory_mb, title="export", quiet=quiet)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)
    return str(file / name), counters


def _export_tiff(
    source: Volume,
    path: str,
    box: Box,
    dtype: np.dtype[Any],
    memory_mb: int,
    overwrite: bool,
    quiet: bool,
) -> tuple[str, dict[str, Any]]:
    if dtype.name not in ("uint8", "uint16", "uint32", "float32"):
        raise BadInput(
            f"{source.path} is {dtype.name}; TIFF sections hold at most 32 bits. Export hdf5."
        )
    begin(places.named(path), overwrite=overwrite)
    digits = max(5, len(str(box.shape[0] - 1)))
    with Progress("export", total=box.size, unit="voxel", quiet=quiet) as progress:
        for slab in slabs(box, (64, *box.shape[1:]), (1, 1, 1), dtype.itemsize, memory_mb):
            if slab.shape[1:] != box.shape[1:]:
                raise BadInput(
                    f"one section of {box.shape[1:]} does not fit in {memory_mb} MB twice; "
                    "raise the memory."
                )
            for z, plane in enumerate(source.read(slab).astype(dtype, copy=False), slab.start[0]):
                stacks.write(Path(path) / f"{z - box.start[0]:0{digits}d}.tif", plane)
            progress.advance(slab.size)
    return path, {"voxels": box.size, "bytes": box.size * dtype.itemsize}
