import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from petavox.space import Box, Grid
from petavox.synapse import clefts


def blockwise(said, threshold, total, block, min_voxels=1):
    """As the stage does it: fragments, links, merged, relabelled."""
    labels = np.zeros(total.shape, np.uint64)
    parts = []
    grid = Grid(total, block, (1, 1, 1))
    for b in reversed(list(grid)):
        here = b.write.slices(total.start)
        labels[here], found = clefts.fragments(said[here], threshold, b.write.start, total)
        parts.append(found)
    pairs = [clefts.links(labels[b.read.slices(total.start)]) for b in grid]
    whole, final = clefts.merged(
        np.concatenate(parts), np.unique(np.concatenate(pairs), axis=0), min_voxels=min_voxels
    )
    return clefts.relabelled(labels, final), whole


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    start=st.tuples(*[st.integers(-20, 20)] * 3),
    block=st.tuples(*[st.integers(1, 5)] * 3),
    share=st.floats(0.02, 0.5),
    min_voxels=st.integers(1, 4),
    seed=st.integers(0, 999),
)
def test_components_do_not_depend_on_blocks(shape, start, block, share, min_voxels, seed):
    rng = np.random.default_rng(seed)
    total = Box.of_shape(shape, start)
    said = np.where(rng.random(shape) < share, rng.integers(128, 256, shape), 7).astype(np.uint8)
    labels, whole = blockwise(said, 0.5, total, block, min_voxels)
    one, parts = clefts.components(said, 0.5, start, min_voxels=min_voxels)
    assert np.array_equal(labels, one)
    assert np.array_equal(whole, parts)
    # and they are scipy's components
    numbers, count = ndimage.label(said > 127, np.ones((3, 3, 3)))
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    assert len(parts) == (sizes >= min_voxels).sum()
    for k in np.flatnonzero(sizes >= min_voxels) + 1:
        at = np.argwhere(numbers == k)
        ids = np.unique(labels[numbers == k])
        assert len(ids) == 1
        row = parts[parts["id"] == ids[0]][0]
        assert row["voxels"] == len(at)
        assert row["said"] == said[numbers == k].sum()
        assert np.array_equal(row["place"], (at + start).sum(0))
        assert np.array_equal(row["low"], at.min(0) + start)
        assert np.array_equal(row["high"], at.max(0) + 1 + start)
        assert ids[0] == np.ravel_multi_index(at[0], shape) + 1


def test_places_and_scores():
    said = np.zeros((3, 5, 6), np.uint8)
    said[1, 2, 3:5] = [255, 153]
    _, parts = clefts.components(said, 0.5, (10, 0, -1))
    assert np.allclose(clefts.positions_nm(parts, (40, 4, 8)), [[460, 10, 24]])
    assert np.allclose(clefts.scores(parts), [0.8])


def test_nothing_is_nothing():
    labels, parts = clefts.components(np.zeros((2, 3, 4), np.uint8), 0.5)
    assert not labels.any()
    assert len(parts) == 0
    assert len(clefts.links(labels)) == 0
    assert len(clefts.positions_nm(parts, (1, 1, 1))) == 0


def test_a_threshold_is_a_probability_at_least():
    said = np.array([[[101, 102, 103]]], np.uint8)  # 0.4 is 102
    labels, _ = clefts.components(said, 0.4)
    assert labels.tolist() == [[[0, 2, 2]]]
