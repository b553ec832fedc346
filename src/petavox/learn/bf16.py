"""bfloat16: whether a device multiplies it, and convolutions in it.

What it is: one context for all networks that run in "f32" or "bf16".
What it is not: the choice between the two (petavox.ffn.devices).
"""

from __future__ import annotations

import logging
from functools import cache

import torch

log = logging.getLogger("petavox")


def multiplies_bf16(device: torch.device) -> bool:
    """True if convolutions of bfloat16 have instructions of their own on this device.

    Processors without them (AVX2 only) convolve several times slower in bfloat16 than in float32.
    """
    if device.type != "cpu":
        return True
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported and supported())


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The context for a network at a precision: torch's autocast in bf16, nothing in f32."""
    low = precision == "bf16"
    if low and not multiplies_bf16(device):
        _warn()
    return torch.autocast(device.type, torch.bfloat16, enabled=low)


@cache
def _warn() -> None:
    log.warning(
        "precision bf16: this processor has no instructions for it, so f32 would be several times "
        "faster"
    )
