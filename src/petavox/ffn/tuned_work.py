"""The work that tuning measures, in a process of its own: `python -m petavox.ffn.tuned_work PLAN`.

What it is: steps of training as a whole (sampling, network, optimiser), and rounds of the batched
driver of flooding (gather, network, write back and find the moves, for all lanes), on made-up
voxels. What it is not: the choice of what is measured (petavox.ffn.tune).
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from petavox.ffn.batched import LockStep
from petavox.ffn.canvas import Canvas
from petavox.ffn.examples import ExampleSettings
from petavox.ffn.lanes import LaneSettings
from petavox.ffn.model import Model, ModelSpec
from petavox.ffn.network import ConvStack
from petavox.ffn.pieces import Source
from petavox.ffn.predictor import Predictor
from petavox.ffn.trainer import Trainer
from petavox.ffn.trainer_settings import TrainerSettings
from petavox.ffn.tune import Candidate
from petavox.learn.augment import AugmentSettings
from petavox.space import Box, Zyx, zyx


def work(plan: dict[str, Any]) -> None:
    """Warm up, say `ready`, wait for a line, measure, and print rate and memory as JSON."""
    candidate = Candidate.model_validate(plan["candidate"])
    if candidate.threads:
        torch.set_num_threads(candidate.threads)
    spec = ModelSpec.model_validate(plan["spec"])
    made = {"train": training, "segment": flooding}[plan["work"]]
    step = made(spec, candidate, plan["device"])
    step()
    step()
    print("ready", flush=True)
    sys.stdin.readline()
    fovs, started = 0, time.perf_counter()
    while time.perf_counter() - started < plan["seconds"]:
        fovs += step()
    seconds = time.perf_counter() - started
    # kilobytes on Linux, bytes on macOS
    unit = 2**20 if sys.platform == "darwin" else 2**10
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
    if plan["device"].startswith("cuda"):
        memory = torch.cuda.max_memory_reserved() / 2**20
    print(json.dumps({"fov_per_s": fovs / seconds, "memory_mb": memory}), flush=True)


def training(spec: ModelSpec, candidate: Candidate, device: str) -> Callable[[], int]:
    """A function that makes one step of a training; returns the fields of view in it."""
    side = [max(64, 2 * (f + 2 * d)) for f, d in zip(spec.fov, spec.deltas, strict=True)]
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, side).astype(np.uint8)
    labels = (np.indices(side).sum(0) // 16 + 1).astype(np.uint32)
    source = Source(
        "made for measuring", Box.of_shape(side),
        lambda b: image[b.slices()], lambda b: labels[b.slices()],
    )  # fmt: skip
    trainer = Trainer(
        spec,
        [source],
        TrainerSettings(
            batch=candidate.batch, live=candidate.live, steps=10**9,
            precision=candidate.precision, memory_format=candidate.memory_format,
            compile=candidate.compile, examples=ExampleSettings(min_object_size=1, candidates=64),
            augment=AugmentSettings(transpose=_alike(spec.fov) and _alike(spec.deltas)),
        ),
        device=device,
    )  # fmt: skip
    return lambda: int(trainer.step()["fovs"])


def flooding(spec: ModelSpec, candidate: Candidate, device: str) -> Callable[[], int]:
    """A function that makes one round of the batched driver; returns the fields of view in it."""
    network = ConvStack(spec.depth, spec.features, spec.norm)
    predictor = Predictor(Model(spec, network), device=device, precision=candidate.precision)
    if candidate.memory_format == "contiguous":
        predictor.memory_format = torch.contiguous_format
        predictor.network = predictor.network.to(memory_format=torch.contiguous_format)
    if candidate.compile:
        predictor.network = torch.compile(predictor.network)
    rng = np.random.default_rng(0)
    shape = [f + 2 * d for f, d in zip(spec.fov, spec.deltas, strict=True)]
    canvases = []
    for _ in range(candidate.lanes):
        canvas = Canvas(rng.normal(size=shape).astype(np.float32), predictor, spec)
        canvas.seeds = np.array([[n // 2 for n in shape]])
        canvases.append(canvas)
    driver = LockStep(canvases, predictor, LaneSettings(per_call=candidate.batch))
    centre = zyx([n // 2 for n in shape])

    def step() -> int:
        driver.round_at(centre)
        return candidate.lanes

    return step


def _alike(sides: Zyx) -> bool:
    return sides[1] == sides[2]


if __name__ == "__main__":
    work(json.loads(sys.argv[1]))
