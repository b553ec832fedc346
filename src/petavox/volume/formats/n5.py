"""N5: one array, or a group with the levels s0, s1, ...

What it is: reading through TensorStore. N5 lists its axes x first; they become zyx here and
nowhere else. The voxel size comes from `transform` (scale, translation), `pixelResolution` or
`resolution` in the array's or the group's attributes, if they say the unit; else it must be given.
What it is not: writing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from petavox.errors import BadInput
from petavox.space import Box, VoxelSize, Zyx, zyx
from petavox.volume import places
from petavox.volume.formats.facts import chosen, kind_of, settled
from petavox.volume.formats.ome import NM
from petavox.volume.formats.tensorstores import (
    TensorStoreArray,
    open_array,
    write_shape,
    zyx_of,
)
from petavox.volume.volume import Level, Volume

log = logging.getLogger("petavox")

METADATA = "attributes.json"


def open(path: str, *, voxel_size: VoxelSize | None, resolution: VoxelSize | None) -> Volume:
    """Open an array, or a level of a group, for reading."""
    attributes = places.read_json(path, METADATA) or {}
    if "dimensions" in attributes:
        names, group = [""], dict[str, Any]()
    else:
        names, group = _levels(path), attributes
    arrays: list[Any] = []
    levels: list[Level] = []
    for name in names:
        where = places.joined(path, name)
        own = places.read_json(where, METADATA) or {}
        array = zyx_of(where, open_array("n5", where, open=True, read=True), (2, 1, 0))
        known = _factors(own, group, len(levels))
        said, start = _placed(where, own)
        if levels and known is None and said is None:
            log.warning("%s does not say how coarse it is: it and what follows is left out", where)
            break
        factors = known or (1, 1, 1)
        if said is None:
            # the group speaks of s0: its first voxel is counted in voxels of s0
            whole, first = _placed(path, group)
            said = None if whole is None else whole.coarser(factors)
            start = zyx([a // f for a, f in zip(first, factors, strict=True)])
        if levels:  # what the user gave is the voxel size of the finest
            size = said or levels[0].voxel_size.coarser(factors)
        else:
            size = settled(path, said, voxel_size)
        arrays.append(array)
        levels.append(Level(Box.of_shape(zyx(array.shape), start), size, name))
    at = chosen(path, levels, resolution)
    store = TensorStoreArray(arrays[at], levels[at].box.start, write_shape(arrays[at]), path)
    return Volume(
        store,
        path=path,
        voxel_size=levels[at].voxel_size,
        kind=kind_of(store.dtype),
        format="N5",
        levels=levels,
    )


def _levels(path: str) -> list[str]:
    names: list[str] = []
    while (places.read_json(f"{path}/s{len(names)}", METADATA) or {}).get("dimensions"):
        names.append(f"s{len(names)}")
    if not names:
        raise BadInput(f"{path} is an N5 group without s0; name one of its arrays, {path}/NAME.")
    return names


def _factors(own: Mapping[str, Any], group: Mapping[str, Any], level: int) -> Zyx | None:
    """Downsampling relative to s0, zyx, if it is said; N5 keeps it xyz."""
    given = own.get("downsamplingFactors")
    scales = group.get("scales") or group.get("downsamplingFactors")
    if given is None and scales is not None and level < len(scales):
        given = scales[level]
    return zyx(list(reversed(given))) if given is not None else None


def _placed(where: str, attributes: Mapping[str, Any]) -> tuple[VoxelSize | None, Zyx]:
    """Voxel size in nm and first voxel, zyx, of one set of attributes; None where not said."""
    try:
        transform = attributes.get("transform")
        if isinstance(transform, dict) and "scale" in transform:
            axes = [str(a).lower() for a in transform.get("axes", "zyx")]
            at = [axes.index(a) for a in "zyx"]
            units = [_nm(transform["units"][i]) for i in at]
            if None in units:
                return None, (0, 0, 0)
            scale = [float(transform["scale"][i]) for i in at]
            shift = [float(transform.get("translate", (0, 0, 0))[i]) for i in at]
            start = zyx([round(t / s) for s, t in zip(scale, shift, strict=True)])
            return VoxelSize.of([(u or 0) * s for u, s in zip(units, scale, strict=True)]), start
        given: Any = attributes.get("pixelResolution", attributes.get("resolution"))
        unit = attributes.get("units", attributes.get("unit"))
        if isinstance(given, dict):
            given, unit = given.get("dimensions"), given.get("unit", unit)
        units = unit if isinstance(unit, list) else [unit] * 3
        if given is None or any(_nm(u) is None for u in units):
            return None, (0, 0, 0)
        xyz = [float(v) * (_nm(u) or 0) for v, u in zip(given, units, strict=True)]
        return VoxelSize.of(list(reversed(xyz))), (0, 0, 0)
    except (KeyError, IndexError, TypeError, ValueError) as e:
        raise BadInput(
            f"{where}/{METADATA} has a voxel size that petavox cannot use "
            f"({type(e).__name__}: {e})."
        ) from None


def _nm(unit: Any) -> float | None:
    return NM.get(re.sub(r"s$", "", str(unit).lower()))
