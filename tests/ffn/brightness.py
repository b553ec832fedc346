"""A network worked out by hand: what is bright belongs to the object, what is dark does not.

With an image of +1 inside cells and -1 on membranes it adds +6 or -6 logits per visit, so floods
can be checked without a trained model. Used by several test modules.
"""

from __future__ import annotations

import torch

from petavox.ffn.model import Model, ModelSpec
from petavox.ffn.network import ConvStack

GAIN = 6.0


def brightness_spec(fov=(9, 9, 9), deltas=(2, 2, 2), **others) -> ModelSpec:
    return ModelSpec(
        fov=fov,
        deltas=deltas,
        depth=2,
        features=2,
        image_mean=128,
        image_std=64,
        **others,
    )


def brightness_weights() -> dict[str, torch.Tensor]:
    """Feature 0 carries +image, feature 1 carries -image; the last layer takes their difference."""
    weights = {k: torch.zeros_like(v) for k, v in ConvStack(2, 2).state_dict().items()}
    weights["first.weight"][0, 0, 1, 1, 1] = 1
    weights["first.weight"][1, 0, 1, 1, 1] = -1
    for feature in (0, 1):
        weights["second.weight"][feature, feature, 1, 1, 1] = 1
    weights["last.weight"][0, 0] = GAIN
    weights["last.weight"][0, 1] = -GAIN
    return weights


def brightness_model(**others) -> Model:
    spec = brightness_spec(**others)
    network = ConvStack(2, 2)
    network.load_state_dict(brightness_weights())
    return Model(spec, network.eval().requires_grad_(False), "brightness")
