"""A network worked out by hand: what is bright belongs to the object, what is dark does not.

With an image of +1 inside cells and -1 on membranes the corrected map is +6 or -6 logits, whatever
it was before, so floods can be checked without a trained model. Used by several test modules; give
the image a little noise, so that faces have one best voxel each.
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
        features=4,
        image_mean=128,
        image_std=64,
        **others,
    )


def brightness_weights() -> dict[str, torch.Tensor]:
    """Features 0..3 carry +image, -image, +map, -map; the last layer gives 6 x image - map."""
    weights = {k: torch.zeros_like(v) for k, v in ConvStack(2, 4).state_dict().items()}
    for feature, (channel, sign) in enumerate([(0, 1), (0, -1), (1, 1), (1, -1)]):
        weights["first.weight"][feature, channel, 1, 1, 1] = sign
        weights["second.weight"][feature, feature, 1, 1, 1] = 1
    weights["last.weight"][0, :, 0, 0, 0] = torch.tensor([GAIN, -GAIN, -1, 1])
    return weights


def brightness_model(**others) -> Model:
    spec = brightness_spec(**others)
    network = ConvStack(2, 4)
    network.load_state_dict(brightness_weights())
    return Model(spec, network.eval().requires_grad_(False), "brightness")
