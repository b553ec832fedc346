"""One step of the network: object map in, corrected object map out.

What it is: the network on a device at a precision, called with fields of view as arrays.
What it is not: the flood. The map itself is always float32; only the network's inside may be
bfloat16 or int8 (petavox.ffn.int8).

In bf16 the convolutions multiply bfloat16, but the residual stream (the sum that runs through
all modules) and the last layer stay float32: rounding the stream after every module is what costs
most of the accuracy of a step (docs/ffn.md has the measurement). A processor without instructions
for bfloat16 gets the same rounding with products in float32, at f32's speed; torch's own way there
is several times slower.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from petavox.errors import BadInput
from petavox.ffn import int8
from petavox.ffn.model import Model
from petavox.ffn.network import ConvStack, ResidualModule
from petavox.learn.bf16 import multiplies_bf16

Precision = Literal["f32", "bf16", "int8"]


class MixedStack(nn.Module):
    """A ConvStack whose convolutions run in bfloat16 between float32 residual sums."""

    def __init__(self, network: ConvStack, *, native: bool = True) -> None:
        """native: the device multiplies bfloat16 itself (`multiplies_bf16`)."""
        super().__init__()
        self.first = _bf16(network.first, native)
        self.second = _bf16(network.second, native)
        self.residual = nn.ModuleList(_MixedModule(m, native) for m in network.residual)
        self.last = nn.Linear(network.features, 1)
        last = network.last.state_dict()
        self.last.load_state_dict({"weight": last["weight"].view(1, -1), "bias": last["bias"]})

    def forward(self, image_and_seed: Tensor) -> Tensor:
        """image_and_seed: (n, 2, z, y, x) float32 -> (n, 1, z, y, x) float32."""
        x = functional.relu(self.first(image_and_seed.to(torch.bfloat16)))
        x = self.second(x).float()
        for module in self.residual:
            x = module(x)
        out: Tensor = self.last(functional.relu(x).movedim(1, -1)).movedim(-1, 1)
        return out


class _MixedModule(nn.Module):
    """A ResidualModule that takes and gives float32 and multiplies bfloat16."""

    def __init__(self, module: nn.Module, native: bool) -> None:
        super().__init__()
        assert isinstance(module, ResidualModule)
        self.first, self.second = _bf16(module.first, native), _bf16(module.second, native)
        self.norm_first, self.norm_second = module.norm_first, module.norm_second

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, features, z, y, x) float32."""
        rectified = functional.relu(self.norm_first(x)).to(torch.bfloat16)
        inner = self.norm_second(self.first(rectified))
        out: Tensor = x + self.second(functional.relu(inner).to(torch.bfloat16))
        return out


class _Rounded(nn.Module):
    """A convolution of bfloat16 values whose products are made in float32."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.conv = conv.to(torch.bfloat16).float()  # weights as bfloat16 has them

    def forward(self, x: Tensor) -> Tensor:
        """x: (n, channels, z, y, x) bfloat16 -> the same."""
        out: Tensor = self.conv(x.float()).to(torch.bfloat16)
        return out


def _bf16(conv: nn.Conv3d, native: bool) -> nn.Module:
    twin = nn.Conv3d(conv.in_channels, conv.out_channels, 3, padding=1)
    twin.load_state_dict(conv.state_dict())
    made: nn.Module = _packed(twin.to(torch.bfloat16) if native else _Rounded(twin))
    return made


def _packed(module: nn.Module) -> Any:
    """Weights in the memory order in which 3-D convolutions are fastest."""
    return module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]


class Predictor:
    """The network of a model, ready to run.

    device: a torch device.  precision: "f32", "bf16", or "int8" (processor only).
    sample: (z, y, x) float32, the normalised image that will be flooded; int8 takes from it how
    large activations get.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: torch.device | str = "cpu",
        precision: Precision = "f32",
        sample: np.ndarray | None = None,
    ) -> None:
        self.spec, self.device, self.precision = model.spec, torch.device(device), precision
        self.memory_format = torch.channels_last_3d
        network: nn.Module
        if precision == "bf16":
            network = MixedStack(model.network, native=multiplies_bf16(self.device))
        elif precision == "int8":
            int8.check(self.spec, self.device)
            if sample is None:
                raise BadInput("precision int8 needs a sample of the image; choose bf16 or f32.")
            ranges = int8.activation_ranges(model.network, self.spec, sample)
            network = int8.Int8Stack(model.network, ranges, self.spec.fov)
        else:
            network = ConvStack(model.spec.depth, model.spec.features, model.spec.norm)
            network.load_state_dict(model.network.state_dict())
        self.network = _packed(network.eval().requires_grad_(False).to(self.device))

    def __call__(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """Corrected logits of one field of view.

        image: (z, y, x) float32, normalised.  seed: (z, y, x) float32 logits, no NaN.
        Returns (z, y, x) float32: seed + network(image, seed).
        """
        return self.batch(image[None], seed[None])[0]

    def batch(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """Corrected logits of several fields of view: (n, z, y, x) float32 each."""
        with torch.inference_mode():
            seeds = torch.from_numpy(np.ascontiguousarray(seed)).to(self.device)
            images = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
            out = seeds + self.update(images, seeds)
            return out.cpu().numpy()

    def update(self, image: Tensor, seed: Tensor) -> Tensor:
        """The bare network: (n, z, y, x) float32 tensors on the device in, (n, z, y, x) out."""
        x = torch.stack([image, seed], 1).contiguous(memory_format=self.memory_format)
        out: Tensor = self.network(x)
        return out[:, 0].float()
