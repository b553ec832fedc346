"""From paths of volumes to a scene that a server serves.

What it is: which volume becomes which layer, and how its data reach the client: OME-Zarr 0.5 and
precomputed on this machine as the files they are, every other format through chunks made on
demand. What it is not: Neuroglancer's JSON (petavox.view.layers), or HTTP (petavox.view.server).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import petavox as pv
from petavox.errors import BadInput
from petavox.space import Box
from petavox.view.chunks import VolumeChunks, is_labels
from petavox.view.layers import ImageLayer, Layer, SegmentationLayer, Source
from petavox.view.scene import Scene
from petavox.view.server import Files
from petavox.volume import Volume, state
from petavox.volume.places import is_url

HALF = (0.5, 0.5, 0.5)
"""OME-Zarr places the centre of a voxel, Neuroglancer its corner; so that all layers lie on one
another, a volume's voxel i covers [i, i + 1) whatever its format."""


OBJECTS = ("neuroglancer_multilod_draco", "neuroglancer_legacy_mesh", "neuroglancer_skeletons")
"""What the info of a folder of meshes or skeletons calls itself."""


LARGEST = 12
"""Objects shown in 3-D where none are named."""


@dataclass(frozen=True)
class Shown:
    """A volume to show, and whether as labels.

    objects: folders of meshes or skeletons of the labels.  selected: ids shown in 3-D.
    others: opacity in slices of labels that are not selected.  name: of the layer; default: one
    from the path.
    """

    volume: Volume
    labels: bool
    given_size: bool = False
    objects: Sequence[Path] = ()
    selected: Sequence[int] = ()
    others: float = 0.0
    name: str = ""
    visible: bool = True


def opened(
    paths: Sequence[str],
    labels: Sequence[str] = (),
    voxel_size: Sequence[float] | None = None,
    selected: Sequence[int] = (),
) -> list[Shown]:
    """Open what is to be shown, images below labels.

    paths: volumes, and folders of meshes or skeletons (precomputed), which go to the last labels.
    labels: paths shown as labels whatever their files say (the others by what they say).
    voxel_size: nm, zyx, for files that do not say.  selected: ids of the last labels.
    """
    folders = [Path(p) for p in paths if is_objects(p)]
    shown = []
    for path in [p for p in paths if Path(p) not in folders]:
        volume = pv.open(path, voxel_size=voxel_size)
        shown.append(Shown(volume, is_labels(volume), voxel_size is not None))
    for path in labels:
        volume = pv.open(path, voxel_size=voxel_size)
        if volume.dtype.kind != "u":
            raise BadInput(f"{path} holds {volume.dtype}; labels are whole numbers.")
        shown.append(Shown(volume, True, voxel_size is not None))
    if not shown and not folders:
        raise BadInput("nothing to view: give the path of a volume.")
    shown.sort(key=lambda s: s.labels)
    if folders or selected:
        if not shown or not shown[-1].labels:
            what = folders[0] if folders else "--select"
            raise BadInput(f"{what} needs the labels that its objects belong to: give them too.")
        shown[-1] = with_objects(shown[-1], folders, selected)
    return shown


def with_objects(one: Shown, folders: Sequence[Path], selected: Sequence[int] = ()) -> Shown:
    """Labels with their meshes and skeletons; without a selection the largest are shown in 3-D."""
    if selected:
        return replace(one, objects=folders, selected=selected)
    return replace(one, objects=folders, selected=largest(folders), others=0.2)


def largest(folders: Sequence[Path], most: int = LARGEST) -> list[int]:
    """Ids of the largest objects that have a mesh or a skeleton, by the tables beside them."""
    import pyarrow.parquet as pq

    for name, column in (("meshes.parquet", "volume_nm3"), ("skeletons.parquet", "cable_nm")):
        for folder in folders:
            file = folder / name
            if file.is_file() and {"id", column} <= set(pq.read_schema(file).names):
                table = pq.read_table(file, columns=["id", column])
                ids, size = table["id"].to_numpy(), table[column].to_numpy()
                order = np.lexsort((ids, -np.nan_to_num(size)))[:most]
                return [int(i) for i in ids[order]]
    return []


def is_objects(path: str) -> bool:
    """True for a finished folder of meshes or skeletons. Raises NotComplete for an unfinished."""
    if is_url(path):
        return False
    try:
        kind = json.loads((Path(path) / "info").read_text()).get("@type")
    except (OSError, ValueError, AttributeError):
        return False
    if kind in OBJECTS:
        state.require_complete(path)
    return kind in OBJECTS


class Host(Protocol):
    """Something that takes data to be shown, and says at which address they will be."""

    def add(self, source: Path | Files) -> str:
        """Take a folder, or files made on demand."""
        ...


def layers(shown: Sequence[Shown], server: Host) -> list[Layer]:
    """A layer for each volume, its data added to the server."""
    names = _names([s.name or s.volume.path for s in shown])
    out: list[Layer] = []
    for name, one in zip(names, shown, strict=True):
        source = _source(one, server)
        if one.labels:
            more = [Source(f"precomputed://{server.add(folder)}") for folder in one.objects]
            how: dict[str, Any] = {
                "selected": one.selected,
                "others": one.others,
                "visible": one.visible,
            }
            out.append(SegmentationLayer(name, [source, *more], **how))
        else:
            bounds = _bounds(one.volume)
            out.append(ImageLayer(name, [source], bounds=bounds, visible=one.visible))
    return out


def scene(
    shown: Sequence[Shown],
    server: Host,
    *,
    layout: str = "4panel",
    at: tuple[float, float, float] | None = None,
    size: tuple[int, int] = (1280, 960),
    more: Sequence[Layer] = (),
) -> Scene:
    """The scene of these volumes; `more` layers come on top. It fits the first volume."""
    first = next(s for s in shown if s.visible).volume
    return Scene(
        [*layers(shown, server), *more],
        first.box,
        first.voxel_size,
        layout=layout,
        at=at,
        size=size,
    )


def _source(one: Shown, server: Host) -> Source:
    volume = one.volume
    if _as_files(one):
        address = server.add(Path(volume.path))
        if volume.format == "precomputed":
            return Source(f"precomputed://{address}")
        return Source(f"zarr3://{address}", volume.voxel_size, HALF, "zyx")
    levels = [volume]
    for level in volume.levels:
        if level.voxel_size != volume.voxel_size:
            given = volume.voxel_size if one.given_size else None
            levels.append(pv.open(volume.path, voxel_size=given, resolution=level.voxel_size))
    return Source(f"precomputed://{server.add(VolumeChunks(levels, labels=one.labels))}")


def _as_files(one: Shown) -> bool:
    """True if the client reads the volume's own files as they are."""
    volume = one.volume
    if volume.format not in ("OME-Zarr 0.5", "precomputed") or is_url(volume.path):
        return False
    # a size that the files do not say, or another meaning than theirs, the client cannot know
    if one.given_size or one.labels != is_labels(volume):
        return False
    return Path(volume.path).is_dir()


def _bounds(volume: Volume) -> tuple[float, float] | None:
    """Black and white of an image: for uint8 its whole range, else what most voxels hold."""
    if volume.dtype == np.uint8:
        return None
    middle = [(a + b) // 2 for a, b in zip(volume.box.start, volume.box.stop, strict=True)]
    near = Box.of_shape((1, 1, 1), middle).grown((4, 64, 64)).intersection(volume.box)
    sample = volume.read(near)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return None
    low, high = np.percentile(sample, (0.5, 99.5))
    return (float(low), float(high) if high > low else float(low) + 1.0)


def _names(paths: Sequence[str]) -> list[str]:
    """A short name for each path, all different."""
    names: list[str] = []
    for path in paths:
        parts = [p for p in path.rstrip("/").split("/") if p]
        stem = parts[-1].removesuffix(".zarr").removesuffix(".ome")
        if stem in names and len(parts) > 1:
            stem = f"{parts[-2].split('.')[0]}/{stem}"
        name, count = stem, 2
        while name in names:
            name, count = f"{stem} {count}", count + 1
        names.append(name)
    return names
