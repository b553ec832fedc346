"""What a flood of one subvolume reads: checked, and brought onto the voxels of its box.

What it is: the box, earlier objects, and points of an image, as arrays; and their digests, by which
an interrupted flood knows them again. What it is not: masks and shifts
(petavox.stages.restrictions), or the flood.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from petavox.blocks.plan import memory_available
from petavox.errors import BadInput
from petavox.ffn.flood import BYTES_PER_VOXEL
from petavox.ffn.model import Model, ModelSpec
from petavox.ffn.restrict import Restrictor
from petavox.provenance import digest
from petavox.space import Box, zyx
from petavox.stages.labels import labels_of
from petavox.volume import Kind, Volume

INPUTS = ("earlier", "points", "mask", "seed_mask", "shift")
"""What a flood may read besides image and model."""


def box_of(volume: Volume, wanted: Box | None, model: Model) -> Box:
    """The subvolume to flood. Raises BadInput if this model cannot flood it on this machine."""
    box = wanted or volume.box
    require_image(volume)
    if box.is_empty or not volume.box.contains(box):
        raise BadInput(f"box {box} is not inside {volume.path}, whose box is {volume.box}.")
    if any(n < f for n, f in zip(box.shape, model.spec.fov, strict=True)):
        raise BadInput(
            f"box {box} is {box.shape} voxels, smaller than the network's field of view "
            f"{model.spec.fov} (z y x); choose a larger box."
        )
    needed, free = BYTES_PER_VOXEL * box.size, memory_available()
    if free is not None and needed > free:
        raise BadInput(
            f"box {box} needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are "
            "free here; flood a smaller --box, or many subvolumes with --blocks."
        )
    require_trained_on(volume, model.spec)
    return box


def require_image(volume: Volume) -> None:
    """Raise BadInput if a volume is no image that a network can be given."""
    if volume.kind is not Kind.IMAGE or volume.dtype.name not in ("uint8", "uint16", "float32"):
        raise BadInput(
            f"{volume.path} holds {volume.kind} of type {volume.dtype}; an image of uint8, uint16 "
            "or float32 is needed."
        )


def require_trained_on(volume: Volume, spec: ModelSpec) -> None:
    """Raise BadInput if a network was trained on voxels of quite another size."""
    trained = spec.voxel_size
    if trained is not None and any(
        not 0.5 <= a / b <= 2 for a, b in zip(trained, volume.voxel_size, strict=True)
    ):
        raise BadInput(
            f"{volume.path} has voxels of {volume.voxel_size}, the model was trained on {trained} "
            "nm (z y x), more than a factor of two apart; use another level of the pyramid."
        )


def earlier_objects(
    path: str | None, box: Box, image: Volume
) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids of earlier objects in order, and the same objects as int32 1..n."""
    if path is None:
        return np.zeros(0, np.uint64), None
    ids, places = np.unique(_refined(labels_of(path), box, image), return_inverse=True)
    numbers = np.arange(len(ids), dtype=np.int32)
    if len(ids) and ids[0] != 0:
        numbers += 1
    else:
        ids = ids[1:]
    return ids.astype(np.uint64), numbers[places].reshape(box.shape)


def require_room_for_ids(ids: np.ndarray, box: Box) -> None:
    """New ids count on from the largest earlier one, at most one for each voxel."""
    largest = int(ids.max(initial=0))
    if largest + box.size >= 1 << 64:
        raise BadInput(
            f"the largest id of the earlier objects is {largest}: there is no room above it for "
            "the ids of new ones; renumber the earlier labels."
        )


def _refined(labels: Volume, box: Box, image: Volume) -> np.ndarray:
    """Labels on the image's voxels; coarser ones are repeated: first the large, at low resolution.

    A voxel of the image belongs to the coarse voxel that holds it.
    """
    steps = [a / b for a, b in zip(labels.voxel_size, image.voxel_size, strict=True)]
    times = [round(s) for s in steps]
    if any(abs(s - t) > 1e-3 or t < 1 for s, t in zip(steps, times, strict=True)):
        raise BadInput(
            f"{labels.path} has voxels of {labels.voxel_size}, the image of {image.voxel_size}: "
            "earlier labels need the same voxels, or coarser ones by whole factors."
        )
    inside = Box(
        zyx([a // t for a, t in zip(box.start, times, strict=True)]),
        zyx([-(-b // t) for b, t in zip(box.stop, times, strict=True)]),
    )
    if not labels.box.contains(inside):
        raise BadInput(f"{labels.path} covers {labels.box} of its voxels, {inside} are needed.")
    found = labels.read(inside)
    for axis, t in enumerate(times):
        found = np.repeat(found, t, axis)
    start = [a - s * t for a, s, t in zip(box.start, inside.start, times, strict=True)]
    return found[Box.of_shape(box.shape, start).slices()]


def contents(
    ids: np.ndarray, earlier: np.ndarray | None, points: np.ndarray | None, restrictor: Restrictor
) -> dict[str, str | None]:
    """Digests of what besides the image and the model decides the flood; None for what is absent.

    The settings name the paths only, and other voxels may lie there when a run is taken up.
    """
    limits = (restrictor.mask, restrictor.seed_mask, restrictor.shift)
    arrays = ((ids, earlier), (points,), *((a,) for a in limits))
    return {
        name: None if of[-1] is None else digest(*(a.tobytes() for a in of if a is not None))
        for name, of in zip(INPUTS, arrays, strict=True)
    }


def points_inside(path: str, box: Box) -> np.ndarray:
    """Points inside the box, relative to it, in the order of the file."""
    file = Path(path)
    try:
        if file.suffix == ".json":
            origins = json.loads(file.read_text())["origins"]
            rows = [origins[k]["seed"] for k in sorted(origins, key=int)]
        else:
            rows = np.loadtxt(file, delimiter=",", ndmin=2).tolist()
        points = np.array(rows, np.float64).reshape(-1, 3)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadInput(
            f"{path} holds no seed points ({e}): give origins.json of an earlier run, or a CSV "
            "with one z,y,x in voxels per line and no heading."
        ) from None
    if not np.isfinite(points).all():
        raise BadInput(f"{path} holds a seed point that is no number: give z,y,x in voxels.")
    voxels = np.round(points).astype(np.int64)
    inside = ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
    if len(points) and not inside.any():
        raise BadInput(
            f"none of the {len(points)} seed points in {path} lies in box {box}: are they z,y,x "
            "voxels of the image?"
        )
    return voxels[inside] - np.array(box.start)
