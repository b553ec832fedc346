"""The damage of serial sections: out of place, out of shape, or of another look.

What it is: pure functions on samples and images (float32, grey values between 0 and 1), (z, y, x);
sections are planes of constant z. Functions that move voxels move image, labels and what is known
alike, with one exception: a section that slipped alone is moved in the image only, because the
object is where its neighbours say.
What it is not: how often it happens (petavox.learn.augment).

Source: slipped, missing and blurred sections, Lee et al. 2017 (arXiv:1706.00120).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from petavox.learn.sample import Sample

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
