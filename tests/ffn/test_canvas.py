import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from petavox.errors import BadInput
from petavox.ffn.canvas import NOT_AN_OBJECT, Canvas
from petavox.ffn.checkpoint import state_of
from petavox.ffn.flood import SeedSettings, choose_seeds, flood, normalised
from petavox.ffn.growth import FloodSettings
from petavox.ffn.restrict import Restrictor
from tests.ffn.brightness import GAIN, brightness_spec

SPEC = brightness_spec()
SMALL = FloodSettings(min_segment_size=1)


AXES = [np.abs(np.arange(n) - n // 2) for n in SPEC.fov]
TAPER = 1 - 0.001 * (AXES[0][:, None, None] + AXES[1][:, None] + AXES[2]).astype(np.float32)


def brightness(image, seed):
    """Bright belongs, dark does not, whatever was thought before; a little surer near the
    centre, so that each face has one best voxel and floods go straight."""
    return (GAIN * TAPER * image).astype(np.float32)


def cells(shape=(25, 29, 41), walls=(19,)):
    """+1 inside, -1 on walls across x, four voxels thick: no view from inside sees past one."""
    image = np.ones(shape, np.float32)
    for x in walls:
        image[:, :, x : x + 4] = -1
    return image


def canvas_of(image, flood_settings=SMALL, **others):
    return Canvas(image, brightness, SPEC, flood_settings, **others)


def run(image, flood_settings=SMALL, points=((12, 14, 8), (12, 14, 32)), **others):
    canvas = canvas_of(image, flood_settings, **others)
    canvas.seeds = np.array(points)
    canvas.segment_all()
    return canvas


def test_two_cells_become_two_objects_that_stop_at_the_wall():
    canvas = run(cells())
    assert canvas.counters["objects"] == 2
    assert (canvas.segmentation[:, :, :19] == 1).all()
    assert (canvas.segmentation[:, :, 23:] == 2).all()
    assert (canvas.segmentation[:, :, 19:23] <= 0).all()


def test_origins_tell_seed_steps_and_voxels():
    origin = run(cells()).origins[2]
    assert origin.seed == (12, 14, 32)
    assert origin.voxels == 25 * 29 * 18
    assert origin.fovs > 1
    assert origin.seconds > 0


def test_labels_are_uint64_without_marks():
    canvas = run(cells(), points=((12, 14, 8), (12, 14, 18), (12, 14, 32)))
    labels = canvas.labels()
    assert labels.dtype == np.uint64
    assert sorted(np.unique(labels).tolist()) == [0, 1, 2]


def test_a_seed_on_the_wall_is_weak_and_marked():
    canvas = run(cells(), points=((12, 14, 20),))
    assert canvas.counters["seeds_weak"] == 1
    assert canvas.segmentation[12, 14, 20] == NOT_AN_OBJECT
    assert canvas.counters["objects"] == 0


def test_a_seed_too_near_another_object_is_marked_and_skipped():
    canvas = run(
        cells(walls=()),
        FloodSettings(min_segment_size=1, min_boundary_dist=(0, 0, 2), max_object_share=1),
        points=((12, 14, 8),),
    )
    canvas.segmentation[...] = 0
    canvas.segmentation[12, 14, 10] = 7
    for x, near in ((8, True), (7, False)):
        canvas.seeds = np.array([(12, 14, x)])
        canvas.next_seed, before = 0, canvas.counters["seeds_too_close"]
        canvas.segment_all()
        assert (canvas.counters["seeds_too_close"] > before) == near


def test_objects_under_the_minimum_are_dropped_and_marked():
    size = 25 * 29 * 19  # of the left cell; the right one is smaller
    assert run(cells(), FloodSettings(min_segment_size=size)).counters["objects"] == 1
    canvas = run(cells(), FloodSettings(min_segment_size=size + 1))
    assert canvas.counters["objects_too_small"] == 2
    assert canvas.segmentation[12, 14, 8] == NOT_AN_OBJECT


def test_an_earlier_object_is_an_obstacle_and_its_overlap_is_told():
    canvas = canvas_of(cells(walls=()), FloodSettings(min_segment_size=1, max_object_share=1))
    canvas.segmentation[:, :, 30:] = 5
    canvas.next_id = 6
    canvas.seeds = np.array([(12, 14, 8)])
    canvas.segment_all()
    assert (canvas.segmentation[:, :, 30:] == 5).all()
    assert canvas.origins[6].overlaps[5] > 0
    assert canvas.origins[6].voxels == np.count_nonzero(canvas.segmentation == 6)


def test_no_field_of_view_leaves_the_subvolume_or_enters_an_object():
    image, seen = cells(walls=()), []

    def spy(patch, seed):
        seen.append(patch.shape)
        return brightness(patch, seed)

    canvas = Canvas(image, spy, SPEC, SMALL)
    canvas.segmentation[:, :, 20:] = 3
    growth = canvas.grow((12, 14, 8))
    assert set(seen) == {SPEC.fov}
    assert growth.low >= (4, 4, 4)
    assert growth.high[2] < 20


def test_frozen_voxels_do_not_rise_again():
    """Disco: what was once below 0.5 stays, unless freezing is off."""
    flip = {"sign": -1.0}

    def fickle(_, seed):
        out = np.where(seed > 0, np.float32(4), np.float32(flip["sign"]))
        return out.astype(np.float32)

    for threshold, expected in ((0.0, -1.0), (-1.0, 1.0)):
        canvas = Canvas(cells(), fickle, SPEC, FloodSettings(disco_threshold=threshold))
        growth = canvas.begin((12, 14, 8))
        flip["sign"] = -1.0
        canvas._update((12, 14, 8), growth)
        flip["sign"] = 1.0
        canvas._update((12, 14, 8), growth)
        assert canvas.seed[12, 14, 9] == expected
        assert canvas.seed[12, 14, 8] == 4


def test_deleted_voxels_are_counted():
    answers = iter([np.float32(2), np.float32(-1)])

    def network(_, seed):
        return np.full(seed.shape, next(answers), np.float32)

    canvas = Canvas(cells(), network, SPEC, SMALL)
    growth = canvas.begin((12, 14, 8))
    canvas._update((12, 14, 8), growth)
    canvas._update((12, 14, 8), growth)
    assert growth.deleted == 9**3


def test_a_mask_keeps_centres_out():
    mask = np.zeros((25, 29, 41), bool)
    mask[:, :, 12:] = True
    canvas = run(cells(walls=()), points=((12, 14, 8), (12, 14, 32)), restrictor=Restrictor(mask))
    assert canvas.counters["objects"] == 1
    assert canvas.segmentation[:, :, 16:].max() <= 0  # centre 11, margin 4
    assert canvas.counters["moves_restricted"] > 0


def test_a_seed_mask_forbids_starts_only():
    mask = np.zeros((25, 29, 41), bool)
    mask[:, :, :20] = True
    canvas = run(
        cells(walls=()), FloodSettings(max_object_share=1), restrictor=Restrictor(None, mask)
    )
    assert canvas.origins[1].seed == (12, 14, 32)
    assert (canvas.segmentation == 1).all()


def test_a_slipped_section_stops_every_view_that_would_see_it():
    shift = np.zeros((2, 25, 29, 41), np.float32)
    shift[0, 15], shift[1, 15] = 3.0, 3.0  # length 4.24, over the threshold of 4
    free = FloodSettings(min_segment_size=1, max_object_share=1)
    slipped = Restrictor(shift=shift)
    canvas = run(cells(walls=()), free, points=((6, 14, 8),), restrictor=slipped)
    assert (canvas.segmentation[:15] == 1).all()  # centres up to 10, margin 4
    assert canvas.segmentation[15:].max() <= 0
    calm = Restrictor(shift=shift, shift_threshold=5)
    assert (
        run(cells(walls=()), free, points=((6, 14, 8),), restrictor=calm).segmentation == 1
    ).all()


def test_a_leak_is_left_out_and_not_started_again():
    canvas = run(cells(), FloodSettings(min_segment_size=1, max_object_share=0.45))
    assert canvas.counters["leaks"] == 1  # the left cell holds 46 %, the right one 44 %
    assert canvas.counters["objects"] == 1
    assert canvas.segmentation[:, :, :19].max() <= 0
    points = ((12, 14, 8), (12, 14, 10), (12, 20, 6))
    again = run(cells(), FloodSettings(min_segment_size=1, max_object_share=0.3), points=points)
    assert again.counters["leaks"] < len(points)


def test_a_box_guard_stops_long_thin_objects():
    image = -np.ones((25, 29, 41), np.float32)
    image[12, 14, :] = 1
    points = ((12, 14, 20),)
    assert run(image, points=points).counters["objects"] == 1
    guarded = FloodSettings(min_segment_size=1, max_box_share=0.05)
    assert run(image, guarded, points=points).counters["leaks"] == 1


def test_probability_is_kept_where_asked():
    canvas = run(cells(), FloodSettings(min_segment_size=1, keep_probability=True))
    assert canvas.probability is not None
    assert ((canvas.probability > 0) == (canvas.segmentation > 0)).all()
    assert canvas.probability.max() >= 254


def test_a_step_given_to_the_flood_is_that_of_a_model_made_for_it():
    image = 128 + 64 * cells()
    spec = brightness_spec()
    longer = [d + 1 for d in spec.deltas]
    made = spec.model_copy(update={"deltas": tuple(longer)})
    settings = FloodSettings(min_segment_size=10, deltas=longer)
    points = np.array([(12, 14, 8), (12, 14, 32)])
    how = {"voxel_size": (1, 1, 1), "seeds": SeedSettings(policy="points"), "points": points}
    given = flood(image, brightness, spec, settings=settings, **how)
    model = flood(image, brightness, made, settings=FloodSettings(min_segment_size=10), **how)
    own = flood(image, brightness, spec, settings=FloodSettings(min_segment_size=10), **how)
    assert np.array_equal(given.segmentation, model.segmentation)
    assert given.counters["fovs"] == model.counters["fovs"] < own.counters["fovs"]


def test_a_step_beyond_the_view_is_refused():
    with pytest.raises(BadInput, match=r"flood\.deltas"):
        canvas_of(cells(), FloodSettings(deltas=(40, 2, 2)))


def test_an_image_smaller_than_the_view_is_refused():
    with pytest.raises(BadInput, match="smaller than the network's field of view"):
        canvas_of(np.ones((8, 28, 40), np.float32))


def test_nan_is_refused():
    image = cells()
    image[3, 3, 3] = np.nan
    with pytest.raises(BadInput, match="NaN"):
        canvas_of(image)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(BadInput, match=r"\(1, 1, 1\)"):
        canvas_of(cells(), restrictor=Restrictor(np.zeros((1, 1, 1), bool)))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((12, 12, 12), np.uint8), "every voxel"),
        (np.zeros((0, 12, 12), np.uint8), "no voxel"),
        (np.full((12, 12, 12), np.nan, np.float32), "NaN"),
    ],
)
def test_an_image_without_a_picture_is_refused(image, said):
    with pytest.raises(BadInput, match=said):
        normalised(image, SPEC)


def blobs(seed, shape=(20, 24, 28)):
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), 2.5)
    return np.where(field > 0, 1, -1).astype(np.float32)


class Stop(Exception):
    pass


class StopAfter:
    def __init__(self, steps):
        self.left = steps
        self.state = None

    def stepped(self, canvas, growth):
        self.left -= 1
        if self.left == 0:
            self.state = {k: v.copy() for k, v in state_of(canvas).items()}
            raise Stop


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000), step=st.integers(1, 60))
def test_stopped_at_any_step_and_resumed_equals_uninterrupted(seed, step):
    raw = (128 + 64 * blobs(seed)).astype(np.uint8)
    kept = FloodSettings(min_segment_size=30, keep_probability=True, max_object_share=0.3)

    def go(**others):
        return flood(
            raw, brightness, SPEC, voxel_size=(1, 1, 1), settings=kept,
            seeds=SeedSettings(policy="grid", spacing=(5, 5, 5)), **others,
        )  # fmt: skip

    whole = go()
    watcher = StopAfter(step)
    try:
        parts = go(watcher=watcher)
    except Stop:
        parts = go(state=watcher.state)
    assert (parts.segmentation == whole.segmentation).all()
    assert (parts.probability == whole.probability).all()
    assert parts.counters == whole.counters
    assert [o.fovs for o in parts.origins.values()] == [o.fovs for o in whole.origins.values()]


def test_the_map_is_clean_between_objects():
    canvas = run(cells())
    canvas.clear()
    assert np.isnan(canvas.seed).all()


def test_a_fill_pass_keeps_earlier_ids_and_counts_on():
    raw = (128 + 64 * cells()).astype(np.uint8)
    earlier = np.zeros(raw.shape, np.int32)
    earlier[:, :, :20] = 4
    canvas = flood(
        raw, brightness, SPEC, voxel_size=(1, 1, 1), settings=SMALL,
        seeds=SeedSettings(policy="fill"), earlier=earlier,
    )  # fmt: skip
    assert (canvas.segmentation[:, :, :20] == 4).all()
    assert set(canvas.origins) == {5}


def test_reverse_order_tries_the_last_seed_first():
    canvas = canvas_of(cells())
    forward = choose_seeds(canvas, SeedSettings(policy="grid"), (1, 1, 1))
    backward = choose_seeds(canvas, SeedSettings(policy="grid", reverse=True), (1, 1, 1))
    assert forward.tolist() == backward.tolist()[::-1]
