"""A small tissue with settings to learn from it, and a network by hand that knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from petavox.ffn.model import Model, ModelSpec
from petavox.ffn.network import ConvStack
from petavox.space import Box
from petavox.stages.train_validation import Validation
from petavox.stages.training_settings import ValidationSettings
from petavox.volume import Volume
from petavox.volume import open as open_volume
from petavox.volume.opening import create, finish

TEXT = """
model: {fov: 9, deltas: 2, depth: 3, features: 4, image_mean: 128, image_std: 40}
volumes:
  - {image: $TISSUE/image, labels: $TISSUE/labels, box: '0:16,0:40,0:44'}
validation:
  image: $TISSUE/image
  labels: $TISSUE/labels
  box: 16:32,0:24,0:24
  evaluations: 5
  flood: {min_segment_size: 10}
threads: 1
trainer:
  batch: 2
  live: 2
  steps: 4
  ahead: 0
  examples: {block: [16, 40, 40], blocks: 2, min_object_size: 100, candidates: 32}
"""


SHAPE = (32, 40, 44)


def stored(
    folder: Path,
    name: str,
    values: np.ndarray,
    kind="labels",
    voxel_size=(10, 10, 10),
    start=(0, 0, 0),
) -> Volume:
    """A volume in a folder."""
    volume = create(
        folder / name, box=Box.of_shape(values.shape, start), voxel_size=voxel_size,
        dtype=values.dtype, kind=kind, chunk=(16, 16, 16), shard=(32, 48, 48),
    )  # fmt: skip
    volume.write(volume.box, values)
    finish(volume, {})
    return volume


def tissue_in(folder: Path) -> Path:
    """A settings file, and a tissue of slabs eight voxels thick with dark walls of four: no view
    of nine voxels from inside a slab sees past a wall. Needs $TISSUE to be the folder."""
    x = np.broadcast_to(np.arange(44), SHAPE)
    wall = x % 12 >= 8
    # noise, so that the best place of a face is not always its corner
    noise = np.random.default_rng(0).integers(-15, 16, SHAPE)
    stored(folder, "image", (np.where(wall, 60, 170) + noise).astype(np.uint8), "image")
    stored(folder, "labels", np.where(wall, 0, x // 12 + 1).astype(np.uint64))
    path = folder / "train.yaml"
    path.write_text(TEXT)
    return path


def bright(fov=(9, 9, 9), bias=0.0) -> Model:
    """A network by hand: logits follow brightness, whatever was thought before."""
    network = ConvStack(2, 4)
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
        # feature 0 carries the image's positive part, 1 the seed's, 2 the seed's negative part
        for f, (channel, sign) in enumerate([(0, 1.0), (1, 1.0), (1, -1.0), (0, -1.0)]):
            network.first.weight[f, channel, 1, 1, 1] = sign
            network.second.weight[f, f, 1, 1, 1] = 1.0
        network.last.weight[0, :, 0, 0, 0] = torch.tensor([8.0, -1.0, 1.0, -8.0])
        network.last.bias[0] = bias
    spec = ModelSpec(fov=fov, deltas=(2, 2, 2), depth=2, features=4, image_mean=120, image_std=40)
    return Model(spec, network)


def validation(folder: Path, **changes: Any) -> Validation:
    """The validation of a box of the tissue."""
    base = {
        "image": "image", "labels": "labels", "flood": {"min_segment_size": 10},
        "evaluations": 1000, "box": "0:14,0:20,0:44",
        "seeds": {"policy": "grid", "spacing": [4, 4, 4]},
    }  # fmt: skip
    options = ValidationSettings.model_validate(base | changes)
    assert options.box is not None
    mask = None if options.mask is None else open_volume(folder / options.mask)
    return Validation(
        options, bright().spec, options.box, open_volume(folder / "image"),
        open_volume(folder / "labels"), mask, torch.device("cpu"),
    )  # fmt: skip
