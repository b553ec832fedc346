"""Resegmentation of one pair: the network is asked again, twice, without the boundary in question.

Around the decision point both objects are cleared, all others stay as obstacles, and each is grown
again from its deepest point. If the two are one, either seed fills both.

      box       ┌───────────────────┐     the flood may go here
      analysis  │   ┌───────────┐   │     seeds and scores are taken here
                │   │  a  ·  b  │   │     · decision point
                │   └───────────┘   │
                └───────────────────┘

A seed that recovers too little of its object (a bad place, not a split) is tried again elsewhere,
outside the exclusion zones of earlier tries.

What it is: the scores of one pair, on arrays. What it is not: a judgement (petavox.segment.rule).

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods ("Agglomeration").
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import Field, model_validator
from scipy import ndimage

from petavox.errors import BadInput
from petavox.ffn.canvas import Canvas, Predict
from petavox.ffn.flood import normalised
from petavox.ffn.growth import FloodSettings
from petavox.ffn.model import ModelSpec
from petavox.settings import NmSetting, Settings
from petavox.space import Box, Zyx, zyx

# Published for a field of view of 33 x 33 x 17 voxels (xyz): 50, 50, 25; 34, 34, 17; 8, 8, 4.
# The smaller box costs a seventh; what a flood does far from the joint says little about it.
_BOX, _ANALYSIS, _EXCLUSION = 28 / 33, 24 / 33, 6 / 33


class ResegmentSettings(Settings):
    """How a pair is resegmented. Radii in nm, zyx; None: in proportion to the model's field of
    view, which carries the anisotropy."""

    box_radius: NmSetting | None = None
    """Of what is flooded: 28/33 fields of view (published: 50/33)."""
    analysis_radius: NmSetting | None = None
    """Of what is scored, and where seeds lie: 24/33 fields of view (published: 34/33)."""
    exclusion_radius: NmSetting | None = None
    """Around a seed that failed: 6/33 fields of view (published: 8/33)."""
    recovered: float = Field(0.6, ge=0, le=1)
    """Share of its own object from which a seed is good."""
    tries: int = Field(2, ge=1, le=64)
    """Seeds tried for each object; the best one counts (published: 8)."""
    mirror: bool = True
    """Where the arrays end within the box (the rim of a volume), mirror them by up to half a field
    of view, so that a flood can be centred on every voxel of the volume."""
    flood: FloodSettings = Field(default_factory=lambda: FloodSettings(max_object_share=1.0))

    @model_validator(mode="after")
    def _of_one_pair(self) -> ResegmentSettings:
        for name in ("flip", "keep_probability"):
            if getattr(self.flood, name):
                raise ValueError(f"flood.{name} says nothing here: leave it out of resegment")
        return self


@dataclass(frozen=True)
class Scores:
    """What two regrowths say of a pair; all shares in the analysis box, in 0..1.

    iou: of the two regrown masks.  aa, ab: share of a, of b, that the seed in a recovers;
    ba, bb: the same for the seed in b.  deleted_a, deleted_b: voxels that fell from at least
    0.8 to below 0.5 during the regrowth of a, of b, over the voxels it ended with.
    tries_a, tries_b: seeds tried.  fovs, seconds: cost.
    reason: empty, or why there is no score; then all shares are NaN.
    """

    iou: float = np.nan
    aa: float = np.nan
    ab: float = np.nan
    ba: float = np.nan
    bb: float = np.nan
    deleted_a: float = np.nan
    deleted_b: float = np.nan
    tries_a: int = 0
    tries_b: int = 0
    fovs: int = 0
    seconds: float = 0.0
    reason: str = ""

    def row(self) -> dict[str, Any]:
        """Name -> value."""
        return asdict(self)


def radii(
    settings: ResegmentSettings, spec: ModelSpec, voxel_size: Sequence[float]
) -> tuple[Zyx, Zyx, Zyx]:
    """Radii of box, analysis and exclusion in voxels, zyx.

    Raises BadInput if no field of view fits around the decision point.
    """

    def voxels(nm: NmSetting | None, share: float) -> Zyx:
        if nm is None:
            return zyx([max(1, round(f * share)) for f in spec.fov])
        return zyx([round(r / v) for r, v in zip(nm, voxel_size, strict=True)])

    box = voxels(settings.box_radius, _BOX)
    analysis = voxels(settings.analysis_radius, _ANALYSIS)
    exclusion = voxels(settings.exclusion_radius, _EXCLUSION)
    if any(r < m for r, m in zip(box, spec.margin, strict=True)):
        raise BadInput(
            f"box_radius is {box} voxels, less than {spec.margin}, the reach of the model's field "
            f"of view {spec.fov} (z y x): nothing could be flooded. Leave it out, or raise it."
        )
    if any(a > r for a, r in zip(analysis, box, strict=True)):
        raise BadInput(
            f"analysis_radius is {analysis} voxels, more than the box_radius {box} (z y x): "
            "what is scored must be flooded. Lower it, or raise box_radius."
        )
    return box, analysis, exclusion


def around(point: Sequence[int], radius: Sequence[int]) -> Box:
    """The box of `radius` voxels on both sides of a voxel."""
    p = zyx(point, "point")
    return Box(p, zyx([c + 1 for c in p])).grown(radius)


def resegment(
    image: np.ndarray,
    labels: np.ndarray,
    a: int,
    b: int,
    point: Sequence[int],
    predict: Predict,
    spec: ModelSpec,
    *,
    voxel_size: Sequence[float],
    settings: ResegmentSettings | None = None,
) -> Scores:
    """Scores of the pair (a, b) at a decision point.

    image: (z, y, x) raw grey values around the point.  labels: unsigned, of the same shape.
    point: voxel of these arrays.  voxel_size: nm, zyx.  Both arrays are cut to the box around the
    point; where they end within it they are mirrored (`settings.mirror`).
    """
    settings = settings or ResegmentSettings()
    box, analysis, exclusion = radii(settings, spec, voxel_size)
    if image.shape != labels.shape:
        raise BadInput(f"the image has shape {image.shape}, the labels {labels.shape}.")
    wanted = around(point, box)
    here = wanted.intersection(Box.of_shape(image.shape))
    judged = around(point, analysis).intersection(here)
    image, labels = image[here.slices()], labels[here.slices()]
    if image.size and settings.mirror:
        rims = _rims(wanted, here, spec.margin)
        image, labels = np.pad(image, rims, "reflect"), np.pad(labels, rims, "reflect")
        here = Box(zyx([s - r[0] for s, r in zip(here.start, rims, strict=True)]),
                   zyx([s + r[1] for s, r in zip(here.stop, rims, strict=True)]))  # fmt: skip
    if any(n < f for n, f in zip(here.shape, spec.fov, strict=True)):
        return Scores(reason="no field of view fits: too near to the rim")
    if image.min() == image.max():
        return Scores(reason="the image is blank")
    scored = judged.slices(here.start)
    canvas = Canvas(normalised(image, spec), predict, spec, settings.flood)
    canvas.segmentation[(labels != 0) & (labels != a) & (labels != b)] = 1
    began = time.perf_counter()
    found = [_regrown(canvas, labels == i, scored, exclusion, settings) for i in (a, b)]
    seconds, fovs = time.perf_counter() - began, int(canvas.counters["fovs"])
    for name, regrown in zip("ab", found, strict=True):
        if regrown.mask is None:
            return Scores(
                tries_a=found[0].tries, tries_b=found[1].tries, fovs=fovs, seconds=seconds,
                reason=f"nothing grew in {name}" if regrown.tries else f"no seed fits in {name}",
            )  # fmt: skip
    from_a, from_b = found[0].mask, found[1].mask
    assert from_a is not None and from_b is not None  # noqa: PT018
    in_a, in_b = labels[scored] == a, labels[scored] == b
    either = int(np.count_nonzero(from_a | from_b))
    return Scores(
        iou=int(np.count_nonzero(from_a & from_b)) / either if either else 0.0,
        aa=_share(from_a, in_a),
        ab=_share(from_a, in_b),
        ba=_share(from_b, in_a),
        bb=_share(from_b, in_b),
        deleted_a=found[0].deleted,
        deleted_b=found[1].deleted,
        tries_a=found[0].tries,
        tries_b=found[1].tries,
        fovs=fovs,
        seconds=seconds,
    )


def _rims(wanted: Box, here: Box, margin: Zyx) -> list[tuple[int, int]]:
    """Voxels by which each side is mirrored: as far as the box was wanted, at most the margin."""
    return [
        (min(a - w, m), min(v - b, m))
        for a, b, w, v, m in zip(
            here.start, here.stop, wanted.start, wanted.stop, margin, strict=True
        )
    ]


@dataclass(frozen=True)
class _Regrown:
    """The best try: its mask in the analysis box (None: nothing grew) and deleted share."""

    mask: np.ndarray | None
    deleted: float
    tries: int


def _regrown(
    canvas: Canvas,
    mask: np.ndarray,
    scored: tuple[slice, slice, slice],
    exclusion: Zyx,
    settings: ResegmentSettings,
) -> _Regrown:
    """Grow an object again from its deepest points until enough of it is recovered.

    mask: (z, y, x) bool, the object in the canvas's box.
    """
    depth = _depth(canvas, mask, scored)
    mine = mask[scored]
    best, best_share, deleted, tries = None, -1.0, 0.0, 0
    while tries < settings.tries and depth.max(initial=0) > 0:
        # of equally deep points the first in z, y, x
        start = zyx([int(i) for i in np.unravel_index(int(np.argmax(depth)), depth.shape)])
        tries += 1
        growth = canvas.grow(start)
        if growth.fovs and canvas.seed[start] >= canvas.move_threshold:
            grown = canvas.seed[scored] >= canvas.segment_threshold
            grown &= canvas.segmentation[scored] <= 0
            share = _share(grown, mine)
            if share > best_share:
                best, best_share = grown, share
                deleted = growth.deleted / max(growth.voxels, 1)
            if share >= settings.recovered:
                break
        zone = around(start, exclusion).intersection(Box.of_shape(depth.shape))
        depth[zone.slices()] = 0
    return _Regrown(best, deleted, tries)


def _depth(canvas: Canvas, mask: np.ndarray, scored: tuple[slice, slice, slice]) -> np.ndarray:
    """(z, y, x) float32: distance to the outside of the object, where it may be seeded, else 0.

    In voxels: the field of view, not the tissue, says how much room a seed needs.
    """
    depth = np.zeros(mask.shape, np.float32)
    inner = tuple(
        slice(max(s.start, m), min(s.stop, n - m))
        for s, m, n in zip(scored, canvas.margin, mask.shape, strict=True)
    )
    cut = mask[scored]
    if not cut.any() or any(s.stop <= s.start for s in inner):
        return depth
    # an object that fills all of the box is as deep everywhere: its first voxel is as good
    deep = np.ones(cut.shape) if cut.all() else ndimage.distance_transform_edt(cut)
    depth[scored] = deep
    keep = np.zeros(mask.shape, bool)
    keep[inner] = True
    depth[~keep] = 0
    return depth


def _share(grown: np.ndarray, of: np.ndarray) -> float:
    """Share of an object's voxels that were grown; 0 for an object without voxels here."""
    voxels = int(np.count_nonzero(of))
    return int(np.count_nonzero(grown & of)) / voxels if voxels else 0.0
