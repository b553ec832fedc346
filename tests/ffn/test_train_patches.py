"""Walks and patches: where the network is taken, and what it is told."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from petavox.ffn import patches
from petavox.ffn.examples import Sampler
from petavox.ffn.model import ModelSpec, logit
from petavox.ffn.patches import Feeder, Patch, patch_shape
from petavox.ffn.walks import Walk, WalkSettings, lattice
from petavox.learn.augment import AugmentSettings
from tests.ffn.training_helpers import SPEC, slabs, small

HIGH, LOW = logit(0.97), logit(0.05)


def walk(policy="fixed", seed=0, **changes):
    options = WalkSettings(policy=policy, **changes)
    rng = np.random.default_rng(seed)
    return Walk(options, SPEC.fov, SPEC.deltas, logit(0.9), rng)


def went(w: Walk, canvas: np.ndarray) -> list[tuple[int, int, int]]:
    while w.offset is not None:
        w.stepped(canvas)
    return w.visited


def test_patch_is_fov_and_moves():
    assert patch_shape((33, 33, 33), (8, 8, 8), 1) == (49, 49, 49)
    assert patch_shape((17, 33, 33), (4, 8, 8), 2) == (33, 65, 65)


def test_lattice_has_26_places_and_98_around_them():
    rings = lattice((4, 8, 8), 2)
    assert [len(r) for r in rings] == [26, 98]
    assert set(rings[0]) == {
        (z, y, x) for z in (-4, 0, 4) for y in (-8, 0, 8) for x in (-8, 0, 8)
    } - {(0, 0, 0)}
    assert len(lattice((0, 8, 8), 1)[0]) == 8


def test_a_full_map_is_walked_once_everywhere_in_an_order_of_chance():
    full = np.full((13, 13, 13), HIGH, np.float32)
    a, b = went(walk(seed=1), full), went(walk(seed=2), full)
    assert a[0] == b[0] == (0, 0, 0)
    assert len(a) == len(set(a)) == 27
    assert set(a) == set(b)
    assert a != b


def test_the_current_map_decides_not_the_truth():
    canvas = np.full((13, 13, 13), LOW, np.float32)
    canvas[6, 6, 8] = HIGH
    assert went(walk(), canvas) == [(0, 0, 0), (0, 0, 2)]


def test_a_place_may_become_likely_while_walking():
    w = walk(seed=3)
    canvas = np.full((13, 13, 13), LOW, np.float32)
    canvas[6, 6, 8] = HIGH
    w.stepped(canvas)
    assert w.offset == (0, 0, 2)
    late = next(p for p in w.waiting)
    canvas[tuple(6 + o for o in late)] = HIGH
    w.stepped(canvas)
    assert w.offset == late


def test_fixed_window_accepts_a_thin_process_that_misses_the_lattice():
    canvas = np.full((13, 13, 13), LOW, np.float32)
    canvas[6, 7, 8:] = HIGH
    assert went(walk(), canvas) == [(0, 0, 0)]
    near = went(walk("fixed_window", window=(0, 1, 0)), canvas)
    assert set(near) == {(0, 0, 0), (0, 0, 2), (0, 2, 2)}


def test_max_pred_moves_follows_a_tube_to_the_rim_of_the_patch():
    canvas = np.full((21, 21, 21), LOW, np.float32)
    canvas[10, 10, :] = HIGH
    seen = went(walk("max_pred_moves", moves=3), canvas)
    assert seen[0] == (0, 0, 0)
    assert {p[2] for p in seen} == {-6, -4, -2, 0, 2, 4, 6}
    assert all(p[:2] == (0, 0) for p in seen)
    assert len(went(walk("max_pred_moves", moves=3, most=4), canvas)) == 4


def test_a_walk_goes_on_from_its_state():
    canvas = np.full((13, 13, 13), HIGH, np.float32)
    for policy in ("fixed", "max_pred_moves"):
        a = walk(policy)
        for _ in range(5):
            a.stepped(canvas)
        b = walk(policy, seed=9)
        b.restore(a.state())
        assert went(a, canvas) == went(b, canvas)


def patch(inside):
    shape = inside.shape
    return Patch(np.zeros(shape, np.float32), inside, np.ones(shape, bool), SPEC, walk())


def test_targets_are_soft_and_the_map_starts_with_one_voxel():
    inside = np.zeros((13, 13, 13), bool)
    inside[:, :, 6:] = True
    p = patch(inside)
    image, seed, target, known = p.view()
    assert image.shape == seed.shape == target.shape == known.shape == (9, 9, 9)
    assert np.unique(target).tolist() == pytest.approx([0.05, 0.95])
    assert (target > 0.5).sum() == 9 * 9 * 5
    assert seed[4, 4, 4] == np.float32(logit(0.95))
    assert np.delete(seed.ravel(), 364).tolist() == pytest.approx([logit(0.05)] * 728)


def test_figures_of_a_patch_count_voxels_and_moves():
    inside = np.zeros((13, 13, 13), bool)
    inside[:, :, 6:] = True  # 17 of the 26 places are due
    p = patch(inside)
    p.canvas[:] = LOW
    p.canvas[:, :, :7] = HIGH  # and these are made: x = -2 (9 places) and x = 0 (8 places)
    found = p.figures(logit(0.9))
    assert found["moves_right"] == 8
    assert found["moves_missed"] == 9
    assert found["moves_spurious"] == 9
    assert found["voxels_right"] == 13 * 13
    assert found["voxels_spurious"] == 13 * 13 * 6
    assert found["voxels_missed"] == 13 * 13 * 6


def feeder(ahead=0, live=3, batch=2):
    options = small()
    sampler = Sampler(
        [slabs()], patch=(13, 13, 13), radius=(6, 6, 6), settings=options.examples, seed=5
    )
    return Feeder(
        sampler, SPEC, WalkSettings(), AugmentSettings(contrast_chance=0.5),
        batch=batch, live=live, ahead=ahead,
    )  # fmt: skip


def answers(f: Feeder, steps: int):
    out = []
    for _ in range(steps):
        batch = f.batch()
        out.append(batch)
        # an answer that depends on the input: the image decides where the object is
        f.write(np.where(batch.image > 0, np.float32(HIGH), np.float32(LOW)))
    return out


def test_consecutive_batches_come_from_different_patches():
    f = feeder()
    first, second, third, again = answers(f, 4)
    for other in (second, third):
        assert not np.array_equal(first.image[0], other.image[0])
    assert len(f.patches) == 6
    assert f.patches[0].walk.visited[0] == (0, 0, 0)
    assert again.image.shape == first.image.shape


def test_batches_do_not_depend_on_the_thread_that_prepares_them():
    for a, b in zip(answers(feeder(), 40), answers(f := feeder(ahead=3), 40), strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    f.close()


def test_the_end_does_not_wait_for_a_disk_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(patches, "PATIENCE_S", 0.1)
    f, example = feeder(ahead=1, live=1, batch=1), Sampler.example
    answer = threading.Event()

    def hangs(self, number):
        if number > 0:
            answer.wait(20)
        return example(self, number)

    monkeypatch.setattr(Sampler, "example", hangs)
    f.batch()
    began = time.monotonic()
    f.close()
    answer.set()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("ahead", [0, 2])
def test_a_feeder_goes_on_from_its_state(ahead):
    a = feeder()
    answers(a, 17)
    b = feeder(ahead=ahead)
    b.restore(a.state())
    for x, y in zip(answers(a, 30), answers(b, 30), strict=True):
        assert all(np.array_equal(p, q) for p, q in zip(x, y, strict=True))
    b.close()


def test_anisotropic_geometry():
    spec = ModelSpec(
        fov=(5, 9, 9), deltas=(1, 2, 2), depth=3, features=4, image_mean=128, image_std=40
    )
    w = Walk(WalkSettings(), spec.fov, spec.deltas, logit(0.9), np.random.default_rng(0))
    p = Patch(np.zeros((7, 13, 13), np.float32), np.ones((7, 13, 13), bool),
              np.ones((7, 13, 13), bool), spec, w)  # fmt: skip
    steps = 0
    while not p.over:
        assert p.view()[0].shape == (5, 9, 9)
        p.write(np.full((5, 9, 9), HIGH, np.float32))
        steps += 1
    assert steps == 27
