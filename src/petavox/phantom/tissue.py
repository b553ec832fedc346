"""Synthetic neuropil with exact truth: `tissue(box, voxel_size, seed, look)`.

>>> t = tissue(Box((0, 0, 0), (24, 32, 32)), (8, 8, 8), seed=1)
>>> t.image.shape, t.image.dtype.name, t.labels.dtype.name
((24, 32, 32), 'uint8', 'uint64')

What it is: the tissue as a pure function of seed and place. Any box, computed alone, equals the
same region of any larger one, so volumes are made block by block; offsets may be negative.
What it is not: files (petavox.stages.phantom writes them) or the cutting into tiles
(petavox.phantom.tiles).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from petavox.errors import BadInput
from petavox.phantom import imaging
from petavox.phantom.capsules import Body, Capsules
from petavox.phantom.drawing import CLASS_NAMES, Canvas, offsets, window_of
from petavox.phantom.fields import WARP_REACH, Nearest, nearest, warped
from petavox.phantom.looks import Look, look_of
from petavox.phantom.organelles import (
    SURROUND,
    SYNAPSE_REACH,
    Synapse,
    mitochondria,
    synapses,
)
from petavox.phantom.rng import uniform
from petavox.phantom.world import World
from petavox.space import Box, VoxelSize

_PIECE = 2**21  # most planes' voxels computed at once: bounds the memory, whatever the box


@dataclass(frozen=True)
class Tissue:
    """A box of tissue; arrays are zyx and have the box's shape."""

    box: Box
    voxel_size: VoxelSize
    seed: int
    image: np.ndarray
    """uint8, or uint16 for 16-bit looks"""
    labels: np.ndarray
    """uint64: the neurite of each voxel; every voxel has one"""
    classes: np.ndarray
    """uint8: CLEFT, PRE, POST, MITO, VESICLE, NUCLEUS or 0"""
    synapses: tuple[Synapse, ...]
    """those whose position lies in the box; nm, voxel i covers [i, i + 1) * voxel_size"""


@functools.lru_cache(maxsize=4)
def world_of(seed: int, grain: float, scale: float, bodies: tuple[Body, ...]) -> World:
    """The geometry of a seed, cached: neighbouring boxes share most of it."""
    return World(seed, grain=grain, scale=scale, bodies=bodies)


def tissue(
    box: Box,
    voxel_size: Sequence[float] | VoxelSize,
    seed: int,
    look: str | Look = "fib-sem",
    *,
    grain: float = 165.0,
    scale: float = 1.0,
    synapse_density: float = 0.12,
    bodies: Sequence[Body] = (),
) -> Tissue:
    """Image and truth of one box of the tissue of `seed`.

    box: voxels; the centre of voxel i shows the world at i * voxel_size nm.
    grain: distance of the fine neurites, nm: larger makes larger profiles.
    scale: enlarges all of the tissue, organelles and membranes included (1 is life size).
    synapse_density: share of boutons with a synapse.  bodies: somata and vessels.
    Raises BadInput for an empty box or impossible sizes.
    """
    size, look = VoxelSize.of(tuple(voxel_size)), look_of(look)
    if box.is_empty:
        raise BadInput(f"box {box} holds no voxel; give a box with at least one.")
    if not 60 <= grain <= 2000:
        raise BadInput(f"grain is {grain} nm: choose between 60 and 2000.")
    if not 0.1 <= scale <= 20:
        raise BadInput(f"scale is {scale}: choose between 0.1 and 20.")
    if not 0 <= synapse_density <= 1:
        raise BadInput(f"synapse_density is {synapse_density}: choose between 0 and 1.")
    world = world_of(seed, grain, scale, tuple(bodies))
    image = np.empty(box.shape, np.uint16 if look.bits == 16 else np.uint8)
    labels, classes = np.empty(box.shape, np.uint64), np.empty(box.shape, np.uint8)
    found: dict[int, Synapse] = {}
    for piece in _pieces(box, size, _PIECE // look.slices):
        im, la, cl, sy = _piece(world, piece, size, look, synapse_density)
        at = piece.slices(box.start)
        image[at], labels[at], classes[at] = im, la, cl
        found |= {s.id: s for s in sy if _holds(box, size, s.position)}
    sites = tuple(_in_voxels(found[k], size) for k in sorted(found))
    return Tissue(box, size, seed, image, labels, classes, sites)


def _pieces(box: Box, size: VoxelSize, most: int) -> list[Box]:
    """The box in parts of at most `most` voxels: halved along the side that is longest in nm."""
    if box.size <= most:
        return [box]
    length = [n * v for n, v in zip(box.shape, size, strict=True)]
    axis = length.index(max(length))
    if box.shape[axis] == 1:
        axis = box.shape.index(max(box.shape))
    middle = (box.start[axis] + box.stop[axis]) // 2
    stop, start = list(box.stop), list(box.start)
    stop[axis] = start[axis] = middle
    first = Box(box.start, (stop[0], stop[1], stop[2]))
    second = Box((start[0], start[1], start[2]), box.stop)
    return _pieces(first, size, most) + _pieces(second, size, most)


def _in_voxels(site: Synapse, size: VoxelSize) -> Synapse:
    """From the world, where centres of voxels are at i * size, to a volume: at (i + 1/2) * size."""
    half = 0.5 * np.array(list(size))
    return replace(site, position=site.position + half, vesicles=site.vesicles + half)


def _holds(box: Box, size: VoxelSize, position: np.ndarray) -> bool:
    voxel = np.floor(position / np.array(list(size)) + 0.5).astype(int)
    return box.contains_point(voxel.tolist())


def _piece(
    world: World, box: Box, size: VoxelSize, look: Look, density: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Synapse]]:
    """Image, labels, classes of a small box, and the synapses whose parts may reach it."""
    fine, grown, keep = _sampled(box, size, look)
    s = world.scale
    voxel = np.array(fine)
    lo, hi = np.array(grown.start) * voxel, np.array(grown.stop) * voxel
    slack = WARP_REACH * s
    reach = SYNAPSE_REACH * s
    wide = slack + reach + SURROUND * s
    caps = world.capsules(lo - wide, hi + wide)
    sites = synapses(world, caps, lo - slack - reach, hi + slack + reach, world.seed, density)
    # mitochondria may stick out of their capsule by half of its length
    mitos = mitochondria(world, caps.near(lo - slack, hi + slack, 600 * s))
    close = caps.near(lo - slack, hi + slack, 3.5 * world.spacing[1])
    near = nearest(grown, fine, close, world.seed, s)
    shift = warped(world.seed, s, grown.start, grown.shape, fine)

    wrap = world.glia(close)
    labels, wall = _labels(near, close, wrap, sites, fine, s)
    image = _cytoplasm(world, grown, fine, near, close, labels, look)
    canvas = Canvas(
        grown, fine, shift, labels, wall, image, np.zeros(grown.shape, np.uint8), look, s
    )
    for body in _somata(world):
        canvas.nucleus(*body)
    for m in mitos:
        canvas.mitochondrion(m)
    canvas.membranes()
    for site in sites:
        canvas.synapse(site, labels, close, near)
    out = imaging.blurred(canvas.image, fine, look)[keep[0]]
    out = _averaged(out, look.slices)
    inside = keep[1]
    exposed = imaging.exposed(out, box, look, world.seed)
    return exposed, labels[inside], canvas.classes[inside], sites


def _sampled(
    box: Box, size: VoxelSize, look: Look
) -> tuple[tuple[float, float, float], Box, tuple[tuple[slice, ...], tuple[slice, ...]]]:
    """The finer voxel size the piece is made at, its grown box, and the slices back.

    A section of n slices is made as n planes about the voxel's centre; labels are the middle one.
    """
    n = look.slices
    fine = (size.z / n, size.y, size.x)
    half = n // 2
    core = Box(
        (box.start[0] * n - half, box.start[1], box.start[2]),
        ((box.stop[0] - 1) * n + half + 1, box.stop[1], box.stop[2]),
    )
    grown = core.grown(imaging.blur_reach(fine, look))
    planes = core.slices(grown.start)
    middle = slice(planes[0].start + half, planes[0].stop, n)
    return fine, grown, (planes, (middle, planes[1], planes[2]))


def _averaged(image: np.ndarray, n: int) -> np.ndarray:
    if n == 1:
        return image
    total = image[0::n].copy()
    for k in range(1, n):
        total += image[k::n]
    return total / np.float32(n)


def _labels(
    near: Nearest,
    caps: Capsules,
    wrap: np.ndarray,
    sites: list[Synapse],
    size: Sequence[float],
    scale: float,
) -> tuple[np.ndarray, np.ndarray]:
    """uint64 labels with glia sheets carved out, and the distance to the nearest wall, nm."""
    labels = caps.id[near.first]
    margin = near.margin
    glia = wrap[near.first]
    if glia.any():
        sheet = np.float32(46.0 * scale)
        # the core of a wrapped neurite stays its own, so that it is not cut
        is_glia = (glia != 0) & (margin < sheet) & (near.axial > np.float32(26.0 * scale))
        for site in sites:
            _spare(is_glia, near.box, size, site, 210.0 * scale)
        labels = np.where(is_glia, glia, labels)
        wrapped_too = (near.second >= 0) & (wrap[near.second] != 0)
        # inside wrapped neurites, and on both sides of a sheet, the wall lies at margin = sheet
        at_sheet = np.abs(margin - sheet)
        inner = (glia != 0) & ~is_glia & (margin < 2.5 * sheet)
        margin = np.where(inner, np.minimum(at_sheet, 1e9), margin)
        margin = np.where(
            is_glia, np.where(wrapped_too, at_sheet, np.minimum(at_sheet, margin)), margin
        )
    return labels, imaging.wall_distance(margin, size)


def _spare(mask: np.ndarray, box: Box, size: Sequence[float], site: Synapse, radius: float) -> None:
    window = window_of(box, size, site.position, radius)
    if window is not None:
        d = offsets(box, size, window, site.position)
        mask[window] &= sum(x * x for x in d) > radius * radius


def _cytoplasm(
    world: World,
    box: Box,
    size: Sequence[float],
    near: Nearest,
    caps: Capsules,
    labels: np.ndarray,
    look: Look,
) -> np.ndarray:
    ids, place = np.unique(labels, return_inverse=True)
    u = uniform(world.seed + 330, ids)
    glia = ids >= np.uint64(3 << 60)
    # most are alike, one in nine is dark; glia is darker still, vessels are empty
    tone = 1 + look.tone * (0.45 * (2 * u - 1) - np.where(u < 0.16, 0.75, 0.0))
    tone = np.where(glia, 1 - 0.9 * look.tone, tone)
    for k, body in enumerate(world.bodies):
        if body.kind == "vessel":
            tone = np.where(ids == np.uint64(k + 1), 1.38, tone)
    per_voxel = tone.astype(np.float32)[place].reshape(labels.shape)
    thick = np.clip((-near.depth - 60 * world.scale) / np.float32(150 * world.scale), 0, 1)
    thick *= (caps.kind >= Capsules.THICK)[near.first]
    return imaging.cytoplasm(box, size, per_voxel, thick, look, world.seed, world.scale)


def _somata(world: World) -> list[tuple[int, np.ndarray, float]]:
    return [
        (k + 1, (np.array(b.start) + np.array(b.stop)) / 2, 0.62 * b.radius)
        for k, b in enumerate(world.bodies)
        if b.kind == "soma"
    ]


__all__ = ["CLASS_NAMES", "Body", "Synapse", "Tissue", "tissue"]
