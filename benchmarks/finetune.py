"""The published network on tissue of another set, before and after ten minutes of fine-tuning.

    python -m benchmarks.finetune fib25.safetensors OUT

The network learns from gala_fib/train by recipes/gala_finetune.yaml (into OUT; a training that is
there is taken, one that was stopped is resumed), then both models flood gala_fib/test, which
neither has seen. Before: with the grey values the network was published with, and with those of
the new images, which the recipe gives it. Scores are those of benchmarks.shipped_model.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

from benchmarks.common import emit
from benchmarks.shipped_model import gala, scores
from petavox.ffn.flood import flood
from petavox.ffn.growth import FloodSettings
from petavox.ffn.model import Model, load_model
from petavox.ffn.predictor import Predictor
from petavox.stages.train import train
from petavox.stages.training_settings import read_settings

RECIPE = Path(__file__).parent.parent / "recipes" / "gala_finetune.yaml"


def main(released: Path, out: Path) -> None:
    """Flood, learn, flood; one line of JSON for each flood."""
    torch.set_num_threads(1)
    settings = read_settings(RECIPE)
    assert settings.grey is not None
    published = load_model(released)
    matched = {"image_mean": settings.grey.mean, "image_std": settings.grey.std}
    measure("published", published, {})
    spec = published.spec.model_copy(update=matched)
    measure("published, grey values matched", Model(spec, published.network), {})
    tuned = out / "last.safetensors"
    cpu = time.process_time()
    if not tuned.is_file():
        train(
            settings, out, base=RECIPE.parent, init=released,
            resume=(out / "checkpoints").exists(),
        )  # fmt: skip
    spent = time.process_time() - cpu
    last = json.loads((out / "curve.jsonl").read_text().splitlines()[-1])
    learned = {
        "fovs_learned": last["fovs"],
        "minutes": round(last["minutes"], 1),
        "processor_minutes": round(spent / 60, 1),
    }
    measure("fine-tuned", load_model(tuned), learned)


def measure(name: str, model: Model, beside: dict[str, float]) -> None:
    """One model on gala_fib/test."""
    image, truth, _ = gala()
    began = time.process_time()
    canvas = flood(
        image, Predictor(model, precision="bf16"), model.spec, voxel_size=(10.0, 10.0, 10.0),
        settings=FloodSettings(min_segment_size=500),
    )  # fmt: skip
    emit(
        "finetune",
        model=name,
        **scores(canvas.labels(), truth),
        objects=canvas.counters["objects"],
        fovs=canvas.counters["fovs"],
        processor_seconds=round(time.process_time() - began, 1),
        **beside,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
