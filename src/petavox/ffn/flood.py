"""Flood one subvolume: raw image in, canvas with objects out.

What it is: the steps around the canvas (normalise, choose seeds, put earlier objects in as
obstacles, flood or go on), on arrays; what one block of any size runs.
What it is not: files or volumes (petavox.stages.segment).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from petavox.errors import BadInput
from petavox.ffn import seeds as policies
from petavox.ffn.canvas import Canvas, Predict
from petavox.ffn.checkpoint import restore
from petavox.ffn.flip import mirror_back, mirrored, mirrored_points, mirrored_restrictor
from petavox.ffn.growth import FloodSettings, Watcher
from petavox.ffn.model import ModelSpec
from petavox.ffn.restrict import Restrictor
from petavox.settings import Settings, ZyxSetting

BYTES_PER_VOXEL = 70
"""Peak of a flood, at the choice of seeds: image, distances and their noise, maxima, labels."""

SeedPolicy = Literal["peaks", "peaks-2d", "grid", "fill", "points"]


class SeedSettings(Settings):
    """Where objects start, and in which order."""

    policy: SeedPolicy = "peaks"
    """peaks: far from edges, in 3-D; peaks-2d: in each section; grid: a lattice; fill: deepest in
    what earlier objects left empty; points: given by the user or an earlier run."""
    reverse: bool = False
    """Try them from the last to the first."""
    spacing: ZyxSetting = Field(default=(16, 16, 16))
    """Of the grid, in voxels."""


def normalised(image: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """(raw - mean) / std of the model, float32. Raises BadInput if it holds no picture."""
    if image.size == 0:
        raise BadInput("the image holds no voxel.")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise BadInput("the image holds NaN or infinity; repair or mask it first.")
    if image.min() == image.max():
        raise BadInput(f"every voxel of the image is {image.flat[0]}: there is nothing to segment.")
    return (image.astype(np.float32) - np.float32(spec.image_mean)) / np.float32(spec.image_std)


def choose_seeds(
    canvas: Canvas,
    settings: SeedSettings,
    voxel_size: Sequence[float],
    points: np.ndarray | None = None,
) -> np.ndarray:
    """Seed points of a canvas, (n, 3) int64 zyx, in the order to try.

    voxel_size: nm, zyx.  points: (n, 3), for the policy `points`.
    """
    mask = canvas.restrictor.mask
    if settings.policy == "peaks":
        found = policies.peaks(canvas.image, voxel_size, mask)
    elif settings.policy == "peaks-2d":
        found = policies.peaks_2d(canvas.image, voxel_size, mask)
    elif settings.policy == "grid":
        found = policies.grid(canvas.shape, settings.spacing, canvas.margin)
    elif settings.policy == "fill":
        # gaps that open to the rim are deepest there, where no field of view fits: the depth
        # that counts is the one inside
        closed = np.ones(canvas.shape, bool)
        inside = tuple(slice(m, n - m) for m, n in zip(canvas.margin, canvas.shape, strict=True))
        closed[inside] = False if mask is None else mask[inside]
        found = policies.fill_empty(canvas.segmentation, voxel_size, closed)
    elif points is None:
        raise BadInput("the seed policy 'points' needs points; give a file of them.")
    else:
        found = np.asarray(points, np.int64).reshape(-1, 3)
    return policies.reverse(found) if settings.reverse else found


def flood(
    image: np.ndarray,
    predict: Predict,
    spec: ModelSpec,
    *,
    voxel_size: Sequence[float],
    settings: FloodSettings | None = None,
    seeds: SeedSettings | None = None,
    points: np.ndarray | None = None,
    restrictor: Restrictor | None = None,
    earlier: np.ndarray | None = None,
    state: dict[str, np.ndarray] | None = None,
    watcher: Watcher | None = None,
) -> Canvas:
    """Flood a subvolume from the start, or go on from a saved state.

    image: (z, y, x) raw grey values.  predict: the network (petavox.ffn.predictor).
    voxel_size: nm, zyx.  earlier: (z, y, x) int32, objects 1..n of an earlier pass: obstacles
    whose ids are kept; new objects count on from n.  state: of an interrupted flood of the same
    image, model and settings.
    """
    canvas = prepared(
        image,
        predict,
        spec,
        voxel_size=voxel_size,
        settings=settings,
        seeds=seeds,
        points=points,
        restrictor=restrictor,
        earlier=earlier,
    )
    if state is not None:
        restore(canvas, state)
    canvas.segment_all(watcher)
    mirror_back(canvas)
    return canvas


def prepared(
    image: np.ndarray,
    predict: Predict,
    spec: ModelSpec,
    *,
    voxel_size: Sequence[float],
    settings: FloodSettings | None = None,
    seeds: SeedSettings | None = None,
    points: np.ndarray | None = None,
    restrictor: Restrictor | None = None,
    earlier: np.ndarray | None = None,
) -> Canvas:
    """The canvas that `flood` starts with: earlier objects in place, seeds chosen.

    With settings.flip all of it is mirrored; petavox.ffn.flip.mirror_back turns it back.
    """
    axes = settings.flip if settings else ""
    if axes:
        points = None if points is None else mirrored_points(points, image.shape, axes)
        earlier = None if earlier is None else mirrored(earlier, axes)
        restrictor = None if restrictor is None else mirrored_restrictor(restrictor, axes)
        image = mirrored(image, axes)
    canvas = Canvas(normalised(image, spec), predict, spec, settings, restrictor)
    if earlier is not None:
        if earlier.shape != canvas.shape:
            raise BadInput(f"earlier objects have shape {earlier.shape}, the image {canvas.shape}.")
        canvas.segmentation[...] = earlier
        canvas.next_id = int(earlier.max(initial=0)) + 1
    # before restoring: seeds depend on the state at the start, never on the progress
    canvas.seeds = choose_seeds(canvas, seeds or SeedSettings(), voxel_size, points)
    return canvas
