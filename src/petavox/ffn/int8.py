"""The network in whole numbers: eight-bit convolutions between float32 residual sums. CPU only.

What it is: a ConvStack whose 3x3x3 convolutions between features multiply uint8 activations with
int8 weights (oneDNN; AVX-512 VNNI where the processor has it), and the measuring of how large the
activations get. Activations are never negative, because each convolution reads what a ReLU gave:
zero stays zero, and the rounding to uint8 is the ReLU. Weights have one scale per output channel,
activations one per layer, from the image that is to be flooded.
What it is not: training, or a choice: it is used only where somebody asked for it (docs/fast.md
has what it costs and gains).

The sums are exact in int32, so a field of view gives the same result in any batch and with any
number of threads; only the first and the last layer are float32 convolutions. Without VNNI the
processor adds two products in 16 bits and cuts off what is larger: there weights have larger
scales, and are less exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from petavox.errors import BadInput
from petavox.ffn.model import ModelSpec, logit
from petavox.ffn.network import ConvStack, ResidualModule

VIEWS = 8
STEPS = (1, 2, 3, 5)
"""How often each sampled field of view is predicted: activations grow as the map fills."""

_ONES = [1, 1, 1]


def weight_scales(weight: Tensor, *, vnni: bool | None = None) -> Tensor:
    """What one step of a weight is, (out,): such that no sum is cut off on this processor.

    weight: (out, in, z, y, x).  vnni: sums of products are made in 32 bits; default: as it is here.
    Without it products are added in 16 bits by twos, which of them differs with the shape: so
    255 x (a + b) must stay below 2^15, after rounding, for any two of one sign.
    """
    scales = weight.abs().amax((1, 2, 3, 4)) / 127
    if vnni is None:
        vnni = getattr(torch.cpu, "_is_vnni_supported", lambda: False)()
    if not vnni:
        signs = torch.stack([weight.flatten(1), -weight.flatten(1)]).clamp(min=0)
        scales = torch.maximum(scales, signs.topk(2, dim=2).values.sum(2).amax(0) / 127)
    return scales.clamp(min=1e-12)


def available() -> bool:
    """True if this build of torch has the operators."""
    return hasattr(torch.ops.onednn, "qconv3d_pointwise")


def check(spec: ModelSpec, device: torch.device) -> None:
    """Raise BadInput if the network cannot run in int8 there."""
    if device.type != "cpu":
        raise BadInput(f"precision int8 runs on the cpu only, not on {device}; choose bf16.")
    if spec.norm != "none":
        raise BadInput(f"precision int8 knows no norm '{spec.norm}'; choose bf16 or f32.")
    if not available():
        raise BadInput(
            f"torch {torch.__version__} has no int8 convolutions on this machine; choose bf16."
        )


def activation_ranges(network: ConvStack, spec: ModelSpec, image: np.ndarray) -> list[float]:
    """The largest value that each int8 convolution reads, in order of the layers.

    image: (z, y, x) float32, normalised; fields of view at random places of it, the same for the
    same shape, are predicted a few times over in float32.
    """
    rng = np.random.default_rng(0)
    most = [n - f for n, f in zip(image.shape, spec.fov, strict=True)]
    z, y, x = spec.margin
    found: list[list[Tensor]] = []
    with torch.inference_mode():
        for k in range(VIEWS):
            low = [int(rng.integers(0, m + 1)) for m in most]
            view = image[tuple(slice(a, a + f) for a, f in zip(low, spec.fov, strict=True))]
            both = torch.full((1, 2, *spec.fov), logit(spec.seed_pad))
            both[0, 0] = torch.from_numpy(np.ascontiguousarray(view))
            both[0, 1, z, y, x] = logit(spec.seed_init)
            both = both.contiguous(memory_format=torch.channels_last_3d)
            for _ in range(STEPS[k % len(STEPS)]):
                seen: list[Tensor] = []
                both[:, 1:] += _watched(network, both, seen)
                found.append(seen)
    largest = torch.stack([torch.stack(s) for s in found]).amax(0).clamp(min=1e-3)
    # three digits, so that the last bits of float32 sums (which vary with the threads) do not count
    return [float(f"{1.01 * v:.3g}") for v in largest.tolist()]


def _watched(network: ConvStack, x: Tensor, seen: list[Tensor]) -> Tensor:
    """The network's update; appends the maximum of what each inner convolution reads."""

    def keep(values: Tensor) -> Tensor:
        rectified = functional.relu(values)
        seen.append(rectified.max())
        return rectified

    x = network.second(keep(network.first(x)))
    for module in network.residual:
        assert isinstance(module, ResidualModule)
        x = x + module.second(keep(module.first(keep(x))))
    out: Tensor = network.last(functional.relu(x))
    return out


class Int8Stack(nn.Module):
    """A ConvStack without norm whose inner convolutions run in int8.

    ranges: of activation_ranges; what exceeds one is cut off there.
    """

    def __init__(self, network: ConvStack, ranges: Sequence[float], fov: Sequence[int]) -> None:
        super().__init__()
        units = [r / 255 for r in ranges]
        if len(units) != 2 * network.depth - 1:
            raise ValueError(f"{len(units)} ranges for {2 * network.depth - 1} convolutions")
        self.first = nn.Conv3d(2, network.features, 3, padding=1)
        self.first.load_state_dict(network.first.state_dict())
        self.second = _Int8Conv(network.second, units[0], None, fov)
        self.inner: list[tuple[_Int8Conv, _Int8Conv]] = []
        for k, module in enumerate(network.residual):
            assert isinstance(module, ResidualModule)
            outer, inner = units[1 + 2 * k], units[2 + 2 * k]
            self.inner.append(
                (
                    _Int8Conv(module.first, outer, inner, fov),
                    _Int8Conv(module.second, inner, None, fov),
                )
            )
        self.last = nn.Linear(network.features, 1)
        last = network.last.state_dict()
        self.last.load_state_dict({"weight": last["weight"].view(1, -1), "bias": last["bias"]})

    def forward(self, image_and_seed: Tensor) -> Tensor:
        """image_and_seed: (n, 2, z, y, x) float32 -> (n, 1, z, y, x) float32."""
        x = self.second(self.second.rounded(self.first(image_and_seed)))
        for first, second in self.inner:
            x = torch.add(x, second(first(first.rounded(x))))
        out: Tensor = self.last(functional.relu(x).movedim(1, -1)).movedim(-1, 1)
        return out


class _Int8Conv:
    """One 3x3x3 convolution: uint8 in units of `unit`, to uint8 in units of `out` or to float32."""

    def __init__(self, conv: nn.Conv3d, unit: float, out: float | None, fov: Sequence[int]) -> None:
        weight = conv.weight.detach()
        assert conv.bias is not None
        self.unit, self.out, self.bias = unit, out or 1.0, conv.bias.detach().clone()
        self.dtype = torch.float32 if out is None else torch.uint8
        self.scale = weight_scales(weight)
        whole = (weight / self.scale.view(-1, 1, 1, 1, 1)).round().to(torch.int8)
        self.zero = torch.zeros(len(whole), dtype=torch.int32)
        self.packed = torch.ops.onednn.qconv_prepack(
            whole, self.scale, unit, 0, _ONES, _ONES, _ONES, 1, [1, conv.in_channels, *fov]
        )

    def rounded(self, x: Tensor) -> Tensor:
        """float32 to uint8 in units of `unit`; what is negative becomes 0, as by a ReLU."""
        last = x.permute(0, 2, 3, 4, 1)
        scaled = last.mul(1 / self.unit).add_(0.5).clamp_(0, 255)
        return scaled.to(torch.uint8).permute(0, 4, 1, 2, 3)

    def __call__(self, x: Tensor) -> Tensor:
        """x: (n, channels, z, y, x) uint8, channels last in memory."""
        out: Tensor = torch.ops.onednn.qconv3d_pointwise(
            x, self.unit, 0, self.packed, self.scale, self.zero, self.bias,
            _ONES, _ONES, _ONES, 1, self.out, 0, self.dtype, "none", [], "",
        )  # fmt: skip
        return out
