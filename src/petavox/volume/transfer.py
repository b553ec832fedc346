"""Copying volumes from format to format, slab by slab.

What it is: `copy` between two volumes in bounded memory, and what `petavox import` does with it.
What it is not: any change of voxels; only a wider type of whole numbers can be asked for; or
formats of other programs (petavox.volume.export).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.progress import Progress
from petavox.provenance import record
from petavox.space import Box, Grid, Zyx, zyx
from petavox.volume import places, pyramid
from petavox.volume.formats.facts import DTYPES
from petavox.volume.formats.ome_zarr import fitted
from petavox.volume.opening import create, finish
from petavox.volume.volume import Kind, Volume


def slabs(box: Box, shard: Zyx, chunk: Zyx, itemsize: int, memory_mb: int) -> Iterator[Box]:
    """Boxes that tile `box` in order of z, each of whole chunks, holding at most `memory_mb` twice.

    Full sections as long as they fit, since stacks are read by the section; else strips of y,
    then of x.
    """
    most = (memory_mb << 20) // (2 * itemsize)
    piece = [shard[0], *box.shape[1:]]
    for axis in range(3):
        for step in (shard[axis], chunk[axis]):
            if piece[0] * piece[1] * piece[2] > most:
                others = piece[0] * piece[1] * piece[2] // piece[axis]
                piece[axis] = min(piece[axis], max(step, most // others // step * step))
    if piece[0] * piece[1] * piece[2] > most:
        raise BadInput(
            f"one chunk of {chunk} voxels does not fit in {memory_mb} MB twice; raise the memory."
        )
    for block in Grid(box, zyx(piece)):
        yield block.write


def copy(
    source: Volume,
    target: Volume,
    *,
    memory_mb: int = 1024,
    title: str = "copy",
    quiet: bool = False,
) -> dict[str, Any]:
    """Copy the voxels of the target's box from the source.

    Raises BadInput for NaN or infinite voxels, naming the first. Returns counters: voxels, bytes.
    """
    total = target.box
    itemsize = max(source.dtype.itemsize, target.dtype.itemsize)
    with Progress(title, total=total.size, unit="voxel", quiet=quiet) as progress:
        for box in slabs(total, target.write_shape, target.chunk, itemsize, memory_mb):
            values = source.read(box)
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                first = np.argwhere(~np.isfinite(values))[0] + box.start
                raise BadInput(
                    f"{source.path} holds a value that is not a finite number at z, y, x = "
                    f"{', '.join(str(v) for v in first)}; replace NaN and infinity in the source."
                )
            target.write(box, values.astype(target.dtype, copy=False))
            progress.advance(box.size)
    return {"voxels": total.size, "bytes": total.size * target.dtype.itemsize}


def import_volume(
    source: Volume,
    path: str,
    *,
    box: Box | None = None,
    kind: Kind | str | None = None,
    dtype: str | None = None,
    format: str = "ome-zarr",
    chunk: Zyx = (64, 64, 64),
    shard: Zyx = (512, 512, 512),
    memory_mb: int = 1024,
    pyramid_too: bool = True,
    overwrite: bool = False,
    stage: str = "import",
    quiet: bool = False,
) -> dict[str, Any]:
    """Copy a volume into a new one of a format that petavox works on; finished with provenance.

    box: voxels of the source to copy (default all).  kind: what the voxels mean, if the source
    does not say it right.  dtype: a wider type of whole numbers.  Returns figures.
    """
    started = time.monotonic()
    box = wanted(source, box)
    kind = kind or source.kind
    typ = wider(source, dtype)
    require_apart(source.path, path)
    c, s = fitted(box.shape, chunk, shard)
    next(slabs(box, s, c, max(source.dtype.itemsize, typ.itemsize), memory_mb))  # fits in memory
    target = create(
        path,
        box=box,
        voxel_size=source.voxel_size,
        dtype=typ,
        kind=kind,
        chunk=chunk,
        shard=shard,
        overwrite=overwrite,
        format=format,
    )
    counters = copy(source, target, memory_mb=memory_mb, title=stage, quiet=quiet)
    if pyramid_too:
        made = pyramid.build(path, memory_mb=memory_mb, quiet=quiet)
        counters |= {"levels": made["levels"], "pyramid_seconds": made["seconds"]}
    seconds = time.monotonic() - started
    settings = {
        "box": str(box),
        "kind": str(target.kind),
        "dtype": typ.name,
        "format": format,
        "chunk": target.chunk,
        "shard": target.write_shape,
        "voxel_size": tuple(source.voxel_size),
    }
    finish(
        target,
        record(
            stage,
            settings=settings,
            inputs={"source": source.path},
            counters=counters,
            seconds=seconds,
        ),
    )
    return {"path": target.path, **facts(target), **counters, "seconds": round(seconds, 3)}


def facts(volume: Volume) -> dict[str, Any]:
    """What there is to say of a volume, for people and JSON."""
    return {
        "format": volume.format,
        "kind": str(volume.kind),
        "dtype": volume.dtype.name,
        "box": str(volume.box),
        "shape": list(volume.shape),
        "voxel_size_nm": list(volume.voxel_size),
        "chunk": list(volume.chunk),
        "shard": list(volume.write_shape),
    }


def wanted(source: Volume, box: Box | None) -> Box:
    """The box to copy. Raises BadInput if it is empty, or leaves the source."""
    box = source.box if box is None else box
    if box.is_empty:
        raise BadInput(f"box {box} holds no voxel.")
    if not source.box.contains(box):
        raise BadInput(f"box {box} leaves {source.path}, whose box is {source.box} (z, y, x).")
    return box


def wider(source: Volume, dtype: str | None) -> np.dtype[Any]:
    """The type to store. Raises BadInput for one that does not hold all of the source's values."""
    if dtype is None:
        return source.dtype
    if dtype not in DTYPES:
        raise BadInput(f"dtype {dtype} is not one of {', '.join(DTYPES)}.")
    wanted = np.dtype(dtype)
    if source.dtype.kind != wanted.kind or not np.can_cast(source.dtype, wanted, "safe"):
        raise BadInput(
            f"{source.path} holds {source.dtype.name}; it is only stored as the same or a wider "
            f"type of whole numbers, not as {dtype}."
        )
    return wanted


def require_apart(source: str, target: str) -> None:
    """Raise BadInput if writing the target could destroy the source."""
    if places.is_url(source) or places.is_url(target):
        same = source.rstrip("/") == target.rstrip("/")
    else:
        a, b = Path(source).resolve(), Path(target).resolve()
        same = a == b or a in b.parents or b in a.parents
    if same:
        raise BadInput(f"{target} and {source} lie in one another; choose another output.")
