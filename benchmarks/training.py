"""Training speed: whole steps in bf16 against f32, and their share of the bare network's rate.

    python -m benchmarks.training [seconds of each measurement]

A step draws examples, augments them, runs forward and backward, steps the optimiser and writes the
maps back; the bare rate is forward and backward alone, on one batch that is always there. Both are
measured in this process, with the same threads, one after the other in turns (best of three).
Seconds are of the processor as well as of the wall: on a machine that others use too the former
say more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.common import emit
from petavox.ffn.examples import ExampleSettings
from petavox.ffn.model import ModelSpec
from petavox.ffn.pieces import Source
from petavox.ffn.trainer import Trainer
from petavox.ffn.trainer_settings import TrainerSettings
from petavox.learn.augment import AugmentSettings
from petavox.learn.bf16 import multiplies_bf16
from petavox.phantom import tissue
from petavox.space import Box

NETWORKS = {
    "small": ModelSpec(
        fov=21, deltas=5, depth=5, features=16, image_mean=130, image_std=33, seed_pad=0.5,
        move_threshold=0.6,
    ),
    "released": ModelSpec(
        fov=33, deltas=8, depth=12, features=32, image_mean=128, image_std=33
    ),
}  # fmt: skip


def main(seconds: float = 10.0) -> None:
    """Measure both networks in both precisions; one line of JSON for each network."""
    torch.set_num_threads(1 if len(sys.argv) < 3 else int(sys.argv[2]))
    source = _source()
    for name, spec in NETWORKS.items():
        low = multiplies_bf16(torch.device("cpu"))  # without, torch takes minutes for a step
        precisions = ("f32", "bf16") if low else ("f32",)
        trainers = {p: _trainer(spec, source, p) for p in precisions}
        rates: dict[str, list[tuple[float, float]]] = {}
        for _ in range(3):
            for precision, trainer in trainers.items():
                batch = trainer.feeders[0].batch()
                n = len(batch.image)
                rates.setdefault(f"{precision}_step", []).append(
                    _rate(lambda t=trainer: t.step(), n, seconds / 3)
                )
                rates.setdefault(f"{precision}_bare", []).append(
                    _rate(lambda t=trainer, b=batch: t.gradients(b), n, seconds / 3)
                )
        wall = {k: max(w for w, _ in v) for k, v in rates.items()}
        cpu = {k: max(c for _, c in v) for k, v in rates.items()}
        emit(
            "training",
            network=name,
            depth=spec.depth,
            features=spec.features,
            fov=spec.fov,
            batch=2,
            threads=torch.get_num_threads(),
            fov_per_s={k: round(v, 2) for k, v in wall.items()},
            fov_per_processor_s={k: round(v, 2) for k, v in cpu.items()},
            **{
                f"share_of_bare_{p}{of}": round(rate[f"{p}_step"] / rate[f"{p}_bare"], 3)
                for p in precisions
                for of, rate in (("", wall), ("_processor", cpu))
            },
            **{
                f"bf16_over_f32{of}": round(rate["bf16_step"] / rate["f32_step"], 3)
                for of, rate in (("", wall), ("_processor", cpu))
                if low
            },
        )


def _source() -> Source:
    made = tissue(Box.of_shape((96, 96, 96)), (10.0, 10.0, 10.0), seed=5)
    image, labels = made.image, made.labels
    return Source(
        "phantom", Box.of_shape(image.shape), lambda b: image[b.slices()],
        lambda b: labels[b.slices()],
    )  # fmt: skip


def _trainer(spec: ModelSpec, source: Source, precision: str) -> Trainer:
    settings = TrainerSettings.model_validate(
        {
            "batch": 2, "live": 8, "steps": 10**9, "precision": precision,
            "examples": ExampleSettings(min_object_size=1000),
            "augment": AugmentSettings(
                isotropic=True, transpose=False, contrast_chance=0.3, noise_chance=0.2
            ),
            "optimiser": {"kind": "adam", "warm_up": 100, "mean_decay": 0.99},
        }
    )  # fmt: skip
    return Trainer(spec, [source], settings)


def _rate(work: Callable[[], object], fovs: int, seconds: float) -> tuple[float, float]:
    """Fields of view in a second of the wall, and of the processor (all threads)."""
    work()
    done, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        work()
        done += fovs
    return done / (time.perf_counter() - wall), done / (time.process_time() - cpu)


if __name__ == "__main__":
    np.seterr(all="raise", under="ignore")
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10.0)
