"""What training minimises, and what it does to gradients and weights.

What it is: the loss, the clipping of gradient entries, the initial weights and the running mean
of the weights. What it is not: the loop (petavox.ffn.trainer), or the step size
(petavox.learn.schedule).

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods ("FFN training").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from petavox.ffn.network import ConvStack

CLIP = 0.7
"""Every entry of the gradient is cut to +- this."""


def loss(seed: Tensor, update: Tensor, target: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Mean sigmoid cross-entropy of seed + update against a soft target; and seed + update.

    All (n, z, y, x); computed in float32. Where `known` is 0 the loss is 0; the mean is over all
    voxels, known or not, so that the losses of ranks average to the loss of their joint batch.
    """
    logits = seed + update.float()
    each = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (each * known).mean(), logits


def clip(parameters: Iterable[nn.Parameter], most: float = CLIP) -> None:
    """Cut every entry of the gradients to +-most, in place."""
    nn.utils.clip_grad_value_(parameters, most)


def initialised(network: ConvStack, seed: int) -> ConvStack:
    """Fresh weights by He et al. 2015, always the same for the same seed; returns the network.

    The second convolution of each module is scaled down by the square root of the depth, so that
    the sum over all modules keeps its size however deep the network is.
    """
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv3d):
                fan_in = module.in_channels * module.kernel_size[0] ** 3
                scale = (2.0 / fan_in) ** 0.5
                if name.startswith("residual.") and name.endswith(".second"):
                    scale /= network.depth**0.5
                if name == "last":
                    scale *= 0.1  # the first updates of the map are small
                module.weight.copy_(torch.randn(module.weight.shape, generator=rng) * scale)
                assert module.bias is not None
                module.bias.zero_()
    return network


def update_mean(mean: Mapping[str, Tensor], now: Mapping[str, Tensor], decay: float) -> None:
    """Exponential running mean of weights, in place: mean = decay mean + (1 - decay) now."""
    with torch.no_grad():
        for name, tensor in mean.items():
            tensor.lerp_(now[name], 1.0 - decay)
