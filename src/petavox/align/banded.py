"""Cholesky factors of sparse matrices whose entries lie near the diagonal.

What it is: A = L L^T for a symmetric positive definite A of a control grid, in LAPACK's band form,
after the narrower of two orders, the given one and reverse Cuthill-McKee (Cuthill and McKee 1969).
What it is not: a solver for matrices without such an order.

Why not SuperLU: SciPy's keeps a list of its allocations per thread, and memory that is freed by
another thread than the one it was allocated by is never given back. A factor made in a thread pool
and dropped outside of it leaks whole: 13 MB a section in stacks of hundreds. These factors are
NumPy arrays, and below some 20,000 px of section also faster to make.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.linalg import cho_solve_banded, cholesky_banded
from scipy.sparse.csgraph import reverse_cuthill_mckee

LIFT = 1e-11
"""Added to the diagonal, times its mean: a mode that nothing holds must not stop the factors."""


REACH = 6
"""Rows of control points within the band: third differences reach over 3 (petavox.align.solve), and
reverse Cuthill-McKee may make twice as much of them."""


def factor_bytes(points: tuple[int, int]) -> int:
    """Most memory of the factor of one section of so many control points along y and x."""
    few, many = sorted(points)
    return 8 * few * many * (REACH * few + REACH + 1)


class Banded:
    """The factor of one matrix; memory 8 bytes x unknowns x (half the bandwidth + 1).

    matrix: (n, n), symmetric, positive definite but for rounding.
    """

    def __init__(self, matrix: sp.csr_array) -> None:
        a = sp.csr_array(matrix)
        n = a.shape[0]
        rows = np.repeat(np.arange(n), np.diff(a.indptr))
        columns, values = a.indices.astype(np.int64), a.data
        self.order: np.ndarray | None = None
        width = int(np.abs(rows - columns).max(initial=0))
        order = reverse_cuthill_mckee(sp.csr_matrix(a), symmetric_mode=True)
        rank = np.empty(n, np.int64)
        rank[order] = np.arange(n)
        narrow = int(np.abs(rank[rows] - rank[columns]).max(initial=0))
        if narrow < width:
            self.order, width = order, narrow
            rows, columns = rank[rows], rank[columns]
        lower = rows >= columns
        band = np.zeros((width + 1, n))
        band[(rows - columns)[lower], columns[lower]] = values[lower]
        band[0] += LIFT * band[0].mean()
        self.factor = cholesky_banded(band, lower=True, overwrite_ab=True, check_finite=False)

    def solve(self, right: np.ndarray) -> np.ndarray:
        """x with A x = right, (n, k)."""
        if self.order is None:
            return np.asarray(cho_solve_banded((self.factor, True), right, check_finite=False))
        out = np.empty(right.shape)
        out[self.order] = cho_solve_banded(
            (self.factor, True), right[self.order], check_finite=False
        )
        return out
