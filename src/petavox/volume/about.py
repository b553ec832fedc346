"""What there is to know of a volume, or of an HDF5 file, without reading voxels.

What it is: the figures of `petavox info`. What it is not: a check of the voxels
(petavox.volume.check).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from petavox.volume import places, state
from petavox.volume.formats import hdf5
from petavox.volume.opening import open
from petavox.volume.transfer import facts


def about(path: str, *, voxel_size: Sequence[float] | None = None) -> dict[str, Any]:
    """Figures of the volume at a path; of a whole HDF5 file, its data sets.

    A volume that is still being written is described too; `complete` is False then.
    Raises BadInput if there is nothing usable.
    """
    found = None if places.is_url(path) else hdf5.split(Path(path))
    if found is not None and not found[1]:
        sets = hdf5.datasets(found[0])
        return {
            "path": path,
            "format": hdf5.FORMAT,
            "datasets": {
                name: f"{dtype} {' x '.join(str(n) for n in shape)}"
                for name, (shape, dtype) in sets.items()
            },
        }
    volume = open(path, voxel_size=voxel_size, incomplete=True)
    said = None if found is not None else _state(path)
    out: dict[str, Any] = {"path": path, **facts(volume)}
    out["bytes"] = volume.box.size * volume.dtype.itemsize
    if len(volume.levels) > 1:
        out["levels"] = {
            str(level.voxel_size): f"{level.box} ({level.name})" for level in volume.levels
        }
    out["complete"] = said is None or said.get("state") == "complete"
    out["made_by"] = "another program" if said is None else "petavox"
    if said is not None and "provenance" in said:
        out["provenance"] = said["provenance"]
    return out


def _state(path: str) -> dict[str, Any] | None:
    return None if Path(path).is_file() else state.read(path)
