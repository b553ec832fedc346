"""The network that sees synapses: a small 3-D U-Net that fits the shape of the voxels.

    features f0   ─ block ──────────────────────────── + ─ block ─ 1x1x1 ─▶ one logit a class
                      │ max over steps[0]              ▲ repeated
    features f1       └─ block ─────────── + ─ block ──┘
                           │ steps[1]      ▲
    features f2            └─ block ───────┘

What it is: layers, and how far they see. What it is not: how they are trained, or applied to
volumes. A voxel's answer depends only on what lies within `reach`.

Source: Ronneberger et al. 2015 (arXiv:1505.04597), Cicek et al. 2016 (arXiv:1606.06650); the ways
up are added, not stacked, as in Lee et al. 2017 (arXiv:1706.00120).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from petavox.space import Zyx, zyx


class Block(nn.Module):
    """Two convolutions, each normalised and rectified; the second's input is added to its output.

    The normalisation is by running figures of the training (Ioffe and Szegedy 2015,
    arXiv:1502.03167), which in use are constants: a voxel's answer does not depend on far ones.
    """

    def __init__(self, into: int, out: int, kernel: Zyx) -> None:
        super().__init__()
        around = zyx([k // 2 for k in kernel])
        self.first = nn.Conv3d(into, out, kernel, padding=around)
        self.second = nn.Conv3d(out, out, kernel, padding=around)
        self.norm_first = nn.BatchNorm3d(out, momentum=0.03)
        self.norm_second = nn.BatchNorm3d(out, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        """(n, into, z, y, x) -> (n, out, z, y, x)"""
        x = functional.relu(self.norm_first(self.first(x)))
        return functional.relu(x + self.norm_second(self.second(x)))


class UNet(nn.Module):
    """Image in, one logit for each class out: (n, 1, z, y, x) -> (n, classes, z, y, x).

    features: channels of each level, finest first.  kernels: of each level, odd, zyx.
    steps: by how much each level but the last is coarsened, zyx.
    The input's sides must be multiples of `stride`.
    """

    def __init__(
        self, features: Sequence[int], kernels: Sequence[Zyx], steps: Sequence[Zyx], classes: int
    ) -> None:
        super().__init__()
        self.steps = [zyx(s) for s in steps]
        wide = [1, *features]
        self.down = nn.ModuleList(
            Block(a, b, k) for a, b, k in zip(wide[:-1], wide[1:], kernels, strict=True)
        )
        pairs = list(zip(features[:-1], features[1:], kernels[:-1], strict=True))
        self.up = nn.ModuleList(nn.Conv3d(b, a, 1) for a, b, _ in pairs)
        self.merge = nn.ModuleList(Block(a, a, k) for a, _, k in pairs)
        self.last = nn.Conv3d(features[0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        kept = []
        for level, block in enumerate(self.down):
            x = block(x)
            if level < len(self.steps):
                kept.append(x)
                x = functional.max_pool3d(x, self.steps[level])
        for level in reversed(range(len(self.steps))):
            x = self.up[level](x)
            x = functional.interpolate(x, scale_factor=tuple(map(float, self.steps[level])))
            x = self.merge[level](kept[level] + x)
        out: Tensor = self.last(x)
        return out


def stride(steps: Sequence[Zyx]) -> Zyx:
    """Voxels of the input in one voxel of the coarsest level, zyx."""
    out = [1, 1, 1]
    for step in steps:
        out = [a * b for a, b in zip(out, step, strict=True)]
    return zyx(out)


def reach(kernels: Sequence[Zyx], steps: Sequence[Zyx]) -> Zyx:
    """Voxels on each side of a voxel that its answer depends on, at most, zyx."""
    out, scale = [0, 0, 0], [1, 1, 1]
    for level, kernel in enumerate(kernels):
        # two convolutions on the way down, two on the way up; the coarsest level has one way
        ways = 4 if level < len(steps) else 2
        out = [r + ways * (k // 2) * s for r, k, s in zip(out, kernel, scale, strict=True)]
        if level < len(steps):
            step = steps[level]
            # a coarse voxel holds its own and up to step - 1 more on either side
            out = [r + (n - 1) * s for r, n, s in zip(out, step, scale, strict=True)]
            scale = [s * n for s, n in zip(scale, step, strict=True)]
    return zyx(out)


def initialised(network: UNet, seed: int) -> UNet:
    """Fresh weights by He et al. 2015, the same for the same seed; returns the network."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv3d):
                fan_in = module.weight[0].numel()
                size = (2.0 / fan_in) ** 0.5
                if name.endswith("second") or name.startswith("up."):
                    size *= 0.5  # what is added must not outgrow what it is added to
                module.weight.copy_(torch.randn(module.weight.shape, generator=rng) * size)
                assert module.bias is not None
                module.bias.zero_()
        # classes are rare: without this the first steps only learn that
        assert network.last.bias is not None
        network.last.bias.fill_(-3.0)
    return network
