"""What int8 costs in one step of the network, beside bf16, against float32.

    python -m benchmarks.int8

What it is: the released network on fields of view of fib25/training_sample2, each with the map that
one or two float32 steps left; the scales come from another part of the image. The cost in a whole
flood: `python -m benchmarks.flood --precision int8`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import petavox as pv
from benchmarks.common import data_folder, emit
from benchmarks.flood import released_model
from petavox.ffn.model import load_model, logit
from petavox.ffn.predictor import Predictor

VIEWS = 12


def main() -> None:
    """Measure and print one line of JSON."""
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(released_model(Path(folder)))
    spec = model.spec
    raw = pv.open(data_folder() / "fib25/training_sample2.h5/raw")
    image = (raw.read().astype(np.float32) - spec.image_mean) / spec.image_std
    exact = Predictor(model)
    others = {
        "bf16": Predictor(model, precision="bf16"),
        "int8": Predictor(model, precision="int8", sample=image[:100]),
    }
    rng = np.random.default_rng(0)
    squares: dict[str, list[float]] = {k: [] for k in others}
    flips: dict[str, list[float]] = {k: [] for k in others}
    for k in range(VIEWS):
        z = int(rng.integers(100, 250 - 33))
        y, x = rng.integers(0, 250 - 33, 2).tolist()
        view = np.ascontiguousarray(image[z : z + 33, y : y + 33, x : x + 33])
        seed = np.full(spec.fov, logit(spec.seed_pad), np.float32)
        seed[spec.margin] = logit(spec.seed_init)
        for _ in range(1 + k % 2):
            seed = exact(view, seed)
        truth = exact(view, seed)
        for name, predictor in others.items():
            found = predictor(view, seed)
            squares[name].append(float(np.mean((found - truth) ** 2)))
            inside = logit(spec.segment_threshold)
            flips[name].append(float(np.mean((found >= inside) != (truth >= inside))))
    emit(
        "int8",
        fields_of_view=VIEWS,
        rms_logits={k: round(float(np.sqrt(np.mean(v))), 5) for k, v in squares.items()},
        share_of_voxels_across_the_threshold={
            k: round(float(np.mean(v)), 6) for k, v in flips.items()
        },
    )


if __name__ == "__main__":
    main()
