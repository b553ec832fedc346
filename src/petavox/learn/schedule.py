"""Optimisers and step sizes.

What it is: the settings of SGD, Adam and AdamW, and the learning rate of every step as a pure
function: scaled with the number of devices, warmed up, and let down at the end.
What it is not: the loop.

Source of the scaling rules: linear with warm-up, Goyal et al. 2017 (arXiv:1706.02677); square
root above 16 devices, Dong et al. 2019 (arXiv:1905.06236), who trained this network on 2048.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import nn

from petavox.errors import BadInput
from petavox.settings import Settings

LINEAR_UP_TO = 16
"""Devices up to which `auto` scales the learning rate linearly."""


class OptimiserSettings(Settings):
    """How weights follow gradients."""

    kind: Literal["sgd", "adam", "adamw"] = "adam"
    rate: float = Field(1e-3, gt=0)
    """Learning rate of one device, at its highest."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """sgd only."""
    weight_decay: float = Field(0.0, ge=0)
    """adamw only."""
    warm_up: int = Field(0, ge=0)
    """Steps in which the rate rises from near 0."""
    decay: Literal["none", "cosine"] = "none"
    """cosine: the rate falls to `last` of its height over all steps."""
    last: float = Field(0.02, gt=0, le=1)
    scaling: Literal["none", "linear", "sqrt", "auto"] = "auto"
    """With devices. auto: linear up to 16 devices, above by the square root from there."""
    clip: float = Field(0.7, gt=0)
    """Gradient entries are cut to +- this."""
    mean_decay: float = Field(0.0, ge=0, lt=1)
    """Running mean of the weights, which is what is validated and exported; 0: none."""

    @model_validator(mode="after")
    def _has_effect(self) -> OptimiserSettings:
        if self.momentum and self.kind != "sgd":
            raise ValueError(f"momentum is for sgd, not for {self.kind}: leave it out")
        if self.weight_decay and self.kind != "adamw":
            raise ValueError(f"weight_decay is for adamw, not for {self.kind}: leave it out")
        return self


def require_end(settings: OptimiserSettings, steps: int | None) -> None:
    """Raise BadInput if the rate is to fall over all steps, and nobody says how many these are."""
    if settings.decay != "none" and steps is None:
        raise BadInput(
            f"optimiser.decay is {settings.decay}, over all steps of the training: give "
            "trainer.steps too, or decay: none."
        )


def scale(devices: int, rule: Literal["none", "linear", "sqrt", "auto"]) -> float:
    """Factor of the learning rate for `devices`."""
    if rule == "linear":
        return float(devices)
    if rule == "sqrt":
        return math.sqrt(devices)
    if rule == "auto":
        few = min(devices, LINEAR_UP_TO)
        return few * math.sqrt(devices / few)
    return 1.0


def rate_at(step: int, steps: int | None, settings: OptimiserSettings, devices: int = 1) -> float:
    """The learning rate of step 0, 1, ...

    steps: of the whole training; None if it has no end, which leaves `decay` out.
    """
    rate = settings.rate * scale(devices, settings.scaling)
    if step < settings.warm_up:
        return rate * (step + 1) / settings.warm_up
    if settings.decay == "none" or steps is None or steps <= settings.warm_up:
        return rate
    done = min(1.0, (step - settings.warm_up) / (steps - settings.warm_up))
    low = settings.last
    return rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * done)))


def mean_decay_at(step: int, decay: float) -> float:
    """Decay of the running mean at a step: shorter at first, so that it forgets the start."""
    return min(decay, (1 + step) / (10 + step))


def optimiser(
    parameters: Iterable[nn.Parameter], settings: OptimiserSettings
) -> torch.optim.Optimizer:
    """The optimiser; its rate is set anew before every step."""
    if settings.kind == "sgd":
        return torch.optim.SGD(parameters, lr=settings.rate, momentum=settings.momentum)
    if settings.kind == "adam":
        return torch.optim.Adam(parameters, lr=settings.rate)
    return torch.optim.AdamW(parameters, lr=settings.rate, weight_decay=settings.weight_decay)
