"""OME multiscale metadata (0.4 and 0.5): levels, axes, units, offsets.

What it is: the JSON that says where the voxels of each level lie. Where petavox writes it, a
physical position is the *centre* of a voxel, and the centre of voxel (0, 0, 0) of the full
resolution is at 0 nm: a full-resolution box that starts at voxel s has the translation
s x voxel size. A voxel i of a level coarser by f covers the voxels [i f, (i + 1) f) of the full
resolution, whose common centre is at (i f + (f - 1) / 2) x voxel size; so a level whose box starts
at i has that translation.
What it is not: arrays; zarr v3 and v2 share this.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from petavox.errors import BadInput
from petavox.space import VoxelSize, Zyx, zyx
from petavox.volume.volume import Kind, Level

log = logging.getLogger("petavox")

NM = {
    "angstrom": 0.1,
    "nanometer": 1.0,
    "nm": 1.0,
    "micrometer": 1e3,
    "micron": 1e3,
    "um": 1e3,
    "µm": 1e3,
    "millimeter": 1e6,
    "mm": 1e6,
    "meter": 1e9,
}
"""Units of length, in nm."""


@dataclass(frozen=True)
class Found:
    """A level as the metadata has it.

    path: of the array in the group.  start: first voxel, zyx.  nm: voxel size, zyx; None where
    the unit is not said.  ratio: voxel size over that of the finest level, zyx.
    order: which array axes are z, y, x.  others: array axes that must have length 1.
    """

    path: str
    start: Zyx
    nm: Sequence[float] | None
    ratio: Sequence[float]
    order: Zyx
    others: tuple[int, ...]


def written(name: str, levels: Sequence[Level], kind: Kind) -> dict[str, Any]:
    """OME 0.5 attributes of a pyramid; `levels` finest first."""
    finest = levels[0].voxel_size
    datasets = [
        {
            "path": level.name,
            "coordinateTransformations": [
                {"type": "scale", "scale": list(level.voxel_size)},
                {
                    "type": "translation",
                    "translation": [
                        (s * f + (f - 1) / 2) * v
                        for s, f, v in zip(
                            level.box.start, _factors(level.voxel_size, finest), finest, strict=True
                        )
                    ],
                },
            ],
        }
        for level in levels
    ]
    axes = [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"]
    ome: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [{"name": name, "axes": axes, "datasets": datasets}],
    }
    if kind is Kind.LABELS:
        ome["image-label"] = {"version": "0.5"}
    return {"ome": ome}


def _factors(size: VoxelSize, finest: VoxelSize) -> list[int]:
    return [max(1, round(a / b)) for a, b in zip(size, finest, strict=True)]


def parsed(where: str, ome: Mapping[str, Any]) -> list[Found]:
    """The levels of the first multiscale image, finest first.

    ome: the mapping that holds "multiscales".  Raises BadInput for metadata that do not place
    three axes z, y, x.
    """
    try:
        image = ome["multiscales"][0]
        axes = [a if isinstance(a, dict) else {"name": a} for a in image.get("axes", "zyx")]
        names = [str(a["name"]).lower() for a in axes]
        if sorted(n for n in names if n in ("z", "y", "x")) != ["x", "y", "z"]:
            raise BadInput(f"{where} has the axes {names}; a volume needs z, y and x.")
        order = zyx([names.index(a) for a in "zyx"])
        others = tuple(i for i, n in enumerate(names) if n not in ("z", "y", "x"))
        units = [NM.get(str(axes[i].get("unit", "")).lower()) for i in order]
        common = _transform(image.get("coordinateTransformations", ()), len(names))
        levels: list[Found] = []
        finest: list[float] = []
        for data in image["datasets"]:
            scale, shift = _transform(data["coordinateTransformations"], len(names))
            scale = [a * b for a, b in zip(scale, common[0], strict=True)]
            shift = [
                a * b + c for a, b, c in zip(shift, common[0], common[1], strict=True)
            ]  # the image's own transformations come after the level's
            s, t = [scale[i] for i in order], [shift[i] for i in order]
            if not all(math.isfinite(v) and v > 0 for v in s):
                raise BadInput(f"{where} has the scale {s}: each must be a positive number.")
            finest = finest or s
            nm = None if None in units else [(u or 0.0) * v for u, v in zip(units, s, strict=True)]
            ratio = [a / b for a, b in zip(s, finest, strict=True)]
            name = str(data["path"])
            start = _start(f"{where}/{name}", s, t, finest)
            levels.append(Found(name, start, nm, ratio, order, others))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as e:
        raise BadInput(
            f"{where} has OME metadata that petavox cannot use ({type(e).__name__}: {e})."
        ) from None
    if not levels:
        raise BadInput(f"{where} lists no data set in its OME metadata.")
    return levels


def _transform(given: Any, axes: int) -> tuple[list[float], list[float]]:
    scale, shift = [1.0] * axes, [0.0] * axes
    for t in given or ():
        if t["type"] == "scale":
            scale = [float(v) for v in t["scale"]]
        elif t["type"] == "translation":
            shift = [float(v) for v in t["translation"]]
        elif t["type"] != "identity":
            raise BadInput(f"a coordinate transformation '{t['type']}' is not known to petavox.")
    if len(scale) != axes or len(shift) != axes:
        raise BadInput(f"a scale or translation does not have one number for each of {axes} axes.")
    return scale, shift


def _start(
    where: str, scale: Sequence[float], shift: Sequence[float], finest: Sequence[float]
) -> Zyx:
    exact = [
        (t - (round(s / f) - 1) / 2 * f) / s for s, t, f in zip(scale, shift, finest, strict=True)
    ]
    # halves go down: programs that put corners at 0 nm give the centre of voxel s as s + 1/2
    whole = zyx([math.ceil(v - 0.5 - 1e-6) for v in exact])
    # many programs give coarser levels no translation of their own; only the finest is told
    off = any(abs(a - b) > 0.01 for a, b in zip(exact, whole, strict=True))
    if off and list(scale) == list(finest):
        log.warning(
            "%s begins at a fraction of a voxel, %s (z, y, x); petavox takes the nearest whole "
            "voxel, %s.",
            where,
            ", ".join(f"{v:g}" for v in exact),
            whole,
        )
    return whole
