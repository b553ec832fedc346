"""Augmentation: an example as it might have looked on another day in another microscope.

What it is: the chances of the symmetries of tissue (petavox.learn.sample) and of the damage of
serial sections (petavox.learn.damage), and their order: a pure function of a sample and a random
generator. What it is not: the order of training, or files.

Source of the symmetries: Januszewski et al. 2018.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from petavox.errors import BadInput
from petavox.learn import damage
from petavox.learn.sample import Sample, cut, flipped, permuted
from petavox.settings import Settings
from petavox.space import Zyx


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
        sample = damage.rotated(sample, angle)
    if happens(settings.elastic_chance):
        sample = damage.warped(
            sample,
            damage.elastic_field(sample.image.shape, settings.elastic, settings.elastic_sigma, rng),
        )
    if happens(settings.shift_chance):
        sample = damage.shifted(sample, *_place(sample, settings.displacement, rng))
    if happens(settings.slip_chance):
        sample = damage.slipped(sample, *_place(sample, settings.displacement, rng))
    sample = cut(sample, core)
    depth = sample.image.shape[0]
    image = sample.image
    if happens(settings.blur_chance):
        image = damage.blurred(
            image, int(rng.integers(depth)), rng.uniform(0.5, settings.blur_sigma)
        )
    if happens(settings.contrast_chance):
        image = damage.regraded(image, *_grades(settings, 1, 1.0, rng))
    if happens(settings.section_contrast_chance):
        image = damage.regraded(image, *_grades(settings, depth, 0.5, rng))
    if happens(settings.noise_chance):
        image = damage.noisy(image, rng.uniform(0, settings.noise), rng)
    if happens(settings.blank_chance):
        image = damage.blanked(image, int(rng.integers(depth)), rng)
    if happens(settings.missing_chance):
        count = int(rng.integers(1, settings.missing_most + 1))
        image = damage.missing(image, int(rng.integers(depth)), count)
    sample = Sample(image, sample.labels, sample.known)
    if settings.isotropic:
        sample = permuted(sample, rng.permutation(3).tolist())
    elif settings.transpose and rng.random() < 0.5:
        sample = permuted(sample, [0, 2, 1])
    if settings.flip:
        sample = flipped(sample, [bool(b) for b in rng.integers(0, 2, 3)])
    return Sample(*(np.ascontiguousarray(a) for a in sample))


def _place(sample: Sample, most: int, rng: np.random.Generator) -> tuple[int, int, int]:
    depth = sample.image.shape[0]
    z = int(rng.integers(1, max(depth, 2)))
    dy, dx = (int(n) for n in rng.integers(-most, most + 1, 2))
    return min(z, depth - 1), dy, dx


def _grades(
    settings: AugmentSettings, count: int, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = rng.uniform(-strength, strength, (3, count))
    return (
        1 + settings.contrast * draw[0],
        settings.brightness * draw[1],
        2.0 ** (settings.gamma * draw[2]),
    )
