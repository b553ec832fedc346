"""Pictures of slices: colours, overlays, layout."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from petavox.errors import BadInput
from petavox.view import picture


def test_grey_maps_bounds_to_black_and_white():
    got = picture.grey(np.array([[-5, 0, 50, 100, 200]]), (0.0, 100.0))
    assert got[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert (got[..., 0] == got[..., 1]).all()


def test_uint8_is_shown_as_it_is():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(picture.grey(image)[..., 2], image)


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8))
def test_a_colour_belongs_to_the_id_alone(ids):
    together = picture.colours(np.array(ids, np.uint64))
    for id_, colour in zip(ids, together, strict=True):
        alone = picture.colours(np.array([[id_]], np.uint64))[0, 0]
        assert colour.tolist() == alone.tolist()
        assert (colour.max() == 0) == (id_ == 0)


def test_colours_stay_the_same_over_versions():
    got = picture.colours(np.array([1, 2, 2**64 - 1], np.uint64))
    assert got.tolist() == [[101, 137, 226], [131, 198, 36], [54, 198, 96]]


def test_overlay_shows_the_image_where_there_is_no_label():
    image = np.full((4, 6), 100, np.uint8)
    labels = np.zeros((4, 6), np.uint64)
    labels[:, 3:] = 9
    got = picture.overlay(image, labels, alpha=0.5, outline=False)
    assert (got[:, :3] == 100).all()
    expected = (100 + picture.colours(np.array([9]))[0].astype(int)) / 2
    assert np.abs(got[0, 5] - expected).max() <= 1


def test_outline_marks_the_pixels_before_another_id():
    labels = np.array([[1, 1, 2], [1, 1, 2], [3, 3, 3]])
    assert picture.edges(labels).tolist() == [
        [False, True, False],
        [True, True, True],
        [False, False, False],
    ]


def test_the_largest_piece_takes_its_bodys_colour_and_others_do_not():
    truth = np.array([[[7, 7, 7, 7, 7, 8, 8, 0]]])
    result = np.array([[[1, 1, 1, 2, 2, 1, 0, 3]]])
    got = picture.matched(result, truth)[0, 0].tolist()
    assert got[:3] == [7, 7, 7]
    assert got[3] == got[4] not in (7, 8)
    assert got[5] == 7
    assert got[6] == 0
    assert got[7] not in (0, 7, 8, got[3])


def test_figure_puts_three_slices_side_by_side():
    image = np.zeros((2, 8, 10), np.uint8)
    image[1] = 200
    got = picture.figure(image, image, image, 1, enlarge=3, titles=("a", "b", "c"))
    assert got.shape == (26 + 24, 3 * 30 + 2 * 6, 3)
    assert (got[26:, :30] == 200).all()
    assert (got[26:, 30:36] == 255).all()
    assert got[:26].min() < 128, "the titles are drawn"
    read_back = np.asarray(Image.open(io.BytesIO(picture.png(got))))
    np.testing.assert_array_equal(read_back, got)


def test_what_does_not_fit_together_is_refused():
    image = np.zeros((2, 8, 10), np.uint8)
    with pytest.raises(BadInput, match="shape"):
        picture.figure(image, image, image[:, 1:], 0)
    with pytest.raises(BadInput, match="section 2"):
        picture.figure(image, image, image, 2)
    with pytest.raises(BadInput, match="shape"):
        picture.overlay(image[0], image[0, 1:])
    with pytest.raises(BadInput, match="height"):
        picture.beside([np.zeros((2, 2, 3), np.uint8), np.zeros((3, 2, 3), np.uint8)])
