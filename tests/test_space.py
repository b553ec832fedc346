"""Boxes, voxel sizes and grids: exact for any sign, shape and context. Oracles: sets of voxels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petavox.errors import BadInput
from petavox.space import Box, Grid, VoxelSize, zyx

places = st.tuples(*[st.integers(-12, 12)] * 3)
shapes = st.tuples(*[st.integers(0, 6)] * 3)
sides = st.tuples(*[st.integers(1, 5)] * 3)
boxes = st.builds(Box.of_shape, shapes, places)
solid = st.builds(Box.of_shape, sides, places)


def voxels(box: Box) -> set[tuple[int, ...]]:
    return set(itertools.product(*map(range, box.start, box.stop)))


@given(boxes)
def test_size_and_emptiness_count_the_voxels(box):
    assert box.size == len(voxels(box))
    assert box.is_empty == (not voxels(box))


@given(boxes, boxes)
def test_intersection_is_the_common_voxels(a, b):
    assert voxels(a.intersection(b)) == voxels(a) & voxels(b)


@given(boxes, boxes)
def test_contains_is_inclusion_of_voxels(a, b):
    assert a.contains(b) == (voxels(b) <= voxels(a))


@given(boxes, boxes)
def test_hull_is_the_smallest_box_with_both(a, b):
    hull, both = a.hull(b), voxels(a) | voxels(b)
    assert both <= voxels(hull)
    if both:
        assert hull.start == tuple(min(v[i] for v in both) for i in range(3))
        assert hull.stop == tuple(max(v[i] for v in both) + 1 for i in range(3))


@given(boxes, places)
def test_contains_point_is_membership(box, point):
    assert box.contains_point(point) == (point in voxels(box))


@given(boxes, places)
def test_a_shift_and_its_opposite_cancel(box, by):
    assert box.shifted(by).shifted([-v for v in by]) == box
    assert box.shifted(by).shape == box.shape


@given(solid, shapes)
def test_growing_and_shrinking_cancel(box, by):
    assert box.grown(by).grown([-v for v in by]) == box


@given(boxes)
def test_text_reads_back(box):
    assert Box.parse(str(box)) == box


@given(solid, solid)
def test_slices_address_the_same_voxels_of_an_array(total, part):
    inside = part.intersection(total)
    index = np.stack(np.meshgrid(*map(np.arange, total.start, total.stop), indexing="ij"), -1)
    found = index[inside.slices(total.start)].reshape(-1, 3)
    assert {tuple(int(n) for n in v) for v in found} == voxels(inside)


@given(solid, sides, places)
def test_snapping_out_gives_whole_chunks_and_no_chunk_too_many(box, chunk, origin):
    snapped = box.snapped_out(chunk, origin)
    assert snapped.contains(box)
    for a, b, s, e, c, o in zip(
        snapped.start, snapped.stop, box.start, box.stop, chunk, origin, strict=True
    ):
        assert (a - o) % c == 0
        assert (b - o) % c == 0
        assert s - a < c
        assert b - e < c


@given(solid, sides)
def test_a_block_of_a_grid_is_aligned_and_a_cut_chunk_is_not(total, chunk):
    grid = Grid(total, chunk)
    assert all(b.write.is_aligned(chunk, total) for b in grid)
    if chunk[2] > 1 and total.shape[2] > 1:
        cut = Box(total.start, (total.stop[0], total.stop[1], total.start[2] + 1))
        assert not cut.is_aligned(chunk, total)


@given(boxes, sides, shapes)
def test_write_boxes_tile_the_total_once(total, block, context):
    seen: list[tuple[int, ...]] = []
    for b in Grid(total, block, context):
        seen += voxels(b.write)
    assert len(seen) == len(set(seen))
    assert set(seen) == voxels(total)


@given(boxes, sides, shapes)
def test_read_boxes_are_write_boxes_with_context_inside_the_total(total, block, context):
    for b in Grid(total, block, context):
        assert voxels(b.read) == voxels(b.write.grown(context)) & voxels(total)


@given(boxes, sides)
def test_numbers_and_indices_name_the_same_blocks(total, block):
    grid = Grid(total, block)
    listed = list(grid)
    assert len(listed) == len(grid)
    assert [b.number for b in listed] == list(range(len(grid)))
    assert [grid[i] for i in range(len(grid))] == listed


@given(boxes, sides, boxes)
def test_touching_finds_the_blocks_that_share_a_voxel(total, block, box):
    grid = Grid(total, block)
    expected = [b for b in grid if voxels(b.write) & voxels(box)]
    assert list(grid.touching(box)) == expected


def test_blocks_outside_a_grid_are_refused():
    grid = Grid(Box((0, 0, 0), (4, 4, 4)), (2, 2, 2))
    with pytest.raises(IndexError):
        grid.at((2, 0, 0))
    with pytest.raises(IndexError):
        grid[8]


def test_a_box_that_ends_before_it_starts_is_refused():
    with pytest.raises(BadInput, match="ends before it starts"):
        Box((0, 0, 0), (1, -1, 1))


@pytest.mark.parametrize("text", ["", "0:1,0:1", "0-1,0:1,0:1", "a:b,0:1,0:1", "0:1,0:1,0:1,0:1"])
def test_a_malformed_box_is_refused_with_the_form(text):
    with pytest.raises(BadInput, match="z0:z1,y0:y1,x0:x1"):
        Box.parse(text)


def test_negative_boxes_are_parsed():
    assert Box.parse(" -4:0, 1:2,-3 : 9") == Box((-4, 1, -3), (0, 2, 9))


@pytest.mark.parametrize("values", [(1, 2), (1, 2, 3, 4), (1.5, 2, 3)])
def test_zyx_takes_three_whole_numbers(values):
    with pytest.raises(BadInput):
        zyx(values)


def test_one_number_stands_for_all_axes():
    assert zyx(4) == (4, 4, 4)


@pytest.mark.parametrize("values", [(4, 40), (0, 4, 4), (-1, 4, 4), (float("nan"), 4, 4)])
def test_an_impossible_voxel_size_is_refused(values):
    with pytest.raises(BadInput, match="voxel size"):
        VoxelSize.of(values)


def test_coarser_multiplies_each_axis():
    assert VoxelSize(40, 4, 5).coarser((1, 2, 4)) == VoxelSize(40, 8, 20)
    assert VoxelSize(40, 4, 5).volume == 800


@pytest.mark.parametrize(("block", "context"), [((0, 1, 1), (0, 0, 0)), ((1, 1, 1), (0, -1, 0))])
def test_an_impossible_grid_is_refused(block, context):
    with pytest.raises(BadInput):
        Grid(Box((0, 0, 0), (4, 4, 4)), block, context)
