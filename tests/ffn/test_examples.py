"""Sampling: partitions, balance, purity, bounds of memory, disjoint feeders."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petavox.errors import BadInput
from petavox.ffn.examples import ExampleSettings, Sampler
from petavox.ffn.partitions import PARTITIONS, partition_of, shares
from petavox.ffn.pieces import Source, renumbered
from petavox.space import Box
from tests.ffn.training_helpers import slabs

SMALL = ExampleSettings(
    block=(32, 40, 40), blocks=2, min_object_size=100, candidates=64, examples_per_block=4
)


def sampler(sources=None, **changes):
    values = {"patch": (13, 13, 13), "radius": (6, 6, 6), "settings": SMALL, "seed": 3}
    return Sampler(sources or [slabs()], **(values | changes))


def test_thirteen_partitions_with_the_published_bounds():
    assert PARTITIONS == 13
    given = [0.0, 0.024, 0.025, 0.05, 0.0751, 0.15, 0.2, 0.89, 0.9, 1.0]
    assert partition_of(np.array(given)).tolist() == [0, 0, 1, 2, 3, 4, 5, 11, 12, 12]


def test_share_of_an_object_is_counted_in_the_box_around_the_point():
    labels = np.ones((5, 5, 7), np.int32)
    labels[:, :, 4:] = 2
    # box of +-(2, 2, 1) around x = 3 holds x = 2, 3 of object 1 and x = 4 of object 2
    points = np.array([[2, 2, 3], [2, 2, 4], [2, 2, 2]])
    assert shares(labels, points, (2, 2, 1)) == pytest.approx([2 / 3, 2 / 3, 1.0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.booleans())
def test_renumbered_labels_keep_their_voxels(values, huge):
    labels = np.array(values, np.uint64) * (np.uint64(1 << 40) if huge else np.uint64(1))
    numbers, counts = renumbered(labels)
    assert ((numbers == 0) == (labels == 0)).all()
    for i, n in enumerate(numbers):
        assert ((numbers == n) == (labels == labels[i])).all()
        assert counts[n] == (labels == labels[i]).sum()


def test_an_example_is_a_pure_function_of_its_number():
    a, b = sampler(), sampler()
    wanted = [a.example(i) for i in range(12)]
    for i in (11, 3, 0, 7):
        found = b.example(i)
        assert found.centre == wanted[i].centre
        assert (found.image == wanted[i].image).all()
    assert len({e.centre for e in wanted}) > 6


def test_the_centre_of_an_example_is_what_was_drawn():
    source = slabs(start=(-7, 3, 100))
    for i in range(10):
        e = sampler([source]).example(i)
        at = Box(e.centre, tuple(c + 1 for c in e.centre))
        assert e.image.shape == e.labels.shape == (13, 13, 13)
        assert e.image[6, 6, 6] == source.image(at).item()
        assert e.labels[6, 6, 6] == source.labels(at).item()  # slabs are numbered from 1
        assert source.box.contains(at.grown(6))


def test_partitions_are_drawn_equally_often():
    # a trunk that fills nearly all and a thread that fills nearly nothing
    labels = np.ones((40, 40, 40), np.uint32)
    labels[:, 20, 20] = 2
    image = np.zeros(labels.shape, np.uint8)
    source = Source(
        "two", Box.of_shape(labels.shape), lambda b: image[b.slices()], lambda b: labels[b.slices()]
    )
    options = SMALL.model_copy(
        update={
            "block": (40, 40, 40),
            "min_object_size": 10,
            "candidates": 8_000,
            "examples_per_block": 1000,
        }
    )
    s = sampler([source], settings=options)
    counts = np.bincount([s.example(i).partition for i in range(60)], minlength=13)
    assert counts[0] > 15  # one voxel in 1600 is the thread's
    assert counts[12] > 15


def test_weights_share_out_the_examples():
    sources = [slabs(name="a", weight=3.0), slabs(name="b", weight=1.0)]
    s = sampler(sources)
    share = np.mean([s.example(i).source == 0 for i in range(300)])
    assert 0.6 < share < 0.9


def test_only_sub_blocks_of_a_huge_volume_are_read():
    asked = []

    def labels(box):
        asked.append(box)
        z = np.arange(box.start[0], box.stop[0])[:, None, None]
        return np.broadcast_to(z // 50 + 1, box.shape).astype(np.uint64)

    huge = Source(
        "huge", Box((0, 0, 0), (10_000, 10_000, 100_000)),
        lambda b: np.zeros(b.shape, np.uint8), labels,
    )  # fmt: skip
    s = sampler([huge])
    for i in range(30):
        s.example(i)
    assert max(b.size for b in asked) <= 32 * 40 * 40
    assert len({b.start for b in asked}) == len(asked) >= 8


def test_memory_of_kept_pieces_is_bounded():
    huge = Source(
        "huge", Box((0, 0, 0), (1000, 1000, 1000)),
        lambda b: np.zeros(b.shape, np.uint8), lambda b: np.ones(b.shape, np.uint8),
    )  # fmt: skip
    options = SMALL.model_copy(update={"block": (128, 128, 128), "memory_mb": 16, "candidates": 16})
    s = sampler([huge], settings=options)
    s.example(0)
    s.example(20)
    assert len(s._pieces.kept) == 1  # 10 MiB each


def test_what_was_let_go_is_freed_and_read_again_to_the_same_examples():
    made = []

    def image(box):
        voxels = np.full(box.shape, box.start[2] % 251, np.uint8)
        made.append(weakref.ref(voxels))
        return voxels

    huge = Source(
        "huge", Box((0, 0, 0), (1000, 1000, 1000)), image, lambda b: np.ones(b.shape, np.uint8)
    )
    options = SMALL.model_copy(update={"block": (128, 128, 128), "candidates": 16})
    small = options.model_copy(update={"memory_mb": 16})
    tight, wide = sampler([huge], settings=small), sampler([huge], settings=options)
    for i in (0, 1, 20, 0):
        a, b = tight.example(i), wide.example(i)
        assert a.centre == b.centre
        np.testing.assert_array_equal(a.image, b.image)
        del a, b
    del wide
    gc.collect()
    assert sum(voxels() is not None for voxels in made) == 1


def test_blocks_that_are_read_again_and_again_are_told_once(caplog):
    huge = Source(
        "huge", Box((0, 0, 0), (1000, 1000, 1000)),
        lambda b: np.zeros(b.shape, np.uint8), lambda b: np.ones(b.shape, np.uint8),
    )  # fmt: skip
    options = SMALL.model_copy(update={"block": (128, 128, 128), "memory_mb": 16, "candidates": 16})

    def said(options):
        caplog.clear()
        s = sampler([huge], settings=options)
        for i in range(4):
            s.example(i)
        return [r.getMessage() for r in caplog.records]

    # 2 blocks of 10 MiB
    (once,) = said(options)
    assert "examples.memory_mb is 16" in once
    assert "raise it to 20 " in once
    assert said(options.model_copy(update={"memory_mb": 20})) == []


def test_small_objects_margin_and_mask_are_left_out():
    labels = np.zeros((32, 40, 40), np.uint16)
    labels[8:24, 8:32, 8:20] = 1
    labels[15:17, 15:17, 30:32] = 2
    labels[8:24, 8:32, 20:26] = 3
    image = np.zeros(labels.shape, np.uint8)
    mask = np.ones(labels.shape, np.uint8)
    mask[:, :, 20:26] = 0
    source = Source(
        "masked", Box.of_shape(labels.shape), lambda b: image[b.slices()],
        lambda b: labels[b.slices()], lambda b: mask[b.slices()],
    )  # fmt: skip
    options = SMALL.model_copy(update={"margin": (2, 0, 0)})
    s = sampler([source], settings=options)
    for i in range(40):
        e = s.example(i)
        assert labels[e.centre] == 1
        assert 8 <= e.centre[0] < 24
        assert e.known[6, 6, 6]


def test_centres_keep_clear_of_other_objects():
    source = slabs()
    clear = SMALL.model_copy(update={"clearance": (0, 2, 1)})
    drawn = sampler([source], settings=clear)
    free = sampler([source])
    near = 0
    for i in range(40):
        for which in (drawn, free):
            e = which.example(i)
            middle = e.labels[6, 4:9:2, 6], e.labels[6, 6, 5:8]
            alone = all((line == e.labels[6, 6, 6]).all() for line in middle)
            if which is drawn:
                assert alone
            near += not alone
    assert near > 0  # without it some centres do stand beside another object
    with pytest.raises(BadInput, match="clearance"):
        sampler([source], settings=SMALL.model_copy(update={"clearance": (0, 0, 9)}))


@pytest.mark.parametrize("feeders", [2, 3, 7, 12])
def test_feeders_draw_disjoint_centres(feeders):
    seen: dict[tuple[int, int, int], int] = {}
    for feeder in range(feeders):
        s = sampler(feeder=feeder, feeders=feeders)
        for i in range(40):
            assert seen.setdefault(s.example(i).centre, feeder) == feeder


def test_context_beyond_the_volume_is_unknown():
    s = sampler([slabs(shape=(13, 40, 40))], context=(0, 4, 4), settings=SMALL)
    e = [s.example(i) for i in range(30)]
    assert all(x.image.shape == (13, 21, 21) for x in e)
    beyond = [x for x in e if x.centre[2] < 10]
    assert beyond
    for x in beyond:
        outside = 10 - x.centre[2]
        assert not x.known[:, :, :outside].any()
        assert x.known[:, 10, outside:].all() or x.centre[1] < 10 or x.centre[2] > 29


def test_a_volume_too_small_for_a_patch_is_refused():
    with pytest.raises(BadInput, match="a patch needs"):
        sampler([slabs(shape=(12, 40, 40))])


def test_a_volume_without_objects_is_refused_in_a_sentence():
    nothing = Source(
        "empty", Box.of_shape((32, 40, 40)),
        lambda b: np.zeros(b.shape, np.uint8), lambda b: np.zeros(b.shape, np.uint8),
    )  # fmt: skip
    with pytest.raises(BadInput, match="min_object_size"):
        sampler([nothing]).example(0)
