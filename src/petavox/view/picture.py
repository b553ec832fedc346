"""Pictures of slices: images in grey, labels in colour over them. Arrays in, RGB arrays out.

What it is: what README, demo and report draw with. What it is not: plots, files (but `png`), or
anything that reads a volume.

>>> picture = overlay(image[40], labels[40])                    # doctest: +SKIP
>>> write_atomically("slice.png", png(picture))                 # doctest: +SKIP
"""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from petavox.errors import BadInput

Bounds = tuple[float, float]


def grey(image: np.ndarray, bounds: Bounds | None = None) -> np.ndarray:
    """An image as (..., 3) uint8, the first of `bounds` black and the second white.

    image: any real numbers.  bounds: default 0..255 for uint8, else the 1st and 99th percentile
    of the array.
    """
    values = np.asarray(image, np.float32)
    if bounds is None:
        if image.dtype == np.uint8 or image.size == 0:
            bounds = (0.0, 255.0)
        else:
            low, high = np.percentile(values, (1, 99))
            bounds = (float(low), float(high))
    span = max(bounds[1] - bounds[0], 1e-12)
    levels = np.clip((values - bounds[0]) / span, 0, 1) * 255
    return np.repeat(np.rint(levels).astype(np.uint8)[..., None], 3, axis=-1)


def colours(ids: np.ndarray) -> np.ndarray:
    """A colour for every id, (..., 3) uint8: the same id has the same colour everywhere, for ever.

    0 is black. The hue is the id times the golden ratio, so that ids in a row lie far apart on
    the circle of hues; saturation and brightness come from a hash (the finaliser of SplitMix64).
    """
    unique, inverse = np.unique(np.asarray(ids, np.uint64), return_inverse=True)
    palette = np.array([_colour(int(i)) for i in unique], np.uint8).reshape(-1, 3)
    return palette[inverse].reshape((*np.shape(ids), 3))


def _colour(id_: int) -> tuple[int, int, int]:
    if id_ == 0:
        return (0, 0, 0)
    top = 2**64 - 1
    h = (id_ + 0x9E3779B97F4A7C15) & top
    h = ((h ^ (h >> 30)) * 0xBF58476D1CE4E5B9) & top
    h = ((h ^ (h >> 27)) * 0x94D049BB133111EB) & top
    h ^= h >> 31
    hue = ((id_ * 0x9E3779B97F4A7C15) & top) / 2**64
    saturation = 0.55 + 0.45 * ((h >> 16) & 0xFF) / 255
    value = 0.75 + 0.25 * ((h >> 24) & 0xFF) / 255
    r, g, b = colorsys.hsv_to_rgb(hue, saturation, value)
    return (round(r * 255), round(g * 255), round(b * 255))


def edges(labels: np.ndarray) -> np.ndarray:
    """True at pixels of a (y, x) label slice whose right or lower neighbour has another id."""
    out = np.zeros(labels.shape, bool)
    out[:-1] |= labels[:-1] != labels[1:]
    out[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return out


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    alpha: float = 0.4,
    outline: bool = True,
    bounds: Bounds | None = None,
    colour_ids: np.ndarray | None = None,
) -> np.ndarray:
    """Labels in colour over a grey image, (y, x, 3) uint8; where the label is 0 the image shows.

    image, labels: (y, x).  alpha: share of colour.  outline: draw boundaries between ids in full
    colour.  colour_ids: (y, x) ids to take colours from instead of `labels`.
    """
    if image.shape != labels.shape or image.ndim != 2:
        raise BadInput(
            f"the image slice has shape {image.shape} and the labels {labels.shape}; "
            "give two slices (y, x) of one shape."
        )
    base = grey(image, bounds).astype(np.float32)
    paint = colours(labels if colour_ids is None else colour_ids).astype(np.float32)
    share = np.where(labels > 0, np.float32(alpha), np.float32(0))
    if outline:
        share = np.where(edges(labels) & (labels > 0), np.float32(0.9), share)
    mixed = base + (paint - base) * share[..., None]
    return np.rint(mixed).astype(np.uint8)


def matched(result: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Ids to colour a result with beside its truth, uint64 of the result's shape.

    Each body lends its id to the one object that shares most voxels with it; every other object
    keeps a name of its own. So what is right has the colour of the truth, and the further pieces
    of a split or the second body of a merger stand out.
    """
    from petavox.score.pairs import pair_table

    table = pair_table(result, truth).labelled()
    order = np.lexsort((table.result, table.truth, -table.voxels))
    lent: dict[int, int] = {}
    used: set[int] = set()
    for row in order.tolist():
        object_, body = int(table.result[row]), int(table.truth[row])
        if object_ not in lent and body not in used:
            lent[object_] = body
            used.add(body)
    ids, inverse = np.unique(np.asarray(result, np.uint64), return_inverse=True)
    # names from the top of the range do not meet those of bodies
    names = [lent.get(int(i), 2**64 - 1 - int(i)) if i else 0 for i in ids]
    return np.array(names, np.uint64)[inverse].reshape(result.shape)


def stretched(picture: np.ndarray, factors: tuple[int, int]) -> np.ndarray:
    """A picture with every pixel repeated (y, x) times; for anisotropic voxels, or to enlarge."""
    return picture.repeat(factors[0], axis=0).repeat(factors[1], axis=1)


def beside(
    pictures: Sequence[np.ndarray], titles: Sequence[str] | None = None, *, gap: int = 6
) -> np.ndarray:
    """Pictures of one height side by side on white, with a title above each if given."""
    height = pictures[0].shape[0]
    if any(p.shape[0] != height for p in pictures):
        raise BadInput("pictures side by side must have one height.")
    white = np.full((height, gap, 3), 255, np.uint8)
    row = [part for p in pictures for part in (p, white)][:-1]
    out = np.concatenate(row, axis=1)
    if titles is None:
        return out
    size = 16
    strip = Image.new("RGB", (out.shape[1], size + 10), "white")
    draw = ImageDraw.Draw(strip)
    left = 0
    for title, picture in zip(titles, pictures, strict=True):
        draw.text((left + 2, 4), title, fill="black", font=ImageFont.load_default(size))
        left += picture.shape[1] + gap
    return np.concatenate([np.asarray(strip), out], axis=0)


def figure(
    image: np.ndarray,
    truth: np.ndarray,
    result: np.ndarray,
    z: int,
    *,
    enlarge: int = 2,
    titles: Sequence[str] = ("image", "truth", "result"),
) -> np.ndarray:
    """Image, truth and result of one section side by side, (y, x, 3) uint8.

    image, truth, result: (z, y, x) of one shape.  z: index of the section.
    Colours of the result are matched to the truth over the whole volume (see `matched`).
    """
    if not image.shape == truth.shape == result.shape:
        raise BadInput(
            f"image {image.shape}, truth {truth.shape} and result {result.shape} differ in shape."
        )
    if not 0 <= z < image.shape[0]:
        raise BadInput(f"section {z} is outside of 0..{image.shape[0] - 1}.")
    bounds = None if image.dtype == np.uint8 else _percentiles(image)
    parts = [
        grey(image[z], bounds),
        overlay(image[z], truth[z], bounds=bounds),
        overlay(image[z], result[z], bounds=bounds, colour_ids=matched(result, truth)[z]),
    ]
    return beside([stretched(p, (enlarge, enlarge)) for p in parts], titles)


def _percentiles(image: np.ndarray) -> Bounds:
    low, high = np.percentile(image, (1, 99))
    return (float(low), float(high))


def png(picture: np.ndarray) -> bytes:
    """A (y, x, 3) uint8 picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
