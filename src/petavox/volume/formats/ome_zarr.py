"""OME-Zarr 0.5 on zarr v3 with shards: petavox's own form for images and labels.

What it is: metadata of one multiscale image and its arrays through TensorStore. The array
indices start at 0; the box's start is kept as the scale-0 translation, start x voxel size, in nm.
What it is not: pyramids (petavox.volume.pyramid) or other zarr versions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from petavox.errors import BadInput
from petavox.provenance import write_json
from petavox.space import Box, VoxelSize, Zyx, zyx
from petavox.volume.formats.tensorstores import TensorStoreArray, context
from petavox.volume.volume import Kind, Volume


def create(
    path: Path,
    *,
    box: Box,
    voxel_size: VoxelSize,
    dtype: np.dtype[Any],
    kind: Kind,
    chunk: Sequence[int],
    shard: Sequence[int],
) -> Volume:
    """Create the group and its full-resolution array "0"."""
    chunk, shard = fitted(box.shape, zyx(chunk, "chunk"), zyx(shard, "shard"))
    attributes = multiscale(path.name, [(box, voxel_size)], kind)
    array = create_array(path / "0", shape=box.shape, dtype=dtype, chunk=chunk, shard=shard)
    write_json(
        path / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    )
    return Volume(
        TensorStoreArray(array, box.start, shard),
        path=str(path),
        voxel_size=voxel_size,
        kind=kind,
        format="OME-Zarr 0.5",
        writable=True,
    )


def fitted(shape: Zyx, chunk: Zyx, shard: Zyx) -> tuple[Zyx, Zyx]:
    """Chunk and shard cut down to a volume: no side longer than needed, shards whole chunks."""
    c = zyx([min(a, n) for a, n in zip(chunk, shape, strict=True)])
    s = zyx([min(a, -(-n // k) * k) for a, n, k in zip(shard, shape, c, strict=True)])
    if any(a % k for a, k in zip(s, c, strict=True)):
        raise BadInput(f"shard {shard} is not whole chunks of {chunk}: make it a multiple.")
    return c, s


def create_array(path: Path, *, shape: Zyx, dtype: np.dtype[Any], chunk: Zyx, shard: Zyx) -> Any:
    """One sharded zarr v3 array; labels and images alike in zstd 3 (specs measured)."""
    return ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{path.absolute()}/"},
            "metadata": {
                "shape": shape,
                "data_type": dtype.name,
                "dimension_names": ["z", "y", "x"],
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
                "fill_value": 0,
                "codecs": [
                    {
                        "name": "sharding_indexed",
                        "configuration": {
                            "chunk_shape": chunk,
                            "codecs": [
                                {"name": "bytes", "configuration": {"endian": "little"}}
                                if dtype.itemsize > 1
                                else {"name": "bytes"},
                                {"name": "zstd", "configuration": {"level": 3}},
                            ],
                        },
                    }
                ],
            },
            "create": True,
        },
        context=context(),
    ).result()


def multiscale(name: str, levels: Sequence[tuple[Box, VoxelSize]], kind: Kind) -> dict[str, Any]:
    """OME attributes of a pyramid; `levels` are (box, voxel size), finest first."""
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [
            {
                "name": name,
                "axes": [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"],
                "datasets": [
                    {
                        "path": str(i),
                        "coordinateTransformations": [
                            {"type": "scale", "scale": list(size)},
                            {
                                "type": "translation",
                                "translation": [
                                    s * v for s, v in zip(box.start, size, strict=True)
                                ],
                            },
                        ],
                    }
                    for i, (box, size) in enumerate(levels)
                ],
            }
        ],
    }
    if kind is Kind.LABELS:
        ome["image-label"] = {"version": "0.5"}
    return {"ome": ome}


def open(path: Path, *, voxel_size: VoxelSize | None, writable: bool) -> Volume:
    """Open the full resolution of an OME-Zarr 0.5 group."""
    try:
        attributes = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
        data = attributes["multiscales"][0]["datasets"][0]
        transforms = {t["type"]: t[t["type"]] for t in data["coordinateTransformations"]}
    except (OSError, ValueError, KeyError, IndexError, TypeError) as e:
        raise BadInput(f"{path} is not a volume petavox can read ({type(e).__name__}: {e}).") from e
    size = VoxelSize.of(transforms["scale"])
    if voxel_size is not None and voxel_size != size:
        raise BadInput(f"{path} says its voxels are {size}, but {voxel_size} was given.")
    start = [
        round(t / s) for t, s in zip(transforms.get("translation", (0, 0, 0)), size, strict=True)
    ]
    array = ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{(path / data['path']).absolute()}/"},
        },
        context=context(),
        open=True,
        read=True,
        write=writable,
    ).result()
    return Volume(
        TensorStoreArray(
            array, zyx(start), zyx(list(array.chunk_layout.write_chunk.shape or array.shape))
        ),
        path=str(path),
        voxel_size=size,
        kind=Kind.LABELS if "image-label" in attributes else Kind.IMAGE,
        format="OME-Zarr 0.5",
        writable=writable,
    )
