"""A flood of the mirrored image is the mirrored flood, the right way round again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from petavox.errors import BadInput
from petavox.ffn.flip import mirrored, mirrored_points
from petavox.ffn.flood import SeedSettings, flood
from petavox.ffn.growth import FloodSettings
from petavox.ffn.restrict import Restrictor
from petavox.settings import parse
from tests.ffn.brightness import brightness_spec
from tests.ffn.test_canvas import blobs, brightness

axes_of = st.sampled_from(["", "z", "y", "x", "zy", "zx", "yx", "zyx"])


def run(image, axes, points, **others):
    return flood(
        image,
        brightness,
        brightness_spec(),
        voxel_size=(40, 4, 4),
        settings=FloodSettings(min_segment_size=10, keep_probability=True, flip=axes),
        seeds=SeedSettings(policy="points"),
        points=points,
        **others,
    )


@given(axes_of, st.integers(0, 4))
def test_what_comes_out_lies_where_the_image_lies(axes, seed):
    """By hand: mirror the image and the seeds, flood, mirror the labels."""
    image = 128 + 64 * blobs(seed)
    rng = np.random.default_rng(seed)
    points = rng.integers(5, np.array(image.shape) - 5, (12, 3))
    mask = np.zeros(image.shape, bool)
    mask[:, :3] = mask[-4:] = True
    earlier = np.zeros(image.shape, np.int32)
    earlier[2:6, 8:12, 1:9] = 1
    ours = run(image, axes, points, restrictor=Restrictor(mask=mask), earlier=earlier)
    by_hand = run(
        mirrored(image, axes),
        "",
        mirrored_points(points, image.shape, axes),
        restrictor=Restrictor(mask=mirrored(mask, axes)),
        earlier=mirrored(earlier, axes),
    )
    assert np.array_equal(ours.segmentation, mirrored(by_hand.segmentation, axes))
    assert np.array_equal(ours.probability, mirrored(by_hand.probability, axes))
    assert ours.counters == by_hand.counters
    for i, origin in ours.origins.items():
        there = mirrored_points([origin.seed], image.shape, axes)[0]
        assert tuple(there) == by_hand.origins[i].seed
        assert ours.segmentation[origin.seed] == i


@given(axes_of)
def test_mirrored_twice_is_the_same(axes):
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert np.array_equal(mirrored(mirrored(array, axes), axes), array)
    points = np.argwhere(array[0] >= 0)
    there = mirrored_points(points, array.shape[1:], axes)
    assert np.array_equal(mirrored(array[0], axes)[tuple(there.T)], array[0][tuple(points.T)])


def test_axes_that_are_none_are_refused():
    with pytest.raises(BadInput, match="flip"):
        parse(FloodSettings, {"flip": "xz"}, "the options")
