"""Which overlaps of tiles are edges: those alone are warned of when they do not match."""

import numpy as np
import pytest

from petavox.stages.stitch_work import shares_an_edge

STAGE = np.array([[0, 0], [0, 90], [90, 0], [92, 91], [0, 300]], float)
SHAPES = np.full((5, 2), 100)


@pytest.mark.parametrize(
    ("a", "b", "edge"),
    [(0, 1, True), (0, 2, True), (0, 3, False), (1, 2, False), (1, 3, True), (3, 2, True)],
)
def test_neighbours_share_an_edge_and_diagonal_tiles_a_corner(a, b, edge):
    assert shares_an_edge(STAGE, SHAPES, a, b) is edge
    assert shares_an_edge(STAGE, SHAPES, b, a) is edge
