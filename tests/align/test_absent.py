"""Lost tiles and sections, told from stage positions."""

from __future__ import annotations

import numpy as np

from petavox.align.absent import lost_sections, lost_tiles

GRID = np.array([[y, x] for y in (0, 90) for x in (0, 90, 180)], float)


def test_numbers_between_first_and_last_are_lost():
    assert lost_sections([7, 3, 4]) == [5, 6]
    assert lost_sections([]) == []


def test_a_place_that_the_neighbours_have_is_a_lost_tile():
    stage = {k: GRID + 3 * k for k in range(5)}
    stage[2] = np.delete(stage[2], 4, 0)
    found = lost_tiles(stage, (100, 100))
    assert set(found) == {2}
    assert np.abs(found[2] - [[90, 90]]).max() < 15


def test_one_tile_more_or_another_layout_is_no_loss():
    stage = {k: GRID for k in range(4)}
    stage[1] = np.vstack([GRID, [[180, 0]]])
    stage[3] = GRID + 1000
    assert lost_tiles(stage, (100, 100)) == {}
    assert lost_tiles({4: GRID}, (100, 100)) == {}
