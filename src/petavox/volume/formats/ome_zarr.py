"""OME-Zarr 0.5 on zarr v3 with shards: petavox's own form for images and labels.

What it is: one multiscale group and its arrays through TensorStore; also a bare zarr v3 array,
whose voxel size must be given. Array indices start at 0; the box's start is in the translation
(petavox.volume.formats.ome states the convention).
What it is not: pyramids (petavox.volume.pyramid) or zarr v2 (petavox.volume.formats.zarr2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.space import Box, VoxelSize, Zyx, zyx
from petavox.volume import places
from petavox.volume.formats import ome
from petavox.volume.formats.facts import chosen, settled
from petavox.volume.formats.tensorstores import (
    TensorStoreArray,
    open_array,
    plain,
    write_shape,
    zyx_of,
)
from petavox.volume.volume import Kind, Level, Volume

FORMAT = "OME-Zarr 0.5"
METADATA = "zarr.json"


def create(
    path: str,
    *,
    box: Box,
    voxel_size: VoxelSize,
    dtype: np.dtype[Any],
    kind: Kind,
    chunk: Sequence[int],
    shard: Sequence[int],
) -> Volume:
    """Create the group and its full-resolution array "0"."""
    c, s = fitted(box.shape, zyx(chunk, "chunk"), zyx(shard, "shard"))
    levels = [Level(box, voxel_size, "0")]
    array = create_array(places.joined(path, "0"), shape=box.shape, dtype=dtype, chunk=c, shard=s)
    _write_levels(path, levels, kind)
    return Volume(
        TensorStoreArray(array, box.start, s, path),
        path=path,
        voxel_size=voxel_size,
        kind=kind,
        format=FORMAT,
        writable=True,
        levels=levels,
    )


def add_level(volume: Volume, box: Box, voxel_size: VoxelSize) -> Level:
    """Create the array of one more, coarser level and list it; its voxels are 0 until written."""
    level = Level(box, voxel_size, str(len(volume.levels)))
    chunk, shard = fitted(box.shape, volume.chunk, volume.write_shape)
    create_array(
        places.joined(volume.path, level.name),
        shape=box.shape,
        dtype=volume.dtype,
        chunk=chunk,
        shard=shard,
    )
    _write_levels(volume.path, [*volume.levels, level], volume.kind)
    return level


def _write_levels(path: str, levels: Sequence[Level], kind: Kind) -> None:
    attributes = ome.written(path.rsplit("/", 1)[-1], levels, kind)
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    places.write_json(path, METADATA, group)


def fitted(shape: Zyx, chunk: Zyx, shard: Zyx) -> tuple[Zyx, Zyx]:
    """Chunk and shard cut down to a volume: no side longer than needed, shards whole chunks."""
    if min(chunk) < 1 or min(shard) < 1:
        raise BadInput(f"chunk {chunk} and shard {shard}: each side must be at least 1 voxel.")
    c = zyx([min(a, n) for a, n in zip(chunk, shape, strict=True)])
    s = zyx([min(a // k * k or k, -(-n // k) * k) for a, n, k in zip(shard, shape, c, strict=True)])
    if any(a % k and a < n for a, n, k in zip(shard, shape, chunk, strict=True)):
        raise BadInput(f"shard {shard} is not whole chunks of {chunk}: make it a multiple.")
    return c, s


def create_array(path: str, *, shape: Zyx, dtype: np.dtype[Any], chunk: Zyx, shard: Zyx) -> Any:
    """One sharded zarr v3 array; images and labels alike in zstd 3, no byte shuffle."""
    endian = {"configuration": {"endian": "little"}} if dtype.itemsize > 1 else {}
    inner = [
        {"name": "bytes", **endian},
        {"name": "zstd", "configuration": {"level": 3}},
        {"name": "crc32c"},  # or a flipped bit on disk would be read as voxels
    ]
    metadata = {
        "shape": shape,
        "data_type": dtype.name,
        "dimension_names": ["z", "y", "x"],
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
        "fill_value": 0,
        "codecs": [
            {
                "name": "sharding_indexed",
                "configuration": {"chunk_shape": chunk, "codecs": inner},
            }
        ],
    }
    return open_array("zarr3", path, {"metadata": metadata}, create=True)


def open(
    path: str, *, voxel_size: VoxelSize | None, resolution: VoxelSize | None, writable: bool
) -> Volume:
    """Open one level (the finest, unless `resolution` names another) of a group, or an array."""
    metadata = places.read_json(path, METADATA) or {}
    if metadata.get("node_type") == "array":
        return plain("zarr3", path, "zarr v3", voxel_size, resolution, writable)
    attributes = metadata.get("attributes", {}).get("ome")
    if not isinstance(attributes, dict) or "multiscales" not in attributes:
        raise BadInput(
            f"{path} is a zarr group without OME multiscales; name one of its arrays, {path}/NAME."
        )
    return multiscale("zarr3", path, FORMAT, attributes, voxel_size, resolution, writable=writable)


def multiscale(
    driver: str,
    path: str,
    format: str,
    attributes: dict[str, Any],
    voxel_size: VoxelSize | None,
    resolution: VoxelSize | None,
    *,
    writable: bool,
) -> Volume:
    """A level of an OME group of either zarr version."""
    found = ome.parsed(path, attributes)
    said = None if found[0].nm is None else VoxelSize.of(found[0].nm)
    finest = settled(path, said, voxel_size)
    arrays, levels = [], []
    for f in found:
        where = places.joined(path, f.path)
        array = open_array(driver, where, open=True, read=True, write=writable)
        array = zyx_of(where, array, f.order, f.others)
        size = VoxelSize.of(f.nm or [a * b for a, b in zip(finest, f.ratio, strict=True)])
        arrays.append(array)
        levels.append(Level(Box.of_shape(zyx(array.shape), f.start), size, f.path))
    at = chosen(path, levels, resolution)
    store = TensorStoreArray(arrays[at], levels[at].box.start, write_shape(arrays[at]), path)
    labels = "image-label" in attributes
    return Volume(
        store,
        path=path,
        voxel_size=levels[at].voxel_size,
        kind=Kind.LABELS if labels else Kind.IMAGE,
        format=format,
        writable=writable,
        levels=levels,
    )
