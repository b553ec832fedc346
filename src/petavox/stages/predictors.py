"""The flood-filling network of a worker: loaded once in a process, again if its file is another.

What it is: from a model's path to something that predicts, for block functions. What it is not: the
network (petavox.ffn.predictor), or the choice of a precision.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from petavox.stages.stamps import stamp


def predictor(
    model: str,
    device: str,
    precision: Literal["f32", "bf16", "int8"],
    sample: Callable[[Any], np.ndarray],
) -> Any:
    """A Predictor of the model at a path.

    sample: spec -> raw grey values (z, y, x), of the image that will be flooded; int8 takes its
    scales from it, so that one is made for each call. Others are kept.
    """
    from petavox.ffn.devices import device_of
    from petavox.ffn.flood import normalised
    from petavox.ffn.predictor import Predictor

    if precision != "int8":
        return _loaded(model, stamp(model), device, precision)
    read = _model(model, stamp(model))
    seen = normalised(sample(read.spec), read.spec)
    return Predictor(read, device=device_of(device), precision="int8", sample=seen)


@functools.lru_cache(maxsize=1)
def _loaded(
    model: str, written: tuple[int, ...], device: str, precision: Literal["f32", "bf16"]
) -> Any:
    from petavox.ffn.devices import device_of
    from petavox.ffn.predictor import Predictor

    return Predictor(_model(model, written), device=device_of(device), precision=precision)


@functools.lru_cache(maxsize=1)
def _model(path: str, _stamp: tuple[int, ...]) -> Any:
    from petavox.ffn.model import load_model

    return load_model(path)
