"""Random numbers that are a function of place: counter-based hashes and smooth noise.

What it is: uniform numbers addressed by (seed, integers), the same whoever asks and in whichever
order; white noise and smooth B-spline noise over the whole of space built on them. All of it is
elementwise arithmetic, so a block computed alone agrees bit for bit with the whole.
What it is not: a sequential generator; there is no state.

The hash is the finaliser of SplitMix64 (Steele, Lea, Flood 2014), applied once per integer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = (np.uint64(n) for n in (30, 27, 31, 11))


def _finish(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> _S30)) * _A
    z = (z ^ (z >> _S27)) * _B
    return z ^ (z >> _S31)


def hashed(seed: int, *values: np.ndarray | np.integer | int) -> np.ndarray:
    """64 random bits for each place: uint64, of the broadcast shape of `values` (integers)."""
    h = np.atleast_1d(np.uint64(seed % 2**64))
    with np.errstate(over="ignore"):
        h = _finish(h + _GOLDEN)
        for v in values:
            h = _finish((h ^ np.asarray(v).astype(np.int64).astype(np.uint64)) + _GOLDEN)
    return h


def uniform(seed: int, *values: np.ndarray | np.integer | int) -> np.ndarray:
    """Uniform numbers in [0, 1), float64, for each place."""
    return (hashed(seed, *values) >> _S11).astype(np.float64) * 2.0**-53


def white(seed: int, start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """White noise, nearly normal, unit variance: float32 of `shape`, zyx, for voxels from `start`.

    The sum of the four 16-bit parts of one hash (Irwin-Hall), cut at +-3.5 sigma by nature.
    """
    z, y, x = (np.arange(s, s + n) for s, n in zip(start, shape, strict=True))
    h = hashed(seed, z[:, None, None], y[None, :, None], x[None, None, :])
    parts = h.view(np.uint16).reshape(*h.shape, 4)
    out = parts.sum(axis=-1, dtype=np.uint32).astype(np.float32)
    out -= np.float32(2 * 65535)
    out *= np.float32(np.sqrt(3.0) / 65536)
    return out


def _taps(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First coefficient and the four weights of a cubic B-spline at positions `u` (knots)."""
    i = np.floor(u).astype(np.int64)
    t = u - i
    w = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3])
    return i - 1, w / 6


def smooth_on_grid(
    seed: int, axes: Sequence[np.ndarray], spacing: float | Sequence[float]
) -> np.ndarray:
    """Smooth noise in [-1, 1] on the grid spanned by three axes of positions: float32, zyx.

    axes: positions along z, y, x in any unit.  spacing: distance of the knots in that unit.
    A cubic B-spline with uniform random coefficients in [-1, 1]; its standard deviation is about
    0.2, its range never beyond 1.
    """
    s = [float(spacing)] * 3 if np.isscalar(spacing) else [float(v) for v in spacing]  # type: ignore[arg-type,union-attr]
    first, weights = zip(
        *(_taps(np.asarray(a, float) / n) for a, n in zip(axes, s, strict=True)), strict=True
    )
    knots = [np.arange(f.min(), f.max() + 4) for f in first]
    values = uniform(
        seed, knots[0][:, None, None], knots[1][None, :, None], knots[2][None, None, :]
    )
    out = (2 * values - 1).astype(np.float32)
    for axis in (2, 1, 0):  # z last: there the taps are whole planes
        at = first[axis] - knots[axis][0]
        shape = [1, 1, 1]
        shape[axis] = -1
        w = weights[axis].astype(np.float32)
        total = np.take(out, at, axis=axis) * w[0].reshape(shape)
        for k in (1, 2, 3):
            total += np.take(out, at + k, axis=axis) * w[k].reshape(shape)
        out = total
    return out


def smooth_at(seed: int, points: np.ndarray, spacing: float) -> np.ndarray:
    """The same noise at scattered points: (n, 3) positions, zyx -> (n,) float64."""
    first, weights = _taps(np.asarray(points, float) / spacing)
    out = np.zeros(len(points))
    for i in range(4):
        for j in range(4):
            for k in range(4):
                c = uniform(seed, first[:, 0] + i, first[:, 1] + j, first[:, 2] + k)
                w = weights[i, :, 0] * weights[j, :, 1] * weights[k, :, 2]
                out += w * (2 * c - 1)
    return out


def rotation(seed: int) -> np.ndarray:
    """A random rotation, 3 x 3, from a random unit quaternion (Shoemake 1992)."""
    u, a, b = uniform(seed, 5, np.arange(3))
    a, b = 2 * np.pi * a, 2 * np.pi * b
    p, q = np.sqrt(1 - u), np.sqrt(u)
    w, x, y, z = p * np.sin(a), p * np.cos(a), q * np.sin(b), q * np.cos(b)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
