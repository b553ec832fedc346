"""The batched driver against the plain one: labels, origins and counters must be equal."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import petavox as pv
from petavox.ffn.batched import LockStep
from petavox.ffn.flood import SeedSettings, flood, prepared
from petavox.ffn.growth import FloodSettings
from petavox.ffn.lanes import LaneSettings
from petavox.ffn.model import load_model
from petavox.ffn.moves import moves, moves_of_many, quantised, quantised_many
from petavox.ffn.predictor import Predictor
from petavox.ffn.restrict import Restrictor
from petavox.ffn.shipped import MODEL
from petavox.ffn.tune import Candidate, knobs
from petavox.ffn.tuned_work import flooding
from tests.ffn.brightness import brightness_model

TINY = brightness_model(deltas=(3, 3, 3))
SMALL = FloodSettings(min_segment_size=60, max_object_share=0.4)
SIZES = ((19, 23, 27), (27, 19, 21), (21, 21, 32))


CORNERS = ((60, 60, 60), (100, 20, 130), (20, 170, 40))


def tissue(shape, seed):
    """Bright blobs between dark walls, with grain: objects of many shapes, merges and specks."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 2.2)
    grey = 128 + 40 * np.sign(smooth - 0.5 * smooth.std()) + 20 * rng.normal(size=shape)
    return grey.clip(0, 255).astype(np.uint8)


def facts(canvas):
    origins = {i: dataclasses.replace(o, seconds=0) for i, o in canvas.origins.items()}
    return origins, dict(canvas.counters), canvas.next_id


def both(images, model=TINY, lanes=None, seeds=None, **others):
    """Canvases flooded by the plain driver, and by lanes; others: for each image, or for all."""
    predictor = Predictor(model)
    seeds = seeds or SeedSettings(policy="grid", spacing=(6, 6, 6))
    each = [
        {"voxel_size": (8, 8, 8), "settings": SMALL, "seeds": seeds}
        | {k: v[i] if isinstance(v, list) else v for k, v in others.items()}
        for i in range(len(images))
    ]
    plain = [flood(i, predictor, model.spec, **o) for i, o in zip(images, each, strict=True)]
    fast = [prepared(i, predictor, model.spec, **o) for i, o in zip(images, each, strict=True)]
    driver = LockStep(fast, predictor, lanes)
    driver.run()
    return plain, fast, driver


def assert_equal(plain, fast):
    for one, other in zip(plain, fast, strict=True):
        np.testing.assert_array_equal(one.segmentation, other.segmentation)
        assert facts(one) == facts(other)


def test_three_lanes_of_different_size_give_the_plain_result():
    plain, fast, driver = both([tissue(s, i) for i, s in enumerate(SIZES)])
    assert sum(c.counters["objects"] for c in plain) >= 4
    assert_equal(plain, fast)
    # lock-step: the rounds are those of the longest lane, not the sum
    steps = [c.counters["fovs"] for c in plain]
    assert max(steps) <= driver.rounds < sum(steps)


@given(st.integers(0, 10**6), st.sampled_from([0, 3, 40]), st.booleans())
@settings(max_examples=4)
def test_any_tissue_and_any_pretest_give_the_plain_result(seed, pretest, reverse):
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(9, 30, 3).tolist()) for _ in range(2)]
    plain, fast, _ = both(
        [tissue(s, seed + i) for i, s in enumerate(shapes)],
        lanes=LaneSettings(pretest=pretest),
        seeds=SeedSettings(policy="grid", spacing=(5, 5, 5), reverse=reverse),
        settings=FloodSettings(min_segment_size=30, max_object_share=0.1),
    )
    assert_equal(plain, fast)


def test_restrictions_earlier_objects_and_probabilities_are_those_of_the_plain_driver():
    shape = (27, 27, 33)
    images = [tissue(shape, 5), tissue(shape, 6)]
    shift = np.zeros((2, *shape), np.float32)
    shift[1, 13, :, 20:] = 5
    mask, seed_mask = np.zeros(shape, bool), np.zeros(shape, bool)
    mask[:, 10:13] = True
    seed_mask[:, :, :8] = True
    earlier = np.zeros(shape, np.int32)
    earlier[4:9, 16:, 4:15] = 1
    plain, fast, _ = both(
        images,
        restrictor=[Restrictor(mask=mask, seed_mask=seed_mask), Restrictor(shift=shift)],
        earlier=[earlier, None],
        settings=FloodSettings(min_segment_size=30, keep_probability=True, disco_threshold=-1),
    )
    assert plain[0].counters["moves_restricted"] > 0
    assert_equal(plain, fast)
    for one, other in zip(plain, fast, strict=True):
        np.testing.assert_array_equal(one.probability, other.probability)


def test_the_shipped_model_gives_the_plain_result_on_real_tissue(real_data):
    raw = pv.open(real_data("fib25/training_sample2.h5/raw"))
    model = load_model(MODEL)
    shape = [f + 8 for f in model.spec.fov]
    images = [raw.read(pv.Box.of_shape(shape, at)) for at in CORNERS]
    plain, fast, _ = both(
        images,
        model,
        LaneSettings(pretest=4),
        SeedSettings(policy="peaks"),
        settings=FloodSettings(min_segment_size=200, max_object_share=1),
    )
    assert sum(c.counters["objects"] for c in plain) >= 1
    assert_equal(plain, fast)


def test_a_batch_of_several_gives_the_same_objects_whatever_lanes_are_beside_it():
    images = [tissue(s, i) for i, s in enumerate(SIZES)]
    plain, fast, _ = both(images, lanes=LaneSettings(per_call=4))
    _, alone, _ = both(images[:1], lanes=LaneSettings(per_call=4))
    np.testing.assert_array_equal(fast[0].segmentation, alone[0].segmentation)
    for one, other in zip(plain, fast, strict=True):  # up to rounding at the threshold
        assert np.mean(one.segmentation != other.segmentation) < 0.02


@pytest.mark.parametrize(
    "lanes",
    [LaneSettings(objects=3), LaneSettings(frontier=3), LaneSettings(objects=2, frontier=2)],
)
def test_other_orders_find_the_same_tissue(lanes):
    images = [tissue((25, 25, 25), i) for i in (1, 2)]
    plain, fast, driver = both(images, lanes=lanes)
    for one, other in zip(plain, fast, strict=True):
        found, known = other.segmentation > 0, one.segmentation > 0
        assert np.mean(found != known) < 0.15
        ids = np.unique(other.segmentation)
        assert (ids[ids > 0] == np.arange(1, len(other.origins) + 1)).all()
    assert driver.rounds < sum(c.counters["fovs"] for c in fast)


def test_a_frontier_never_holds_two_views_with_a_common_voxel():
    images = [tissue((25, 25, 25), 1)]
    predictor = Predictor(TINY)
    seeds = SeedSettings(policy="grid", spacing=(6, 6, 6))
    canvas = prepared(
        images[0], predictor, TINY.spec, voxel_size=(8, 8, 8), settings=SMALL, seeds=seeds
    )
    driver = LockStep([canvas], predictor, LaneSettings(frontier=4))
    take, most = driver.maps.take, []

    def spy(lanes, k):
        taken = take(lanes, k)
        points = taken.points[0][taken.chosen[0]].numpy()
        apart = np.abs(points[:, None] - points[None]).max(-1)
        assert (apart[~np.eye(len(points), dtype=bool)] >= 9).all()
        most.append(len(points))
        return taken

    driver.maps.take = spy
    driver.run()
    assert max(most) > 1


@given(st.integers(0, 10**6), st.sampled_from([(2, 2, 2), (1, 3, 2), (0, 2, 3)]), st.booleans())
@settings(max_examples=25)
def test_moves_of_many_are_the_moves_of_each(seed, deltas, ties):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, 9, 9, 7)).astype(np.float32)
    if ties:
        logits = np.round(logits)
    scores, offsets, worth = moves_of_many(torch.from_numpy(logits), deltas, 0.4)
    for i in range(3):
        got = [
            (float(s), tuple(o))
            for s, o in zip(scores[i][worth[i]], offsets[i][worth[i]].tolist(), strict=True)
        ]
        assert got == [(m.score, m.offset) for m in moves(logits[i], deltas, 0.4)]


@given(st.lists(st.tuples(*[st.integers(0, 60)] * 6), min_size=1, max_size=20))
def test_quantised_many_is_quantised_of_each(pairs):
    deltas = (8, 3, 0)
    points = torch.tensor([p[:3] for p in pairs])
    starts = torch.tensor([p[3:] for p in pairs])
    got = quantised_many(points, starts, deltas).tolist()
    assert [tuple(g) for g in got] == [quantised(p[:3], p[3:], deltas) for p in pairs]


@pytest.mark.parametrize("candidate", [Candidate(), Candidate(lanes=3, batch=2)])
def test_tuning_measures_rounds_of_all_lanes(candidate):
    step = flooding(TINY.spec, candidate, "cpu")
    assert [step(), step()] == [candidate.lanes, candidate.lanes]


def test_tuning_tries_lanes_for_flooding_only():
    for work, tried in (("segment", True), ("train", False)):
        knobs_ = knobs(work, 2, compiler=False, processor=True)
        assert any("lanes" in knob for knob in knobs_) == tried
