"""The linear part of the joint solve: weighted least squares with one block per image.

What it is: (D^T W D + R) u = D^T W t for y and x together, D sparse, R one block per image. Small
problems are factorised. Larger ones: conjugate gradients that never form D^T W D, with a
two-level preconditioner: each image's own block is factorised (block Jacobi), and a few
unknowns per image, which carry its motion as a whole, are solved for jointly, so that the steps
needed do not grow with the length of the stack (Nicolaides 1987, deflation; Smith, Bjorstad and
Gropp 1996, additive Schwarz). What it is not: the energy (petavox.align.solve).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from petavox.align.banded import Banded

DIRECT_UP_TO = 1_500
"""Unknowns up to which the whole problem is factorised."""
CLOSE_ENOUGH = 1e-4
"""Relative residual at which conjugate gradients stop."""
MOST_STEPS = 500
"""Steps of conjugate gradients after which they stop in any case."""


class Problem:
    """What stays the same while the weights change.

    data: D, (matches, unknowns).  regular: R, one block per image.  sparser: per image a matrix
    (its unknowns, few) that interpolates from few.  cuts: first unknown of each image, and the
    number of all.  run: like `map`.
    """

    def __init__(
        self,
        data: sp.csr_array,
        regular: Sequence[sp.csr_array],
        sparser: Sequence[Any],
        cuts: Sequence[int],
        run: Callable[..., Iterable[Any]] = map,
    ) -> None:
        self.data, self.data_t, self.run = data, data.T.tocsr(), run
        self.parts = list(itertools.pairwise(cuts))
        self.regular, self.blocks = sp.block_diag(regular, format="csr"), list(regular)
        self.direct = data.shape[1] <= DIRECT_UP_TO
        if not self.direct:
            columns = data.tocsc()
            # rows that touch an image, and only them
            self.own = [_rows_used(columns[:, a:b].tocsr()) for a, b in self.parts]
            self.few = sp.block_diag(sparser, format="csr")
            self.few_t = self.few.T.tocsr()
            self.data_few = data @ self.few
            self.regular_few = self.few_t @ self.regular @ self.few

    def solve(self, weight: np.ndarray, target: np.ndarray, start: np.ndarray) -> np.ndarray:
        """u (unknowns, 2) for weights (matches,) and targets (matches, 2), from a first guess."""
        right = self.data_t @ (weight[:, None] * target)
        if self.direct:
            whole = self.data_t @ sp.diags_array(weight) @ self.data + self.regular
            return np.asarray(sla.splu(sp.csc_matrix(whole)).solve(right))

        def times(x: np.ndarray) -> np.ndarray:
            return np.asarray(self.data_t @ (weight[:, None] * (self.data @ x)) + self.regular @ x)

        precondition = self._preconditioner(weight)
        x = start.copy()
        r = right - times(x)
        z = precondition(r)
        p, rz = z.copy(), np.einsum("ij,ij->j", r, z)
        enough = CLOSE_ENOUGH**2 * np.einsum("ij,ij->j", right, right)
        for _ in range(MOST_STEPS):
            if (np.einsum("ij,ij->j", r, r) <= enough).all():
                break
            hp = times(p)
            step = rz / np.maximum(np.einsum("ij,ij->j", p, hp), 1e-300)
            x += step * p
            r -= step * hp
            z = precondition(r)
            rz, before = np.einsum("ij,ij->j", r, z), rz
            p = z + rz / np.maximum(before, 1e-300) * p
        return x

    def _preconditioner(self, weight: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        def factorised(n: int) -> Banded:
            rows, part = self.own[n]
            return Banded(part.T @ sp.diags_array(weight[rows]) @ part + self.blocks[n])

        factors = list(self.run(factorised, range(len(self.parts))))
        few = self.data_few.T @ sp.diags_array(weight) @ self.data_few + self.regular_few
        # few points that no unknown hangs on must not make it singular
        few = few + 1e-8 * few.diagonal().mean() * sp.eye_array(few.shape[0])
        # made, used and dropped in one thread: SuperLU's memory is not given back otherwise
        whole = sla.splu(sp.csc_matrix(few), permc_spec="MMD_AT_PLUS_A")

        def precondition(x: np.ndarray) -> np.ndarray:
            def one(n: int) -> np.ndarray:
                a, b = self.parts[n]
                return np.asarray(factors[n].solve(x[a:b]))

            out = np.concatenate(list(self.run(one, range(len(factors)))))
            return np.asarray(out + self.few @ whole.solve(self.few_t @ x))

        return precondition


def _rows_used(part: sp.csr_array) -> tuple[np.ndarray, sp.csr_array]:
    rows = np.flatnonzero(np.diff(part.indptr))
    return rows, part[rows]
