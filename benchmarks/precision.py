"""What bf16 costs in one step of the network: everything in bf16, or the mixture that petavox uses.

    python -m benchmarks.precision

What it is: the released network on 24 fields of view of fib25/training_sample2, each with the map
that one float32 step left. What it is not: the cost in a whole flood (benchmarks.flood has that).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

import petavox as pv
from benchmarks.common import data_folder, emit
from benchmarks.flood import released_model
from petavox.ffn.devices import step_seconds
from petavox.ffn.model import Model, load_model, logit
from petavox.ffn.predictor import Predictor

VIEWS = 24


def all_bf16(model: Model, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """One step with weights, stream and last layer in bfloat16."""
    network = type(model.network)(model.spec.depth, model.spec.features, model.spec.norm)
    network.load_state_dict(model.network.state_dict())
    x = torch.from_numpy(np.stack([image, seed])[None]).to(torch.bfloat16)
    with torch.inference_mode():
        return seed + network.to(torch.bfloat16)(x)[0, 0].float().numpy()


def main() -> None:
    """Measure and print one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(released_model(Path(folder)))
    raw = pv.open(data_folder() / "fib25/training_sample2.h5/raw")
    exact, mixed = Predictor(model), Predictor(model, precision="bf16")
    rng, half = np.random.default_rng(0), model.spec.margin
    errors: dict[str, list[float]] = {"all_bf16": [], "mixed": []}
    for _ in range(VIEWS):
        box = pv.Box.of_shape(model.spec.fov, rng.integers(0, 250 - 33, 3).tolist())
        image = (raw.read(box).astype(np.float32) - 128) / 33
        seed = np.full(model.spec.fov, logit(0.05), np.float32)
        seed[half] = logit(0.95)
        seed = exact(image, seed)
        truth = exact(image, seed)
        errors["all_bf16"].append(float(np.mean((all_bf16(model, image, seed) - truth) ** 2)))
        errors["mixed"].append(float(np.mean((mixed(image, seed) - truth) ** 2)))
    emit(
        "precision",
        fields_of_view=VIEWS,
        rms_logits={k: round(float(np.sqrt(np.mean(v))), 5) for k, v in errors.items()},
        ms_per_step={p.precision: round(1e3 * step_seconds(p, steps=5), 1) for p in (exact, mixed)},
    )


if __name__ == "__main__":
    main()
