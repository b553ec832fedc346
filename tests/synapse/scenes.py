"""A network made by hand that reads classes from greys, and a scene drawn in such greys."""

from __future__ import annotations

import numpy as np
import torch

from petavox.synapse.model import SynapseSpec, save_model
from petavox.synapse.network import UNet

GREY = {"cleft": 200, "pre": 100, "post": 150, "mitochondria": 50}
WIDTH = 20.0


def spec(**changes) -> SynapseSpec:
    given = {
        "features": (12, 2), "kernels": ((3, 3, 3), (1, 3, 3)), "steps": ((1, 2, 2),),
        "image_mean": 0.0, "image_std": 1.0, "voxel_size": (10, 10, 10),
    }  # fmt: skip
    return SynapseSpec.model_validate(given | changes)


def reader_of_greys(where) -> UNet:
    """Each class is said where the grey lies within WIDTH / 2 of its own."""
    net = where.fresh()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv3d):
                module.weight.zero_()
                module.bias.zero_()
            elif isinstance(module, torch.nn.BatchNorm3d):
                module.eps = 0.0
        for k, grey in enumerate(GREY.values()):
            for j, (edge, weight) in enumerate([(-WIDTH, 1.0), (0.0, -2.0), (WIDTH, 1.0)]):
                f = 3 * k + j
                net.down[0].first.weight[f, 0, 1, 1, 1] = 1.0
                net.down[0].first.bias[f] = -(grey + edge)
                net.merge[0].first.weight[f, f, 1, 1, 1] = 1.0
                net.last.weight[k, f, 0, 0, 0] = weight
            net.last.bias[k] = -WIDTH / 2
    return net


def save_reader(path) -> None:
    save_model(path, spec(), reader_of_greys(spec()).state_dict())


def scene(shape=(40, 64, 72)) -> tuple[np.ndarray, np.ndarray, dict]:
    """Image, objects, and what is true of its three synapses, in voxels.

    Objects are slabs along x: 1 below x 24, then 2 (y < 30) and 3 above it, 4 from x 48 on.
    """
    labels = np.zeros(shape, np.uint64)
    labels[:, :, :24] = 1
    labels[:, :30, 24:48] = 2
    labels[:, 30:, 24:48] = 3
    labels[:, :, 48:] = 4
    image = np.zeros(shape, np.uint8)

    def synapse(z, y, x, before):
        """A cleft in the plane x; before: the presynaptic side lies at smaller x."""
        side = [slice(x - 4, x - 1), slice(x + 1, x + 4)]
        image[z, y, side[0]] = GREY["pre" if before else "post"]
        image[z, y, side[1]] = GREY["post" if before else "pre"]
        image[z, y, x - 1 : x + 1] = GREY["cleft"]

    synapse(slice(4, 12), slice(22, 38), 24, True)  # 1 -> 2 and 3
    synapse(slice(14, 20), slice(8, 14), 48, False)  # 4 -> 2
    synapse(slice(26, 38), slice(30, 40), 48, True)  # 3 -> 4
    image[30:36, 10:20, 4:14] = GREY["mitochondria"]
    truth = {
        (1, (2, 3)): (7.5, 29.5, 23.5),
        (4, (2,)): (16.5, 10.5, 47.5),
        (3, (4,)): (31.5, 34.5, 47.5),
    }
    return image, labels, truth
