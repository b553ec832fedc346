"""Devices and precisions: what was asked for, or a sentence why not.

What it is: names to torch devices, and the choice of a precision by measuring both.
What it is not: a fallback. A device that is not here is an error, never silently the CPU.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Literal

import torch

from petavox.errors import BadInput, MissingDevice
from petavox.ffn.model import Model
from petavox.ffn.predictor import Predictor
from petavox.learn.bf16 import multiplies_bf16

Precision = Literal["f32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16")

log = logging.getLogger("petavox")


def device_of(name: str) -> torch.device:
    """The torch device called `name`: cpu, cuda, cuda:1, xpu, mps; auto takes the best present."""
    kind = name.partition(":")[0]
    present: dict[str, Callable[[], bool]] = {
        "cpu": lambda: True,
        "cuda": torch.cuda.is_available,
        "xpu": torch.xpu.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if name == "auto":
        best = next(k for k in ("cuda", "xpu", "mps", "cpu") if present[k]())
        log.info("device %s: the best this machine has", best)
        return torch.device(best)
    if kind not in present:
        raise BadInput(f"device '{name}' is not one of auto, {', '.join(present)}.")
    if not present[kind]():
        here = ", ".join(k for k, f in present.items() if f())
        raise MissingDevice(
            f"device '{name}' was asked for, but this torch {torch.__version__} sees no {kind} "
            f"device here (it sees: {here}). Pass --device cpu, or install the build of torch "
            f"for {kind}."
        )
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInput(f"device '{name}' is not of the form {kind} or {kind}:NUMBER.") from None
    count = getattr(getattr(torch, kind, None), "device_count", lambda: 1)()
    if device.index is not None and kind in ("cuda", "xpu") and device.index >= count:
        raise MissingDevice(f"device '{name}' was asked for, but there are only {count} {kind}.")
    return device


def fastest_precision(model: Model, device: torch.device) -> Precision:
    """The precision with which this network runs faster here, measured on a few steps.

    The figures are logged. bf16 is taken only if it is at least 1.2 times as fast: f32 is the
    reference.
    """
    if not multiplies_bf16(device):
        log.info("precision f32: this processor has no instructions for bf16")
        return "f32"
    seconds = {p: step_seconds(Predictor(model, device=device, precision=p)) for p in PRECISIONS}
    best: Precision = "bf16" if seconds["bf16"] * 1.2 <= seconds["f32"] else "f32"
    log.info(
        "precision %s: one field of view takes %.1f ms in f32, %.1f ms in bf16 on %s",
        best,
        seconds["f32"] * 1e3,
        seconds["bf16"] * 1e3,
        device,
    )
    return best


def step_seconds(predictor: Predictor, steps: int = 3) -> float:
    """Seconds of one step of the bare network, the best of a few after a warm-up."""
    fov = predictor.spec.fov
    image, seed = torch.zeros(fov).numpy(), torch.zeros(fov).numpy()
    predictor(image, seed)
    best = float("inf")
    for _ in range(steps):
        started = time.perf_counter()
        predictor(image, seed)
        best = min(best, time.perf_counter() - started)
    return best
