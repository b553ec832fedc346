import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from petavox.ffn.moves import Move, moves, quantised


def low(shape=(9, 9, 9)):
    return np.full(shape, -5, np.float32)


def test_each_face_gives_its_best_voxel_best_first():
    logits = low()
    logits[4 + 2, 4, 4] = 3.0  # +z face, centre
    logits[4, 4 - 2, 5] = 4.0  # -y face, one to the right
    logits[4, 4 - 2, 4] = 3.5  # the same face, but weaker
    assert moves(logits, (2, 2, 2), 2.0) == [Move(4.0, (0, -2, 1)), Move(3.0, (2, 0, 0))]


def test_a_voxel_beyond_the_cube_is_no_move():
    logits = low()
    logits[4 + 3, 4, 4] = 9.0
    logits[4 + 2, 4, 4 + 3] = 9.0
    assert moves(logits, (2, 2, 2), 0.0) == []


def test_an_edge_shared_by_two_faces_is_one_move():
    logits = low()
    logits[4 + 2, 4 + 2, 4] = 5.0
    assert moves(logits, (2, 2, 2), 2.0) == [Move(5.0, (2, 2, 0))]


def test_the_threshold_itself_moves():
    logits = low()
    logits[4, 4, 6] = 2.0
    assert moves(logits, (2, 2, 2), 2.0) == [Move(2.0, (0, 0, 2))]


def test_equal_scores_are_ordered_by_offset_descending():
    logits = np.full((7, 7, 7), 1.0, np.float32)
    offsets = [m.offset for m in moves(logits, (1, 1, 1), 0.0)]
    # the first voxel of a uniform face is its corner; faces share corners
    assert offsets == [(1, -1, -1), (-1, 1, -1), (-1, -1, 1), (-1, -1, -1)]


def test_an_axis_without_step_has_no_faces():
    logits = np.full((1, 9, 9), 1.0, np.float32)
    assert {m.offset[0] for m in moves(logits, (0, 2, 2), 0.0)} == {0}


def test_the_start_lies_in_the_middle_of_its_cell():
    assert [quantised((0, 0, x), (0, 0, 0), (8, 8, 8))[2] for x in (-5, -4, 3, 4)] == [-1, 0, 0, 1]


@given(
    st.tuples(*[st.integers(-50, 50)] * 3),
    st.tuples(*[st.integers(-50, 50)] * 3),
    st.tuples(*[st.integers(0, 9)] * 3),
)
def test_visited_cells_move_with_the_start(point, start, deltas):
    moved = tuple(p + s for p, s in zip(point, start, strict=True))
    assert quantised(moved, start, deltas) == quantised(point, (0, 0, 0), deltas)
