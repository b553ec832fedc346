"""Pictures of slices in any direction, at one scale for all volumes, with a scale bar.

What it is: a field (a rectangle in nm on one plane), the sampling of volumes on it, and PNG bytes
of bounded size. What it is not: colours of labels (petavox.view.picture), or HTML.

A field is sampled from the coarsest level of a pyramid that is fine enough, by the nearest voxel;
so anisotropic voxels are drawn in their true proportion. Where a volume has no level that is coarse
enough for the whole of it, the field is its middle.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import petavox as pv
from petavox.space import Box, zyx
from petavox.view import picture
from petavox.volume import Volume

ROWS_COLUMNS = {"xy": (1, 2), "xz": (0, 2), "yz": (0, 1)}
"""Which axes (zyx) run down and across a picture."""
NAMES = "zyx"
READ = 4
"""Voxels read for one pixel along a side, at most."""


@dataclass(frozen=True)
class Field:
    """A rectangle on a plane.

    plane: xy, xz or yz.  at: nm along the third axis.  low, high: nm, (down, across).
    nm: edge of a pixel.
    """

    plane: str
    at: float
    low: tuple[float, float]
    high: tuple[float, float]
    nm: float

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels (down, across)."""
        down, across = (
            max(1, round((b - a) / self.nm)) for a, b in zip(self.low, self.high, strict=True)
        )
        return (down, across)

    @property
    def third(self) -> int:
        """The axis (zyx) that the plane stands across."""
        return 3 - sum(ROWS_COLUMNS[self.plane])

    @property
    def flat(self) -> bool:
        """Much wider than high: better alone in its row."""
        return self.shape[1] > 4 * self.shape[0]

    def said(self) -> str:
        """In words."""
        down, across = ((b - a) / 1000 for a, b in zip(self.low, self.high, strict=True))
        return (
            f"{self.plane} at {NAMES[self.third]} = {self.at:,.0f} nm, "
            f"{across:.3g} × {down:.3g} µm, {self.nm:.3g} nm a pixel"
        )


def field(
    volume: Volume, plane: str, pixels: int, *, at: float | None = None, fill: float | None = None
) -> Field:
    """The field that shows a volume, `pixels` along its longer side.

    at: nm along the third axis; default the middle.  fill: µm wide, around the middle.
    """
    size = np.array(tuple(volume.voxel_size))
    low, high = np.array(volume.box.start) * size, np.array(volume.box.stop) * size
    axes = ROWS_COLUMNS[plane]
    third = 3 - sum(axes)
    most = float(max(high[a] - low[a] for a in axes))
    if fill is not None:
        most = min(most, fill * 1000)
    coarsest = max(
        (max(tuple(s.voxel_size)[a] for a in axes) for s in volume.levels),
        default=max(size[a] for a in axes),
    )
    most = min(most, READ * pixels * coarsest)
    middle, half = (low + high) / 2, most / 2
    start = [max(low[a], middle[a] - half) for a in axes]
    stop = [min(high[a], middle[a] + half) for a in axes]
    # not more pixels than voxels, but for tiny volumes
    nm = max(most / pixels, min(size[a] for a in axes) / 4)
    where = (low[third] + high[third]) / 2 if at is None else at
    # the middle of a voxel
    where = (math.floor(where / size[third]) + 0.5) * size[third]
    return Field(plane, float(where), (start[0], start[1]), (stop[0], stop[1]), float(nm))


def around(place: np.ndarray, plane: str, width_nm: float, pixels: int, volume: Volume) -> Field:
    """The square field about a place (nm, zyx), moved into the volume where it would leave it."""
    axes = ROWS_COLUMNS[plane]
    low = []
    for a in axes:
        size = tuple(volume.voxel_size)[a]
        first, last = volume.box.start[a] * size, volume.box.stop[a] * size - width_nm
        low.append(max(min(place[a] - width_nm / 2, last), first))
    at = float(place[3 - sum(axes)])
    corner, nm = (low[0], low[1]), width_nm / pixels
    return Field(plane, at, corner, (low[0] + width_nm, low[1] + width_nm), nm)


def ring(rgb: np.ndarray, field: Field, place: np.ndarray) -> np.ndarray:
    """A copy with a yellow ring about a place (nm, zyx)."""
    out = Image.fromarray(rgb)
    y, x = (
        (place[a] - low) / field.nm
        for a, low in zip(ROWS_COLUMNS[field.plane], field.low, strict=True)
    )
    r = rgb.shape[0] / 14
    ImageDraw.Draw(out).ellipse((x - r, y - r, x + r, y + r), outline=(255, 221, 60), width=2)
    return np.asarray(out)


def sample(volume: Volume, wanted: Field) -> np.ndarray:
    """The nearest voxels of a field, (down, across); 0 where the volume has none."""
    volume = _level(volume, wanted)
    size = np.array(tuple(volume.voxel_size))
    rows, columns = wanted.shape
    axes, third = ROWS_COLUMNS[wanted.plane], wanted.third
    places: list[np.ndarray] = [np.zeros(0, np.int64)] * 3
    for axis, count, low in zip(axes, (rows, columns), wanted.low, strict=True):
        places[axis] = np.floor((low + (np.arange(count) + 0.5) * wanted.nm) / size[axis]).astype(
            np.int64
        )
    places[third] = np.floor(np.array([wanted.at]) / size[third]).astype(np.int64)
    box = Box(
        zyx([int(p.min()) for p in places]), zyx([int(p.max()) + 1 for p in places])
    ).intersection(volume.box)
    out = np.zeros((rows, columns), volume.dtype)
    if box.is_empty:
        return out
    values = volume.read(box)
    at = [p - s for p, s in zip(places, box.start, strict=True)]
    good = [(a >= 0) & (a < n) for a, n in zip(at, values.shape, strict=True)]
    if not good[third].all():
        return out
    flat = np.take(values, int(at[third][0]), axis=third)
    inner = flat[np.ix_(at[axes[0]][good[axes[0]]], at[axes[1]][good[axes[1]]])]
    out[np.ix_(good[axes[0]], good[axes[1]])] = inner
    return out


def _level(volume: Volume, wanted: Field) -> Volume:
    """The coarsest level that is fine enough for a field."""
    axes, own = ROWS_COLUMNS[wanted.plane], tuple(volume.voxel_size)
    fine = [
        level.voxel_size
        for level in volume.levels
        if all(tuple(level.voxel_size)[a] <= max(wanted.nm, own[a]) * 1.001 for a in axes)
    ]
    # better none in which the section is mixed with its neighbours
    fit = [s for s in fine if tuple(s)[wanted.third] == own[wanted.third]] or fine
    best = max(fit, key=lambda s: math.prod(tuple(s)), default=volume.voxel_size)
    if best == volume.voxel_size:
        return volume
    # the finest level's size is in the file, or was given to open it
    return pv.open(volume.path, voxel_size=volume.levels[0].voxel_size, resolution=best)


def bounds(image: np.ndarray) -> tuple[float, float]:
    """Black and white of what is tissue: the 0.5th and 99.5th percentile of values above 0."""
    some = image[image > 0] if (image > 0).any() else image
    low, high = np.percentile(some, (0.5, 99.5))
    return (float(low), float(max(high, low + 1)))


def grey(image: np.ndarray) -> np.ndarray:
    """An image as RGB by its own range."""
    return picture.grey(image, bounds(image))


def scale_bar(rgb: np.ndarray, nm: float) -> np.ndarray:
    """A copy with a bar of a round length at the lower left.  nm: edge of a pixel."""
    length = _round(rgb.shape[1] * nm * 0.28)
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    out = Image.fromarray(rgb)
    draw = ImageDraw.Draw(out)
    height = rgb.shape[0]
    size = max(11, round(rgb.shape[1] / 42))
    x0, y0 = size // 2, height - size // 2 - 4
    x1 = x0 + round(length / nm)
    draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y0 + 4), fill="black")
    draw.rectangle((x0, y0, x1, y0 + 3), fill="white")
    draw.text(
        (x0, y0 - size - 5), text, fill="white", font=ImageFont.load_default(size),
        stroke_width=2, stroke_fill="black",
    )  # fmt: skip
    return np.asarray(out)


def png(rgb: np.ndarray, colours: int = 256) -> bytes:
    """PNG bytes: grey, or a palette; a picture with transparency as it is."""
    out = Image.fromarray(rgb)
    if rgb.shape[-1] == 4:
        out = out.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    elif (rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all():
        # 64 steps: noise in the last bits is most of the file and nothing to see
        out = Image.fromarray((rgb[..., 0] >> 2 << 2) + 1)
    else:
        out = out.quantize(colours, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    out.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _round(nm: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not more."""
    step: float = 10 ** math.floor(math.log10(nm))
    return step * max(m for m in (1, 2, 5) if step * m <= nm)
