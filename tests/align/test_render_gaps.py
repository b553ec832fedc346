"""Rendering where sections have no image: shown as nothing, or from the nearest that has one."""

from __future__ import annotations

import numpy as np
import pytest

import petavox.volume as pv
from petavox.align import field_file
from petavox.align.frames import Field
from petavox.space import Box
from petavox.stages import render
from petavox.volume import opening

SHAPE = (5, 40, 48)
HOLE = (slice(10, 20), slice(8, 30))


@pytest.fixture
def stack(tmp_path):
    """Sections of grey 10, 20, ... 50; 1 to 3 have a hole, and 4 has no field."""
    image = np.repeat(np.arange(10, 60, 10, dtype=np.uint8), 40 * 48).reshape(SHAPE)
    image[(slice(1, 4), *HOLE)] = 0
    target = pv.create(
        tmp_path / "sections",
        box=Box.of_shape(SHAPE),
        voxel_size=(40, 4, 4),
        dtype="uint8",
        kind="image",
    )
    target.write(target.box, image)
    opening.finish(target, {})
    same = {f"section_{k:04d}": Field.translation((0, 0)) for k in range(4)}
    field_file.save(tmp_path / "fields.npz", same)
    return tmp_path


def rendered(stack, name, **settings):
    render.run(
        stack / "sections", stack / "fields.npz", stack / name,
        render.RenderSettings(pyramid=False, **settings),
    )  # fmt: skip
    return pv.open(stack / name).read(Box.of_shape(SHAPE), fill=0)


def test_a_gap_is_left_empty_unless_filling_is_wanted(stack):
    assert not rendered(stack, "plain")[(slice(1, 4), *HOLE)].any()


def test_a_gap_shows_the_nearest_section_with_an_image_within_reach(stack):
    plain, one, two = (rendered(stack, f"v{n}", fill_gaps=n) for n in (0, 1, 2))
    inner = (slice(12, 18), slice(10, 28))  # clear of the rim, where greys are interpolated
    assert [int(one[k][inner].mean()) for k in (1, 2, 3)] == [10, 0, 0]
    assert [int(two[k][inner].mean()) for k in (1, 2, 3)] == [10, 10, 0]
    for filled in (one, two):
        np.testing.assert_array_equal(filled[plain > 0], plain[plain > 0])
