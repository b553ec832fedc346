"""Sections read in pieces: the same as at once, within the memory that was given."""

from __future__ import annotations

import numpy as np
import pytest

from petavox import volume
from petavox.space import Box
from petavox.stages.qc_slab import piece_of
from petavox.stages.section_reading import piece_for, strips, voxel_bytes
from tests.stages.align_tissue import saved, tissue


@pytest.mark.parametrize("box", [None, Box((0, 3, -20), (2, 97, 120))])
def test_pieces_see_what_the_whole_section_does(tmp_path, box):
    values = tissue(2, 130)
    values[0, 30:60, 50:90] = 0
    values[1, 55:66, :] = 0  # across the rims of pieces
    source = volume.open(saved(tmp_path / "image.zarr", values))
    box = box or source.box
    [(_, whole, seen)] = strips(source, box, box.shape[1:])
    for (y, x), part, ok in strips(source, box, (40, 60)):
        here = np.s_[:, y : y + part.shape[1], x : x + part.shape[2]]
        np.testing.assert_array_equal(part, whole[here])
        np.testing.assert_array_equal(ok, seen[here])


@pytest.mark.parametrize(("step", "memory_mb"), [(10, 512), (210, 512), (35, 32)])
def test_pieces_of_very_wide_sections_keep_to_the_memory(step, memory_mb):
    shape = (19, 100_000, 100_000)
    rows, columns = piece_of(shape, 1, step, memory_mb)
    assert rows % step == 0
    assert columns % step == 0 or columns == shape[2]
    assert rows * columns * shape[0] * voxel_bytes(1) <= memory_mb << 20


def test_pieces_are_whole_rows_where_these_fit():
    assert piece_for((4, 5000, 4096), 1, 10, 64) == (510, 4096)
