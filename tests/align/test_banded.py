"""Band Cholesky factors against dense solves, and the memory of repeated solves in a pool."""

from __future__ import annotations

import gc
import mmap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from petavox.align import normal
from petavox.align.banded import Banded, factor_bytes
from petavox.align.frames import Field, Lattice
from petavox.align.solve import Matches, Stiffness, relax


def springs(ny: int, nx: int) -> sp.csr_array:
    """A grid of springs, every node held a little."""
    line = {n: sp.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(n - 1, n)) for n in {ny, nx}}
    a = sp.kron(line[ny].T @ line[ny], sp.eye_array(nx))
    b = sp.kron(sp.eye_array(ny), line[nx].T @ line[nx])
    return sp.csr_array(a + b + 0.01 * sp.eye_array(ny * nx))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 4), (4, 30), (12, 12)])
def test_solves_as_a_dense_solver_does(shape, rng):
    a = springs(*shape)
    right = rng.standard_normal((a.shape[0], 2))
    np.testing.assert_allclose(
        Banded(a).solve(right), np.linalg.solve(a.toarray(), right), rtol=1e-7, atol=1e-7
    )


def test_a_long_grid_is_ordered_along_its_length():
    """Row by row the band of 3 x 200 nodes would be 200 wide."""
    assert Banded(springs(3, 200)).factor.shape[0] < 10


@pytest.mark.parametrize("shape", [(14, 14), (9, 30), (40, 12)])
def test_the_memory_that_is_reckoned_with_holds_the_factor_of_a_real_energy(shape, monkeypatch):
    made = []
    plain = Banded.__init__

    def counted(self, matrix):
        plain(self, matrix)
        made.append(self.factor.nbytes)

    monkeypatch.setattr(Banded, "__init__", counted)
    lattice = Lattice((0.0, 0.0), 10.0, shape)
    p = lattice.points.reshape(-1, 2)
    matches = [Matches(0, 1, p, p + 0.5, np.ones(len(p)), 10.0)]
    stiff = Stiffness(smooth=10.0, jerk=10.0, slope=5.0)
    # a direct solve is taken for few unknowns
    monkeypatch.setattr(normal, "DIRECT_UP_TO", 0)
    relax({0: Field(), 1: Field()}, {0: lattice, 1: lattice}, matches, stiff)
    assert made
    assert max(made) <= factor_bytes(shape)
    assert max(made) > factor_bytes(shape) / 4


def test_a_mode_that_nothing_holds_does_not_stop_it():
    loose = springs(5, 5) - 0.01 * sp.eye_array(25)
    right = np.zeros((25, 1))
    right[3], right[20] = 1.0, -1.0
    x = Banded(sp.csr_array(loose)).solve(right)
    np.testing.assert_allclose(loose @ x, right, atol=1e-4)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_solves_in_a_pool_of_threads_give_their_memory_back(monkeypatch):
    """Factors made in a pool and dropped outside of it once leaked: 116 MB here."""
    lattice = Lattice((-30.0, -30.0), 10.0, (24, 24))
    axis = np.arange(0.0, 170.0, 10.0)
    p = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    matches = [
        Matches(k, k + 1, p, p + np.array([1.0 + k, 0.5]), np.ones(len(p)), 10.0) for k in range(3)
    ]
    monkeypatch.setattr(normal, "MOST_STEPS", 2)
    images = {k: Field() for k in range(4)}

    def once(pool: ThreadPoolExecutor) -> None:
        relax(images, dict.fromkeys(images, lattice), matches, Stiffness(smooth=10.0), run=pool.map)
        gc.collect()

    with ThreadPoolExecutor(2) as pool:
        for _ in range(3):
            once(pool)
        before = resident()
        for _ in range(12):
            once(pool)
        assert resident() - before < 40 << 20
