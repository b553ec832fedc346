"""Bring in networks trained with the original flood-filling code (google/ffn).

What it is: the names and axis order of that code's convolution stack, turned into ours.
What it is not: a converter of other architectures; those are refused in a sentence.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from petavox.errors import BadInput
from petavox.ffn.network import ConvStack
from petavox.ffn.tensorflow_checkpoint import read_checkpoint

_LAYER = re.compile(r"(?:.*/)?seed_update/(conv\d+_[ab]|conv_lom)/(weights|biases)")


def read_released(path: str | Path) -> tuple[dict[str, Tensor], int, int]:
    """Weights under our names, the depth and the features.

    path: a TensorFlow checkpoint (`.index`, with its data file beside it), or an .npz of the
    same arrays with `__` for `/`. Weights there are (kz, ky, kx, in, out), ours
    (out, in, kz, ky, kx).
    """
    arrays = _npz(Path(path)) if str(path).endswith(".npz") else read_checkpoint(path)
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        found = _LAYER.fullmatch(name)
        if found:
            layers.setdefault(found[1], {})[found[2]] = array
    depth = sum(1 for name in layers if name.endswith("_a"))
    expected = {f"conv{i}_{ab}" for i in range(depth) for ab in "ab"} | {"conv_lom"}
    if depth < 2 or set(layers) != expected:
        raise BadInput(
            f"{path} is not a convolution stack of the original code: layers found: "
            f"{sorted(layers) or 'none'}."
        )
    weights: dict[str, Tensor] = {}
    for name, layer in layers.items():
        if set(layer) != {"weights", "biases"} or layer["weights"].ndim != 5:
            raise BadInput(f"layer '{name}' of {path} lacks weights or biases.")
        ours = _our_name(name)
        kernel = np.ascontiguousarray(layer["weights"].transpose(4, 3, 0, 1, 2), np.float32)
        weights[f"{ours}.weight"] = torch.from_numpy(kernel)
        weights[f"{ours}.bias"] = torch.from_numpy(layer["biases"].astype(np.float32))
    features = int(weights["first.bias"].numel())
    for name, tensor in ConvStack(depth, features).state_dict().items():
        if weights[name].shape != tensor.shape:
            raise BadInput(
                f"{path} is not a convolution stack of the original code: {name} has shape "
                f"{tuple(weights[name].shape)}, with {features} features it would be "
                f"{tuple(tensor.shape)}."
            )
        if not torch.isfinite(weights[name]).all():
            raise BadInput(f"{path}: {name} holds NaN or infinity; the training had diverged.")
    return weights, depth, features


def _our_name(theirs: str) -> str:
    if theirs == "conv_lom":
        return "last"
    number, half = theirs.removeprefix("conv").split("_")
    place = {"a": "first", "b": "second"}[half]
    return place if number == "0" else f"residual.{int(number) - 1}.{place}"


def _npz(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise BadInput(f"there is no file {path}.")
    try:
        with np.load(path, allow_pickle=False) as f:
            return {name.replace("__", "/"): f[name] for name in f.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as e:
        raise BadInput(f"{path} is not a readable .npz file ({e}).") from None
