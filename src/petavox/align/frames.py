"""Frames and the transforms between them: tile -> section -> volume.

What it is: one kind of transform, `Field`: an affine and a displacement on a control grid. A
translation and an affine are fields whose displacement is zero. Fields can be sampled, composed,
inverted and checked. What it is not: solving for them (petavox.align.solve), their files
(petavox.align.field_file), or resampling images with them (petavox.align.warp).

Between control points the displacement is cubic convolution (Keys 1981), so that it takes the
stored values at the control points and has no kinks; beyond the grid it stays constant.

      node (0,0) ●───────●───────●      node (i,j) lies at origin + spacing * (i, j)
                 │       │       │      displacement[i, j] = (dy, dx) there
                 ●───────●───────●

>>> f = Field.affine([[1.0, 0.0], [0.0, 1.0]], [3.0, -2.0])
>>> f(np.array([[10.0, 10.0]]))
array([[13.,  8.]])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from petavox.errors import BadInput

Vector = Sequence[float] | np.ndarray
"""Two numbers, y x."""

LEAST_JACOBIAN = 0.1
"""A field whose cells shrink below this share of their area is not believed."""


@dataclass(frozen=True)
class Lattice:
    """A regular grid of control points: origin (y, x), spacing, and points along y, x."""

    origin: tuple[float, float]
    spacing: float
    shape: tuple[int, int]

    @classmethod
    def covering(cls, low: Vector, high: Vector, spacing: float) -> Lattice:
        """The lattice of `spacing` that covers low..high with a cell to spare, centred on it."""
        size = np.maximum(np.asarray(high, float) - np.asarray(low, float), 0.0)
        cells = np.maximum(np.ceil(size / spacing - 1e-9), 1).astype(int) + 2
        start = np.asarray(low, float) - (cells * spacing - size) / 2
        return cls((float(start[0]), float(start[1])), float(spacing), (cells[0] + 1, cells[1] + 1))

    @property
    def points(self) -> np.ndarray:
        """All control points, (ny * nx, 2), in row-major order."""
        y = self.origin[0] + self.spacing * np.arange(self.shape[0])
        x = self.origin[1] + self.spacing * np.arange(self.shape[1])
        return np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)

    def weights(self, axis: int, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices (n, 4) and cubic weights (n, 4) of the control points around places `at`."""
        n = self.shape[axis]
        q = np.clip((np.asarray(at, float) - self.origin[axis]) / self.spacing, 0.0, n - 1.0)
        i = np.minimum(q.astype(int), max(n - 2, 0))
        t = (q - i)[:, None]
        w = np.concatenate(
            [
                ((-0.5 * t + 1.0) * t - 0.5) * t,
                (1.5 * t - 2.5) * t * t + 1.0,
                ((-1.5 * t + 2.0) * t + 0.5) * t,
                (0.5 * t - 0.5) * t * t,
            ],
            axis=1,
        )
        return np.clip(i[:, None] + np.arange(-1, 3), 0, n - 1), w

    def matrix(self, points: np.ndarray) -> sp.csr_matrix:
        """The sparse matrix (n, nodes) that turns values at control points into values at points.

        points: (n, 2), y x.
        """
        iy, wy = self.weights(0, points[:, 0])
        ix, wx = self.weights(1, points[:, 1])
        columns = (iy[:, :, None] * self.shape[1] + ix[:, None, :]).reshape(len(points), 16)
        values = (wy[:, :, None] * wx[:, None, :]).reshape(len(points), 16)
        rows = np.repeat(np.arange(len(points)), 16)
        size = (len(points), self.shape[0] * self.shape[1])
        return sp.csr_matrix((values.ravel(), (rows, columns.ravel())), shape=size)

    def rows(self, axis: int, at: np.ndarray) -> np.ndarray:
        """The dense matrix (n, points along `axis`) of the same interpolation along one axis."""
        index, weight = self.weights(axis, at)
        out = np.zeros((len(index), self.shape[axis]))
        np.add.at(out, (np.arange(len(index))[:, None], index), weight)
        return out


_IDENTITY = np.eye(2)


@dataclass(frozen=True)
class Field:
    """p -> matrix @ p + shift + displacement(p); points are (n, 2), y x.

    Lengths have one unit, that of the frame; files hold nm (`scaled` changes the unit).
    displacement: (ny, nx, 2) on `lattice`, or None for a pure affine.
    """

    matrix: np.ndarray = field(default_factory=lambda: _IDENTITY)
    shift: np.ndarray = field(default_factory=lambda: np.zeros(2))
    lattice: Lattice | None = None
    displacement: np.ndarray | None = None

    @classmethod
    def affine(cls, matrix: Sequence[Sequence[float]] | np.ndarray, shift: Vector) -> Field:
        """An affine without displacement."""
        return cls(np.asarray(matrix, float), np.asarray(shift, float))

    @classmethod
    def translation(cls, shift: Vector) -> Field:
        """A translation."""
        return cls(shift=np.asarray(shift, float))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Where points of the one frame lie in the other, (n, 2)."""
        points = np.asarray(points, float)
        out = points @ self.matrix.T + self.shift
        return out if self.lattice is None else out + self.displaced(points)

    def displaced(self, points: np.ndarray) -> np.ndarray:
        """The displacement alone at points, (n, 2)."""
        if self.lattice is None or self.displacement is None:
            return np.zeros(np.shape(points))
        iy, wy = self.lattice.weights(0, points[:, 0])
        ix, wx = self.lattice.weights(1, points[:, 1])
        corner = self.displacement[iy[:, :, None], ix[:, None, :]]
        return np.einsum("na,nb,nabc->nc", wy, wx, corner)

    def on_grid(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The transform of all points (y[i], x[j]), as (len(y), len(x), 2); separable, fast."""
        m = self.matrix
        out = np.stack(
            [m[i, 0] * y[:, None] + m[i, 1] * x[None, :] + self.shift[i] for i in (0, 1)], -1
        )
        if self.lattice is not None and self.displacement is not None:
            ry, rx = self.lattice.rows(0, y), self.lattice.rows(1, x)
            for i in (0, 1):
                out[..., i] += ry @ self.displacement[..., i] @ rx.T
        return out

    def scaled(self, factor: float) -> Field:
        """The same transform with all lengths multiplied by `factor` (a change of unit)."""
        if self.lattice is None or self.displacement is None:
            return Field(self.matrix, self.shift * factor)
        o = self.lattice.origin
        lattice = Lattice(
            (o[0] * factor, o[1] * factor), self.lattice.spacing * factor, self.lattice.shape
        )
        return Field(self.matrix, self.shift * factor, lattice, self.displacement * factor)

    def moved(self, by: Vector) -> Field:
        """Followed by a translation."""
        return Field(self.matrix, self.shift + np.asarray(by), self.lattice, self.displacement)

    def after(self, first: Field, lattice: Lattice) -> Field:
        """The composition p -> self(first(p)), its displacement sampled on `lattice`."""
        matrix = self.matrix @ first.matrix
        shift = self.matrix @ first.shift + self.shift
        p = lattice.points
        rest = self(first(p)) - (p @ matrix.T + shift)
        return Field(matrix, shift, lattice, rest.reshape(*lattice.shape, 2))

    def inverse(self, lattice: Lattice, *, rounds: int = 30, tolerance: float = 1e-4) -> Field:
        """The inverse, its displacement sampled on `lattice` (of the frame this one leads to).

        Fixed-point iteration; raises BadInput if it does not settle to `tolerance` (in the
        field's unit) at nearly all points, which means that the field folds over.
        """
        back = np.linalg.inv(self.matrix)
        shift = -back @ self.shift
        target = lattice.points
        p = target @ back.T + shift
        for _ in range(rounds):
            step = (target - self(p)) @ back.T
            p = p + step
            if np.abs(step).max() < tolerance:
                break
        missed = np.abs(self(p) - target).max(axis=1)
        if np.mean(missed > max(100 * tolerance, 1e-3 * lattice.spacing)) > 0.02:
            raise BadInput(
                f"a displacement field cannot be inverted (off by up to {missed.max():.3g}): it "
                "folds over; use a larger `smooth` or fewer false matches."
            )
        rest = p - (target @ back.T + shift)
        return Field(back, shift, lattice, rest.reshape(*lattice.shape, 2))

    def jacobian(self) -> np.ndarray:
        """Area of each cell of the control grid after the transform, over before, (ny-1, nx-1).

        Relative to the sign of the affine: a flip is not a fold.
        """
        area = np.linalg.det(self.matrix)
        if self.lattice is None:
            return np.ones((1, 1))
        p = self(self.lattice.points).reshape(*self.lattice.shape, 2)
        a, b = p[1:, 1:] - p[:-1, :-1], p[1:, :-1] - p[:-1, 1:]
        cross = (a[..., 1] * b[..., 0] - a[..., 0] * b[..., 1]) / 2
        return cross / (self.lattice.spacing**2 * np.sign(area))

    @property
    def is_sound(self) -> bool:
        """True if finite, and no cell shrinks below LEAST_JACOBIAN of its area or folds over."""
        jacobian = self.jacobian()
        return bool(np.isfinite(jacobian).all() and jacobian.min() > LEAST_JACOBIAN)


def extent(f: Field, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the box in the common frame that holds a section of `shape`."""
    y = np.linspace(0, shape[0] - 1, 17)
    x = np.linspace(0, shape[1] - 1, 17)
    p = f.on_grid(y, x).reshape(-1, 2)
    if not np.isfinite(p).all():
        raise BadInput("a section's field is not finite: its matches cannot be used.")
    return p.min(0), p.max(0)
