import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import petavox as pv
from petavox.errors import BadInput
from petavox.space import Box, VoxelSize
from petavox.stages.sampling import sampled
from petavox.volume.volume import Kind, Volume


class Held:
    """An array at an offset, as a store."""

    def __init__(self, values, start):
        self.values, self.box = values, Box.of_shape(values.shape, start)
        self.dtype, self.write_shape = values.dtype, values.shape

    def read(self, box):
        return self.values[box.slices(self.box.start)]

    def write(self, box, values):
        raise AssertionError


def held(values, start=(0, 0, 0), size=(1, 1, 1)):
    return Volume(
        Held(values, start), path="held", voxel_size=VoxelSize.of(size), kind=Kind.IMAGE, format="x"
    )


def test_the_same_voxel_size_is_a_plain_read(rng):
    values = rng.integers(0, 99, (5, 6, 7))
    box = pv.Box((-1, 2, 3), (3, 6, 8))
    volume = held(values, (-2, 1, 2))
    assert (sampled(volume, box, VoxelSize(1, 1, 1)) == volume.read(box)).all()


@given(
    start=st.tuples(*[st.integers(-9, 9)] * 3),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    factor=st.tuples(*[st.integers(1, 4)] * 3),
)
def test_a_coarse_voxel_covers_its_fine_ones(start, shape, factor):
    coarse = np.random.default_rng(0).integers(0, 99, (40, 40, 40))
    volume = held(coarse, (-20, -20, -20), tuple(4.0 * f for f in factor))
    box = Box.of_shape(shape, start)
    found = sampled(volume, box, VoxelSize(4, 4, 4))
    for at in np.ndindex(shape):
        place = tuple((s + a) // f + 20 for s, a, f in zip(start, at, factor, strict=True))
        assert found[at] == coarse[place]


def test_a_box_that_is_not_covered_is_an_error():
    with pytest.raises(BadInput, match="covers"):
        sampled(held(np.zeros((2, 2, 2))), Box((0, 0, 0), (3, 2, 2)), VoxelSize(1, 1, 1))


def test_an_empty_box_gives_an_empty_array():
    empty = Box((1, 1, 1), (1, 2, 2))
    assert sampled(held(np.zeros((2, 2, 2))), empty, VoxelSize(1, 1, 1)).shape == (0, 1, 1)
