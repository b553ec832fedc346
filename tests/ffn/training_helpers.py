"""A small tissue and small settings that the tests of training share."""

from __future__ import annotations

import numpy as np

from petavox.ffn.examples import ExampleSettings
from petavox.ffn.model import ModelSpec
from petavox.ffn.pieces import Source
from petavox.ffn.trainer_settings import TrainerSettings
from petavox.learn.augment import AugmentSettings
from petavox.space import Box

SPEC = ModelSpec(fov=(9, 9, 9), deltas=(2, 2, 2), depth=3, features=4, image_mean=128, image_std=40)


def slabs(shape=(32, 40, 40), start=(0, 0, 0), thickness=8, name="slabs", weight=1.0) -> Source:
    """Slabs along x with dark walls: an object every `thickness` voxels of x."""
    x = np.arange(shape[2])
    grey = np.where(x % thickness == 0, 60, 170)
    noise = np.random.default_rng(1).integers(-10, 10, shape)
    image = (np.broadcast_to(grey, shape) + noise).astype(np.uint8)
    labels = np.broadcast_to(x // thickness + 1, shape).astype(np.uint64).copy()
    box = Box.of_shape(shape, start)
    return Source(
        name=name,
        box=box,
        image=lambda b: image[b.slices(start)],
        labels=lambda b: labels[b.slices(start)],
        weight=weight,
    )


def small(**changes) -> TrainerSettings:
    """Settings of a training of seconds."""
    values = {
        "batch": 2,
        "live": 2,
        "steps": 100,
        "ahead": 0,
        "examples": ExampleSettings(
            block=(32, 40, 40), blocks=2, min_object_size=100, candidates=64, examples_per_block=4
        ),
        "augment": AugmentSettings(),
    }
    return TrainerSettings.model_validate(values | changes)
