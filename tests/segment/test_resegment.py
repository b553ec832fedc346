"""Resegmentation with a network worked out by hand: what is bright and connected is one object."""

from __future__ import annotations

import numpy as np
import pytest

from petavox.errors import BadInput
from petavox.ffn.predictor import Predictor
from petavox.segment.resegment import ResegmentSettings, radii, resegment
from tests.ffn.brightness import brightness_model, brightness_spec

BRIGHT, DARK = 190, 64
MEMBRANE = slice(17, 22)
"""Thicker than the 4 voxels that a field of view sees beyond its centre."""
SIZE = (8.0, 8.0, 8.0)


@pytest.fixture(scope="module")
def predict():
    return Predictor(brightness_model())


def tube(membrane=None, length=40, width=11):
    """A bright tube along x in the dark, labelled 5 left of its middle and 9 right of it."""
    image = np.full((25, 25, length), DARK, np.uint8)
    side = slice((25 - width) // 2, (25 + width) // 2)
    image[side, side, 2:-2] = BRIGHT
    labels = np.where(image == BRIGHT, 5, 0).astype(np.uint64)
    labels[:, :, length // 2 :][labels[:, :, length // 2 :] > 0] = 9
    if membrane is not None:
        image[:, :, membrane] = DARK
        labels[:, :, membrane] = 0
    return image, labels


PUBLISHED = {
    "box_radius": (112.0, 112.0, 112.0),
    "analysis_radius": (72.0, 72.0, 72.0),
    "exclusion_radius": (16.0, 16.0, 16.0),
    "tries": 8,
}
"""In nm; the tubes are as thick as the hand-made field of view, too thick for a smaller box."""


def scores(predict, image, labels, point=(12, 12, 19), **settings):
    return resegment(
        image,
        labels,
        5,
        9,
        point,
        predict,
        predict.spec,
        voxel_size=SIZE,
        settings=ResegmentSettings(**PUBLISHED | settings),
    )


def test_a_tube_cut_in_two_is_one_object_from_either_seed(predict):
    found = scores(predict, *tube())
    # steps of two voxels leave some of the tube's edges out
    assert found.iou > 0.85
    assert min(found.aa, found.ab, found.ba, found.bb) > 0.7
    assert (found.deleted_a, found.deleted_b, found.reason) == (0, 0, "")
    assert (found.tries_a, found.tries_b) == (1, 1)
    assert found.fovs > 2


def test_two_tubes_behind_a_membrane_stay_two(predict):
    found = scores(predict, *tube(membrane=MEMBRANE))
    assert (found.iou, found.ab, found.ba) == (0, 0, 0)
    assert min(found.aa, found.bb) > 0.8


def test_a_and_b_can_be_exchanged(predict):
    image, labels = tube(membrane=MEMBRANE)
    one = scores(predict, image, labels)
    other = scores(predict, image, np.where(labels > 0, 14 - labels, 0))
    assert (one.iou, one.aa, one.ab, one.fovs) == (other.iou, other.bb, other.ba, other.fovs)


def test_other_objects_are_obstacles(predict):
    image, labels = tube()
    labels[:, :, 18:22][labels[:, :, 18:22] > 0] = 77
    found = scores(predict, image, labels)
    assert found.iou == 0
    assert (found.ab, found.ba) == (0, 0)
    labels[labels == 77] = 0  # the same voxels held by nobody do not stand in the way
    assert scores(predict, image, labels).iou > 0.85


def test_a_seed_that_fails_is_tried_again_outside_its_zone(predict):
    image, labels = tube(membrane=MEMBRANE, length=44)
    # the deepest place of 5 is a dark lump: nothing grows there
    image[:, :, 12:16] = DARK
    found = scores(predict, image, labels, point=(12, 12, 20))
    assert found.tries_a > 1
    assert found.tries_b == 1
    assert found.aa > 0


def test_tries_end_and_the_best_one_counts(predict):
    image, labels = tube(membrane=MEMBRANE)
    image[labels == 5] = DARK
    found = scores(predict, image, labels, tries=3)
    assert (found.tries_a, found.reason) == (3, "nothing grew in a")
    assert np.isnan(found.iou)


def test_places_where_nothing_can_be_said_have_a_reason(predict):
    image, labels = tube()
    thin = image[:8], labels[:8]
    assert "too near" in scores(predict, *thin, point=(4, 12, 19), mirror=False).reason
    assert "blank" in scores(predict, np.full_like(image, 7), labels).reason
    assert "no seed fits in b" in scores(predict, image, np.where(labels == 9, 0, labels)).reason


def test_radii_follow_the_field_of_view_and_its_anisotropy():
    published = brightness_spec(fov=(17, 33, 33), deltas=(4, 8, 8))
    assert radii(ResegmentSettings(), published, (20, 9, 9)) == (
        (14, 28, 28),
        (12, 24, 24),
        (3, 6, 6),
    )
    given = ResegmentSettings(box_radius=(400, 180, 180), analysis_radius=(200, 90, 90))
    assert radii(given, published, (20, 9, 9))[:2] == ((20, 20, 20), (10, 10, 10))


@pytest.mark.parametrize("flood", [{"flip": "z"}, {"keep_probability": True}])
def test_settings_of_a_flood_that_say_nothing_of_a_pair_are_refused(flood):
    with pytest.raises(ValueError, match=f"flood.{next(iter(flood))} says nothing here"):
        ResegmentSettings(flood=flood)


def test_impossible_radii_are_refused():
    spec = brightness_spec()
    with pytest.raises(BadInput, match="nothing could be flooded"):
        radii(ResegmentSettings(box_radius=(8, 8, 8)), spec, SIZE)
    with pytest.raises(BadInput, match="must be flooded"):
        radii(ResegmentSettings(analysis_radius=(400, 400, 400)), spec, SIZE)


def test_the_result_does_not_depend_on_what_lies_outside_of_the_box(predict):
    image, labels = tube(membrane=MEMBRANE, length=60)
    labels[:] = np.where(labels > 0, np.where(np.arange(60) < 20, 5, 9), 0)
    whole = scores(predict, image, labels)
    cut = scores(predict, image[:, :, 3:40], labels[:, :, 3:40], point=(12, 12, 16))
    assert (whole.iou, whole.aa, whole.bb) == (cut.iou, cut.aa, cut.bb)


def test_at_the_rim_of_a_volume_the_mirrored_picture_lets_the_flood_in(predict):
    whole, cut = tube(membrane=MEMBRANE), tube()
    for (image, labels), same in ((whole, False), (cut, True)):
        found = scores(predict, image[9:16], labels[9:16], point=(3, 12, 19))
        assert found.reason == ""
        assert (max(found.ab, found.ba) > 0.7) is same
