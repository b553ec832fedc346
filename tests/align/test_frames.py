"""Fields: sampling, composition, inversion, soundness, files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from petavox.align.field_file import load, save
from petavox.align.frames import Field, Lattice
from petavox.errors import BadInput


def bumpy(rng: np.random.Generator, lattice: Lattice, size: float) -> Field:
    turn = np.deg2rad(7)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return Field(
        matrix, np.array([5.0, -9.0]), lattice, size * rng.standard_normal((*lattice.shape, 2))
    )


def test_a_field_takes_its_values_at_the_control_points(rng):
    f = bumpy(rng, Lattice((-3.0, 4.0), 10.0, (5, 7)), 1.0)
    p = f.lattice.points
    expected = p @ f.matrix.T + f.shift + f.displacement.reshape(-1, 2)
    np.testing.assert_allclose(f(p), expected, atol=1e-12)


def test_a_quadratic_displacement_is_reproduced_between_control_points():
    lattice = Lattice((0.0, 0.0), 8.0, (9, 9))
    p = lattice.points
    d = np.stack([0.01 * p[:, 0] ** 2, 0.02 * p[:, 0] * p[:, 1]], 1)
    f = Field(lattice=lattice, displacement=d.reshape(9, 9, 2))
    q = np.array([[20.0, 31.0], [33.3, 17.7], [40.0, 40.0]])
    expected = np.stack([0.01 * q[:, 0] ** 2, 0.02 * q[:, 0] * q[:, 1]], 1)
    np.testing.assert_allclose(f.displaced(q), expected, atol=1e-9)


def test_the_separable_grid_equals_point_by_point_and_the_sparse_matrix(rng):
    f = bumpy(rng, Lattice((0.0, 0.0), 10.0, (5, 6)), 1.0)
    y, x = np.array([-5.0, 0.3, 17.2, 80.0]), np.array([2.5, 44.0])
    points = np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)
    np.testing.assert_allclose(f.on_grid(y, x).reshape(-1, 2), f(points), atol=1e-9)
    by_matrix = f.lattice.matrix(points) @ f.displacement.reshape(-1, 2)
    np.testing.assert_allclose(by_matrix, f.displaced(points), atol=1e-9)


def test_beyond_the_grid_the_displacement_stays_that_of_the_rim(rng):
    f = bumpy(rng, Lattice((0.0, 0.0), 10.0, (4, 4)), 1.0)
    np.testing.assert_allclose(
        f.displaced(np.array([[-50.0, 10.0]])), f.displaced(np.array([[0.0, 10.0]]))
    )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 1.0))
def test_inverse_undoes_a_smooth_field(seed, size):
    rng = np.random.default_rng(seed)
    f = bumpy(rng, Lattice((-40.0, -40.0), 40.0, (9, 11)), size)
    p = rng.uniform((0, 0), (240, 320), (200, 2))
    q = f(p)
    back = f.inverse(Lattice.covering(q.min(0), q.max(0), 10.0))
    assert np.abs(back(q) - p).max() < 0.1


def test_a_field_that_folds_over_is_not_sound_and_a_flip_is():
    lattice = Lattice((0.0, 0.0), 10.0, (4, 4))
    d = np.zeros((4, 4, 2))
    d[2, :, 0] = -15.0
    assert not Field(lattice=lattice, displacement=d).is_sound
    assert Field(np.diag([1.0, -1.0]), np.zeros(2), lattice, np.zeros((4, 4, 2))).is_sound


def test_composition_applies_the_first_field_first(rng):
    a = Field.affine([[0.0, -1.0], [1.0, 0.0]], [1.0, 2.0])
    b = bumpy(rng, Lattice((-60.0, -60.0), 20.0, (8, 8)), 0.5)
    p = rng.uniform(-20, 20, (50, 2))
    lattice = Lattice.covering(p.min(0), p.max(0), 2.0)
    assert np.abs(b.after(a, lattice)(p) - b(a(p))).max() < 0.02


def test_interpolation_between_points_agrees_with_scipy_on_a_plane():
    lattice = Lattice((0.0, 0.0), 5.0, (6, 6))
    plane = lattice.points @ np.array([[0.1, 0.0], [0.0, -0.3]])
    f = Field(lattice=lattice, displacement=plane.reshape(6, 6, 2))
    axis = 5.0 * np.arange(6)
    oracle = RegularGridInterpolator((axis, axis), plane.reshape(6, 6, 2))
    p = np.array([[7.7, 12.1], [12.0, 9.9]])
    np.testing.assert_allclose(f.displaced(p), oracle(p), atol=1e-9)


def test_a_change_of_unit_keeps_the_transform(rng):
    f = bumpy(rng, Lattice((0.0, 0.0), 10.0, (5, 5)), 1.0)
    p = rng.uniform(0, 40, (20, 2))
    np.testing.assert_allclose(f.scaled(4.0)(4.0 * p), 4.0 * f(p), atol=1e-9)


def test_fields_survive_a_file(tmp_path, rng):
    fields = {
        "section_00001": bumpy(rng, Lattice((0.0, 2.0), 10.0, (5, 5)), 1.0),
        "section_00007": Field.translation([4.0, 5.0]),
    }
    save(tmp_path / "f.npz", fields)
    back = load(tmp_path / "f.npz")
    p = rng.uniform(0, 40, (20, 2))
    for name, f in fields.items():
        np.testing.assert_allclose(back[name](p), f(p), atol=1e-5)


def test_a_file_that_is_no_field_is_told(tmp_path):
    np.savez(tmp_path / "f.npz", **{"a.matrix": np.eye(2)})
    with pytest.raises(BadInput, match="has no 2x2 `matrix` and `shift`"):
        load(tmp_path / "f.npz")
