"""Augmentation: an example as it might have looked on another day in another microscope.

What it is: pure functions on arrays, each with an explicit random generator: the symmetries of
tissue, and the damage of serial sections. What it is not: the order of training, or files.

A Sample is image (float32, grey values between 0 and 1), labels (integers) and known (bool), all
(z, y, x) of one shape. Functions that move voxels move all three alike, with one exception: a
section that slipped alone is moved in the image only, because the object is where its neighbours
say. Sections are planes of constant z.

Sources: symmetries, Januszewski et al. 2018; slipped, missing and blurred sections, Lee et al.
2017 (arXiv:1706.00120).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pydantic import Field
from scipy import ndimage

from petavox.errors import BadInput
from petavox.settings import Settings
from petavox.space import Zyx


class Sample(NamedTuple):
    """image: float32 in 0..1.  labels: integers.  known: bool.  All (z, y, x)."""

    image: np.ndarray
    labels: np.ndarray
    known: np.ndarray


class AugmentSettings(Settings):
    """What is done to examples. A chance of 0 leaves a kind out; lengths are in voxels."""

    transpose: bool = True
    """Exchange y and x in half of the examples (not where fov or deltas differ in y and x)."""
    flip: bool = True
    """Mirror each axis in half of the examples."""
    isotropic: bool = False
    """Exchange any axes, not only y and x (needs equal fov and deltas on all axes)."""
    slip_chance: float = Field(0.0, ge=0, le=1)
    """One section is displaced in plane; the objects stay."""
    shift_chance: float = Field(0.0, ge=0, le=1)
    """All sections from one on are displaced in plane, with their objects."""
    displacement: int = Field(6, ge=1)
    """Largest displacement of a slip or shift."""
    missing_chance: float = Field(0.0, ge=0, le=1)
    """Up to `missing_most` sections in sequence are black."""
    missing_most: int = Field(2, ge=1)
    blank_chance: float = Field(0.0, ge=0, le=1)
    """One section, or part of it, has a single grey value."""
    blur_chance: float = Field(0.0, ge=0, le=1)
    """One section is out of focus."""
    blur_sigma: float = Field(2.5, gt=0)
    contrast_chance: float = Field(0.0, ge=0, le=1)
    """The whole example changes contrast, brightness and gamma."""
    section_contrast_chance: float = Field(0.0, ge=0, le=1)
    """Every section changes contrast, brightness and gamma by itself, a little."""
    contrast: float = Field(0.25, ge=0, lt=1)
    """Contrast is multiplied by 1 +- this."""
    brightness: float = Field(0.1, ge=0, lt=1)
    """Added to grey values between 0 and 1, +- this."""
    gamma: float = Field(0.25, ge=0, lt=2)
    """Exponent between 2^-this and 2^this."""
    noise_chance: float = Field(0.0, ge=0, le=1)
    noise: float = Field(0.05, ge=0, lt=1)
    """Largest standard deviation of added noise, grey values between 0 and 1."""
    elastic_chance: float = Field(0.0, ge=0, le=1)
    """Sections are warped smoothly in plane, each a little differently."""
    elastic: float = Field(3.0, gt=0)
    """Root mean square of the displacement."""
    elastic_sigma: float = Field(12.0, gt=0)
    """Smoothness of the displacement in plane."""
    rotate_chance: float = Field(0.0, ge=0, le=1)
    """Rotation about the z axis."""
    rotate_degrees: float = Field(10.0, gt=0, le=45)

    def context(self) -> Zyx:
        """Voxels around a patch that are wanted, so that what moves in is real tissue."""
        n = 0
        if self.slip_chance or self.shift_chance:
            n = max(n, self.displacement)
        if self.elastic_chance:
            n = max(n, round(2 * self.elastic))
        if self.rotate_chance:
            n = max(n, 4)
        return (0, n, n)


def check_symmetry(settings: AugmentSettings, fov: Zyx, deltas: Zyx) -> None:
    """Raise BadInput if axes are exchanged that the network sees differently."""
    if settings.isotropic and (len(set(fov)) > 1 or len(set(deltas)) > 1):
        raise BadInput(
            f"augment.isotropic is set, but fov {fov} or deltas {deltas} differ between axes: "
            "set augment.isotropic: false."
        )
    if settings.transpose and (fov[1] != fov[2] or deltas[1] != deltas[2]):
        raise BadInput(
            f"augment.transpose is set, but fov {fov} or deltas {deltas} differ between y and x: "
            "set augment.transpose: false."
        )


def augmented(
    sample: Sample, settings: AugmentSettings, core: Zyx, rng: np.random.Generator
) -> Sample:
    """All kinds that the settings ask for, then cut to the middle `core` voxels."""

    def happens(chance: float) -> bool:
        # drawn even if impossible, so that one chance does not change the fate of the others
        return bool(rng.random() < chance)

    if happens(settings.rotate_chance):
        angle = rng.uniform(-settings.rotate_degrees, settings.rotate_degrees)
        sample = rotated(sample, angle)
    if happens(settings.elastic_chance):
        sample = warped(
            sample, elastic_field(sample.image.shape, settings.elastic, settings.elastic_sigma, rng)
        )
    if happens(settings.shift_chance):
        sample = shifted(sample, *_place(sample, settings.displacement, rng))
    if happens(settings.slip_chance):
        sample = slipped(sample, *_place(sample, settings.displacement, rng))
    sample = cut(sample, core)
    depth = sample.image.shape[0]
    image = sample.image
    if happens(settings.blur_chance):
        image = blurred(image, int(rng.integers(depth)), rng.uniform(0.5, settings.blur_sigma))
    if happens(settings.contrast_chance):
        image = regraded(image, *_grades(settings, 1, 1.0, rng))
    if happens(settings.section_contrast_chance):
        image = regraded(image, *_grades(settings, depth, 0.5, rng))
    if happens(settings.noise_chance):
        image = noisy(image, rng.uniform(0, settings.noise), rng)
    if happens(settings.blank_chance):
        image = blanked(image, int(rng.integers(depth)), rng)
    if happens(settings.missing_chance):
        count = int(rng.integers(1, settings.missing_most + 1))
        image = missing(image, int(rng.integers(depth)), count)
    sample = Sample(image, sample.labels, sample.known)
    if settings.isotropic:
        sample = permuted(sample, rng.permutation(3).tolist())
    elif settings.transpose and rng.random() < 0.5:
        sample = permuted(sample, [0, 2, 1])
    if settings.flip:
        sample = flipped(sample, [bool(b) for b in rng.integers(0, 2, 3)])
    return Sample(*(np.ascontiguousarray(a) for a in sample))


# -- symmetries ------------------------------------------------------------------------------


def permuted(sample: Sample, axes: list[int]) -> Sample:
    """Axes in another order; [0, 2, 1] transposes in plane."""
    return Sample(*(a.transpose(axes) for a in sample))


def flipped(sample: Sample, axes: list[bool]) -> Sample:
    """Mirrored along the axes (zyx) that are True."""
    which = tuple(i for i, wanted in enumerate(axes) if wanted)
    return Sample(*(np.flip(a, which) for a in sample))


def cut(sample: Sample, core: Zyx) -> Sample:
    """The middle `core` voxels."""
    z, y, x = (
        slice((n - c) // 2, (n - c) // 2 + c) for n, c in zip(sample.image.shape, core, strict=True)
    )
    return Sample(*(a[z, y, x] for a in sample))


# -- sections out of place -------------------------------------------------------------------


def slipped(sample: Sample, z: int, dy: int, dx: int) -> Sample:
    """The image of section z displaced by (dy, dx) voxels; the labels stay."""
    image = sample.image.copy()
    image[z] = _moved(image[z], dy, dx, "mirror")
    return Sample(image, sample.labels, sample.known)


def shifted(sample: Sample, z: int, dy: int, dx: int) -> Sample:
    """All sections displaced against each other between z - 1 and z, labels as well.

    The half that does not hold the middle section moves, so the centre keeps its object. What
    moves in from beyond the rim is unknown.
    """
    away = slice(z, None) if z > sample.image.shape[0] // 2 else slice(0, z)
    image, labels, known = (a.copy() for a in sample)
    image[away] = _moved(image[away], dy, dx, "mirror")
    labels[away] = _moved(labels[away], dy, dx, "constant")
    known[away] = _moved(known[away], dy, dx, "constant")
    return Sample(image, labels, known)


def _moved(planes: np.ndarray, dy: int, dx: int, rim: str) -> np.ndarray:
    """out[y, x] = planes[y - dy, x - dx], the rim mirrored or 0."""
    pads = [(0, 0)] * (planes.ndim - 2) + [(abs(dy), abs(dy)), (abs(dx), abs(dx))]
    wide = np.pad(planes, pads, mode="symmetric" if rim == "mirror" else "constant")
    height, width = planes.shape[-2:]
    y, x = abs(dy) - dy, abs(dx) - dx
    return wide[..., y : y + height, x : x + width]


def _place(sample: Sample, most: int, rng: np.random.Generator) -> tuple[int, int, int]:
    depth = sample.image.shape[0]
    z = int(rng.integers(1, max(depth, 2)))
    dy, dx = (int(n) for n in rng.integers(-most, most + 1, 2))
    return min(z, depth - 1), dy, dx


# -- sections that look different --------------------------------------------------------------


def missing(image: np.ndarray, z: int, count: int = 1) -> np.ndarray:
    """Sections z to z + count - 1 black, as where a section was lost."""
    out = image.copy()
    out[z : z + count] = 0
    return out


def blanked(image: np.ndarray, z: int, rng: np.random.Generator) -> np.ndarray:
    """Section z, or one of its four quarters, at one random grey value."""
    out = image.copy()
    grey = np.float32(rng.random())
    quarter = int(rng.integers(8))
    if quarter >= 4:  # half of the times the whole section
        out[z] = grey
        return out
    y, x = image.shape[1] // 2, image.shape[2] // 2
    rows = slice(0, y) if quarter < 2 else slice(y, None)
    columns = slice(0, x) if quarter % 2 == 0 else slice(x, None)
    out[z, rows, columns] = grey
    return out


def blurred(image: np.ndarray, z: int, sigma: float) -> np.ndarray:
    """Section z out of focus: Gaussian of `sigma` voxels in plane."""
    out = image.copy()
    out[z] = ndimage.gaussian_filter(image[z], sigma)
    return out


def regraded(
    image: np.ndarray, contrast: np.ndarray, brightness: np.ndarray, gamma: np.ndarray
) -> np.ndarray:
    """clip((image - 1/2) contrast + 1/2 + brightness)^gamma; values by section, or one for all.

    contrast, brightness, gamma: (n,) with n = 1 or the number of sections.
    """
    c, b, g = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (contrast, brightness, gamma))
    out = np.clip((image - np.float32(0.5)) * c + np.float32(0.5) + b, 0, 1) ** g
    return out.astype(np.float32)


def noisy(image: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Independent normal noise added, clipped to 0..1."""
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(deviation)
    return np.clip(image + noise, 0, 1)


def _grades(
    settings: AugmentSettings, count: int, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = rng.uniform(-strength, strength, (3, count))
    return (
        1 + settings.contrast * draw[0],
        settings.brightness * draw[1],
        2.0 ** (settings.gamma * draw[2]),
    )


# -- sections out of shape ---------------------------------------------------------------------


def elastic_field(
    shape: tuple[int, ...], size: float, sigma: float, rng: np.random.Generator
) -> np.ndarray:
    """(2, z, y, x) float32: smooth random displacement (y, x) with root mean square `size`.

    A field for the whole example, plus half as much that differs from section to section. The
    middle section stays at its place in the middle, so that the centre keeps its object.
    """
    depth, *plane = shape
    pads = [int(3 * sigma)] * 2

    def smooth(count: int) -> np.ndarray:
        raw = rng.standard_normal((count, *(n + 2 * p for n, p in zip(plane, pads, strict=True))))
        field = ndimage.gaussian_filter(raw, (0, sigma, sigma))[
            :, pads[0] : pads[0] + plane[0], pads[1] : pads[1] + plane[1]
        ]
        # the deviation of smoothed white noise is known; a sample's own would hide small fields
        return np.asarray(field * (2 * np.sqrt(np.pi) * sigma), np.float32)

    whole = smooth(2)[:, None]
    own = smooth(2 * depth).reshape(2, depth, *plane)
    field = np.float32(size / np.sqrt(2 * 1.25)) * (whole + np.float32(0.5) * own)
    middle = field[:, depth // 2, plane[0] // 2, plane[1] // 2].reshape(2, 1, 1, 1)
    return np.asarray(field - middle, np.float32)


def warped(sample: Sample, field: np.ndarray) -> Sample:
    """Voxel (z, y, x) taken from (z, y + field[0], x + field[1]); beyond the rim is unknown.

    The image is interpolated linearly; labels are taken from the nearest voxel.
    """
    image, labels, known = (np.empty_like(a) for a in sample)
    height, width = sample.image.shape[1:]
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    for z in range(sample.image.shape[0]):
        y, x = rows + field[0, z], columns + field[1, z]
        image[z] = ndimage.map_coordinates(sample.image[z], [y, x], order=1, mode="reflect")
        near_y, near_x = np.rint(y).astype(int), np.rint(x).astype(int)
        inside = (near_y >= 0) & (near_y < height) & (near_x >= 0) & (near_x < width)
        near = np.clip(near_y, 0, height - 1), np.clip(near_x, 0, width - 1)
        labels[z] = np.where(inside, sample.labels[z][near], 0)
        known[z] = inside & sample.known[z][near]
    return Sample(image, labels, known)


def rotated(sample: Sample, degrees: float) -> Sample:
    """Turned about the z axis through the middle voxel; what turns in is unknown."""
    angle = np.deg2rad(degrees)
    height, width = sample.image.shape[1:]
    y = np.arange(height)[:, None] - height // 2
    x = np.arange(width)[None, :] - width // 2
    from_y = np.cos(angle) * y - np.sin(angle) * x
    from_x = np.sin(angle) * y + np.cos(angle) * x
    field = np.stack([from_y - y, from_x - x]).astype(np.float32)
    shape = (2, sample.image.shape[0], height, width)
    return warped(sample, np.broadcast_to(field[:, None], shape))
