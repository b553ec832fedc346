"""The flood-filling network: a stack of 3-D convolutions that corrects an object map.

What it is: the convolutional residual network of Januszewski et al. 2018 (Nature Methods 15,
"High-precision automated reconstruction of neurons with flood-filling networks"). It sees an
image and the current object map in logits, and gives an update to ADD to that map.
What it is not: where to look (petavox.ffn.moves), or files (petavox.ffn.model).

Every output voxel sees the zero padding at the rim of the field of view (the receptive field of
depth 12 is 49 voxels, the field of view 33), so the field of view is part of the function.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Norm = Literal["none", "layer"]


class ResidualModule(nn.Module):
    """x + conv3(ReLU(norm(conv3(ReLU(norm(x))))))"""

    def __init__(self, features: int, norm: Norm) -> None:
        super().__init__()
        self.first = nn.Conv3d(features, features, 3, padding=1)
        self.second = nn.Conv3d(features, features, 3, padding=1)
        self.norm_first = _norm(features, norm)
        self.norm_second = _norm(features, norm)

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, features, z, y, x)."""
        inner = self.first(functional.relu(self.norm_first(x)))
        return x + self.second(functional.relu(self.norm_second(inner)))


class ConvStack(nn.Module):
    """The network's body.

    depth: number of modules, the first included (12 in the published model: 638,433 parameters).
    features: channels of every convolution.  norm: "none" as published; "layer" normalises the
    channels of each voxel, an aid for deeper nets.
    """

    def __init__(self, depth: int = 12, features: int = 32, norm: Norm = "none") -> None:
        super().__init__()
        self.depth, self.features, self.norm = depth, features, norm
        self.first = nn.Conv3d(2, features, 3, padding=1)
        self.second = nn.Conv3d(features, features, 3, padding=1)
        self.residual = nn.ModuleList(ResidualModule(features, norm) for _ in range(depth - 1))
        self.last = nn.Conv3d(features, 1, 1)

    def forward(self, image_and_seed: Tensor) -> Tensor:
        """Update of the object map.

        image_and_seed: (n, 2, z, y, x); channel 0 the normalised image, channel 1 the map in
        logits.  Returns (n, 1, z, y, x), to be added to the map.
        """
        x = self.second(functional.relu(self.first(image_and_seed)))
        for module in self.residual:
            x = module(x)
        out: Tensor = self.last(functional.relu(x))
        return out


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each voxel, with learned scale and shift."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, features, z, y, x)."""
        last = x.movedim(1, -1)
        out = functional.layer_norm(last, last.shape[-1:], self.weight, self.bias)
        return out.movedim(-1, 1)


def _norm(features: int, norm: Norm) -> nn.Module:
    return ChannelNorm(features) if norm == "layer" else nn.Identity()


def flop_per_voxel(depth: int, features: int) -> int:
    """Floating-point operations (multiply and add counted apart) per voxel of a field of view."""
    return 2 * (27 * features * (2 + features * (2 * depth - 1)) + features)
