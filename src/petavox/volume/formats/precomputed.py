"""Neuroglancer precomputed: images and segmentations, sharded.

What it is: reading and writing through TensorStore, and the place where a scale lies. The format
is xyz throughout (size, resolution, voxel_offset, chunk size); it becomes zyx here and nowhere
else. voxel_offset may be negative. Positions are corners: voxel v of a scale covers
[v, v + 1) x resolution.
What it is not: meshes and skeletons, or pyramids (petavox.volume.pyramid fills the scales).

Shards hold runs of the compressed Morton code of chunks; all bits of it are used and none is
hashed, so a shard is a box of chunks, and one writer can own it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.space import Box, VoxelSize, Zyx, zyx
from petavox.volume import places
from petavox.volume.formats.facts import chosen, settled
from petavox.volume.formats.ome_zarr import fitted
from petavox.volume.formats.tensorstores import (
    TensorStoreArray,
    open_array,
    write_shape,
    zyx_of,
)
from petavox.volume.volume import Kind, Level, Volume

FORMAT = "precomputed"
METADATA = "info"
DRIVER = "neuroglancer_precomputed"
ORDER, CHANNEL = (2, 1, 0), (3,)  # where z, y, x are among TensorStore's x, y, z, channel


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
    """Create the info and its first scale."""
    c, s = fitted(box.shape, zyx(chunk, "chunk"), zyx(shard, "shard"))
    array = _create_scale(path, box, voxel_size, dtype, kind, c, s)
    return Volume(
        TensorStoreArray(array, box.start, write_shape(array), path),
        path=path,
        voxel_size=voxel_size,
        kind=kind,
        format=FORMAT,
        writable=True,
        levels=[Level(box, voxel_size, _key(voxel_size))],
    )


def add_level(volume: Volume, box: Box, voxel_size: VoxelSize) -> Level:
    """Create one more, coarser scale; its voxels are 0 until written."""
    chunk, shard = fitted(box.shape, volume.chunk, volume.write_shape)
    _create_scale(volume.path, box, voxel_size, volume.dtype, volume.kind, chunk, shard)
    return Level(box, voxel_size, _key(voxel_size))


def _key(voxel_size: VoxelSize) -> str:
    return "_".join(f"{v:.12g}" for v in reversed(list(voxel_size)))


def _create_scale(
    path: str,
    box: Box,
    voxel_size: VoxelSize,
    dtype: np.dtype[Any],
    kind: Kind,
    chunk: Zyx,
    shard: Zyx,
) -> Any:
    xyz = slice(None, None, -1)
    labels = kind is Kind.LABELS
    if labels and dtype not in (np.uint32, np.uint64):
        raise BadInput(
            f"{path}: a precomputed segmentation holds uint32 or uint64, not {dtype.name}; "
            "pass --dtype uint64."
        )
    scale: dict[str, Any] = {
        "key": _key(voxel_size),
        "resolution": list(voxel_size)[xyz],
        "size": box.shape[xyz],
        "voxel_offset": box.start[xyz],
        "chunk_size": chunk[xyz],
        "encoding": "compressed_segmentation" if labels else "raw",
        "sharding": sharding(box.shape, chunk, shard),
    }
    if labels:
        scale["compressed_segmentation_block_size"] = [8, 8, 8]
    whole = {
        "type": "segmentation" if labels else "image",
        "data_type": dtype.name,
        "num_channels": 1,
    }
    spec = {"multiscale_metadata": whole, "scale_metadata": scale}
    array = open_array(DRIVER, path, spec, open=True, create=True)
    return zyx_of(path, array, ORDER, CHANNEL)


def sharding(shape: Zyx, chunk: Zyx, shard: Zyx) -> dict[str, Any]:
    """Bits of the Morton code within a shard and over shards, so that a shard is about `shard`.

    Chunks in a shard: the power of two along each axis that holds `shard`, together; the Morton
    code deals them out over the axes.
    """
    grid = [-(-n // c) for n, c in zip(shape, chunk, strict=True)]
    bits = sum((g - 1).bit_length() for g in grid)
    held = [-(-s // c) for s, c in zip(shard, chunk, strict=True)]
    within = min(bits, sum((h - 1).bit_length() for h in held))
    return {
        "@type": "neuroglancer_uint64_sharded_v1",
        "preshift_bits": within - within // 2,
        "minishard_bits": within // 2,
        "shard_bits": bits - within,
        "hash": "identity",
        "minishard_index_encoding": "gzip",
        "data_encoding": "gzip",
    }


def open(
    path: str, *, voxel_size: VoxelSize | None, resolution: VoxelSize | None, writable: bool
) -> Volume:
    """Open one scale (the finest, unless `resolution` names another)."""
    info = places.read_json(path, METADATA) or {}
    try:
        levels = [
            Level(
                Box.of_shape(
                    [int(v) for v in reversed(scale["size"])],
                    [int(v) for v in reversed(scale.get("voxel_offset", (0, 0, 0)))],
                ),
                VoxelSize.of([float(v) for v in reversed(scale["resolution"])]),
                str(scale["key"]),
            )
            for scale in info["scales"]
        ]
        kind = Kind.LABELS if info["type"] == "segmentation" else Kind.IMAGE
        channels = int(info["num_channels"])
    except (KeyError, TypeError, ValueError) as e:
        raise BadInput(
            f"{path}/{METADATA} is not the info of a precomputed volume ({type(e).__name__}: {e})."
        ) from None
    if not levels or channels != 1:
        raise BadInput(
            f"{path} has {len(levels)} scales and {channels} channels; petavox reads volumes with "
            "scales and one channel."
        )
    settled(path, levels[0].voxel_size, voxel_size)
    at = chosen(path, levels, resolution)
    array = open_array(DRIVER, path, {"scale_index": at}, open=True, read=True, write=writable)
    array = zyx_of(path, array, ORDER, CHANNEL)
    return Volume(
        TensorStoreArray(array, levels[at].box.start, write_shape(array), path),
        path=path,
        voxel_size=levels[at].voxel_size,
        kind=kind,
        format=FORMAT,
        writable=writable,
        levels=levels,
    )
