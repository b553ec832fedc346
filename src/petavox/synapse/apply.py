"""The network applied to an image: greys in, probabilities out.

What it is: normalisation, and one pass over an array of any shape. What it is not: the cutting of
volumes: `read_box` says what must be read so that the answer in a box is that of the whole.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import torch

from petavox.learn.bf16 import autocast
from petavox.space import Box, zyx
from petavox.synapse.model import SynapseModel, SynapseSpec


def normalised(grey: np.ndarray, spec: SynapseSpec) -> np.ndarray:
    """Greys of 0 to 1 as the network wants them, float32."""
    mean, std = np.float32(spec.image_mean), np.float32(spec.image_std)
    return np.asarray((grey * np.float32(255) - mean) / std, np.float32)


def read_box(write: Box, total: Box, spec: SynapseSpec) -> Box:
    """What must be read to know `write`: what is near, in whole strides counted from `total`."""
    near = write.grown(spec.reach).intersection(total)
    return near.snapped_out(spec.stride, total.start).intersection(total)


class SynapsePredictor:
    """A model, ready to be applied. precision: "f32" or "bf16" (autocast)."""

    def __init__(
        self,
        model: SynapseModel,
        *,
        device: torch.device | str = "cpu",
        precision: Literal["f32", "bf16"] = "f32",
    ) -> None:
        self.spec, self.device, self.precision = model.spec, torch.device(device), precision
        self.network = cast(Any, model.network.to(self.device)).to(
            memory_format=torch.channels_last_3d
        )

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Probabilities times 255, rounded: (classes, z, y, x) uint8.

        image: (z, y, x) uint8, uint16 or float32 (of 0 to 1). Sides that are no whole strides are
        filled up at their far end with the last voxel.
        """
        most = float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else 1.0
        x = normalised(image.astype(np.float32) / np.float32(most), self.spec)
        pads = [(0, -n % s) for n, s in zip(image.shape, self.spec.stride, strict=True)]
        if any(p != (0, 0) for p in pads):
            x = np.pad(x, pads, mode="edge")
        given = torch.from_numpy(np.ascontiguousarray(x))[None, None].to(self.device)
        with torch.inference_mode(), autocast(self.device, self.precision):
            logits = self.network(given.contiguous(memory_format=torch.channels_last_3d))
            said = torch.round(torch.sigmoid(logits[0].float()) * 255).to(torch.uint8)
        z, y, x_ = zyx(image.shape)
        return np.ascontiguousarray(said.cpu().numpy()[:, :z, :y, :x_])
