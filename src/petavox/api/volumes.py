"""Verbs on volumes and data sets: write an array, fetch a public set.

What it is: thin functions. What it is not: formats; `open` and `create` are petavox.volume's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from petavox.api.arrays import volume_of
from petavox.volume import Kind, Volume, opening


def write(
    values: Any,
    out: str | Path,
    *,
    kind: Kind | str,
    voxel_size: Sequence[float] | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Volume:
    """Write an array (or a DataArray, or another volume) as a volume; gives it, opened.

    values: (z, y, x).  out: path or URL.  kind: "image" or "labels".  voxel_size: nm, zyx, for
    an array.  options: those of `create`: chunk, shard, format.
    Raises AlreadyExists if something is there and `overwrite` is not set.

    >>> import petavox as pv, numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = pv.write(np.ones((2, 3, 4), "uint8"), f"{folder}/a.zarr", kind="image",
    ...                     voxel_size=(40, 4, 4))
    ...     made.shape, str(made.voxel_size)
    ((2, 3, 4), '40 x 4 x 4 nm')
    """
    from petavox.provenance import record

    source = volume_of(values, kind, voxel_size=voxel_size, name="values")
    made = opening.create(
        out,
        box=source.box,
        voxel_size=source.voxel_size,
        dtype=source.dtype,
        kind=kind,
        overwrite=overwrite,
        **options,
    )
    made.write(source.box, source.read())
    opening.finish(
        made,
        record("write", settings={}, inputs={"values": source.path}, counters={}, seconds=0.0),
    )
    return opening.open(out)


def fetch(
    name: str, to: str | Path = "data", *, mirror: str | Path | None = None
) -> dict[str, Any]:
    """Fetch a public data set, as `petavox data fetch`; gives figures with the paths of volumes.

    name: one of `petavox data list`.  to: folder; the set goes into TO/NAME.  mirror: a folder
    with the files, instead of the network.

    >>> import petavox as pv
    >>> pv.fetch("snemi3d")["image"]    # doctest: +SKIP
    'data/snemi3d/train-input.tif'
    """
    from petavox.datasets import fetch as go
    from petavox.datasets import named

    return go(named(name), to, mirror=mirror)
