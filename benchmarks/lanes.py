"""Floods in lock-step beside the plain driver: labels compared voxel by voxel, rates of both.

    python -m benchmarks.lanes [--model released] [--lanes 1 2 4] [--side 64] [--device cpu]

What it is: subvolumes of fib25/training_sample2 flooded one after another by the plain driver, and
together by the batched one, in one process, beside the bare network's rate in the same process.
`equal` is the claim; on a processor the rate is not (one field of view a call is its best batch).
On a GPU the same code runs with --device cuda --per-call N; no GPU has run it yet.
With --objects or --frontier above 1 the order changes: `plain_scores` and `lanes_scores`, against
the labels of the same boxes, say what that costs.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import petavox as pv
from benchmarks.common import data_folder, emit
from benchmarks.flood import released_model
from benchmarks.shipped_model import scores
from petavox.ffn.batched import LockStep
from petavox.ffn.canvas import Canvas
from petavox.ffn.devices import step_seconds
from petavox.ffn.flood import flood, prepared
from petavox.ffn.growth import FloodSettings
from petavox.ffn.lanes import LaneSettings
from petavox.ffn.model import load_model
from petavox.ffn.predictor import Predictor
from petavox.ffn.shipped import MODEL

CORNERS = ((0, 0, 0), (100, 100, 100), (150, 20, 90), (20, 150, 60), (60, 60, 150), (120, 40, 10),
           (30, 100, 120), (90, 10, 60))  # fmt: skip


def against(canvases: list[Canvas], truths: list[np.ndarray]) -> dict[str, float]:
    """Scores of all boxes together; ids of different boxes are kept apart."""
    found = [np.where(c.labels() > 0, c.labels() + k * 10**6, 0) for k, c in enumerate(canvases)]
    truth = [np.where(t > 0, t.astype(np.uint64) + k * 10**6, 0) for k, t in enumerate(truths)]
    return scores(
        np.concatenate([f.ravel() for f in found]).astype(np.uint64),
        np.concatenate([t.ravel() for t in truth]).astype(np.uint64),
    )


def main() -> None:
    """Flood both ways, print one line of JSON for each number of lanes."""
    options = argparse.ArgumentParser(description="Lanes against the plain driver.")
    options.add_argument("--model", default="shipped", choices=["shipped", "released"])
    options.add_argument("--lanes", type=int, nargs="*", default=[1, 3])
    options.add_argument("--side", type=int, default=64)
    options.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    options.add_argument("--device", default="cpu")
    options.add_argument("--per-call", type=int, default=1)
    options.add_argument("--pretest", type=int, default=0)
    options.add_argument("--objects", type=int, default=1)
    options.add_argument("--frontier", type=int, default=1)
    given = options.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    with tempfile.TemporaryDirectory() as folder:
        file = MODEL if given.model == "shipped" else released_model(Path(folder))
        model = load_model(file)
    predictor = Predictor(model, device=given.device, precision=given.precision)
    raw, labels = (
        pv.open(data_folder() / f"fib25/training_sample2.h5/{name}") for name in ("raw", "labels")
    )
    how = {"voxel_size": (10.0, 10.0, 10.0), "settings": FloodSettings(max_object_share=1)}
    bare = 1 / step_seconds(predictor)
    for lanes in given.lanes:
        boxes = [pv.Box.of_shape([given.side] * 3, c) for c in CORNERS[:lanes]]
        images, truths = [raw.read(b) for b in boxes], [labels.read(b) for b in boxes]
        began = time.perf_counter()
        plain = [flood(i, predictor, model.spec, **how) for i in images]  # type: ignore[arg-type]
        one_by_one = time.perf_counter() - began
        began = time.perf_counter()
        fast = [prepared(i, predictor, model.spec, **how) for i in images]  # type: ignore[arg-type]
        together = LaneSettings(
            per_call=given.per_call,
            pretest=given.pretest,
            objects=given.objects,
            frontier=given.frontier,
        )
        driver = LockStep(fast, predictor, together)
        driver.run()
        in_step = time.perf_counter() - began
        fovs = sum(c.counters["fovs"] for c in fast)
        equal = all(
            np.array_equal(a.segmentation, b.segmentation) for a, b in zip(plain, fast, strict=True)
        )
        emit(
            "lanes",
            model=given.model,
            precision=given.precision,
            device=given.device,
            lanes=lanes,
            side=given.side,
            per_call=given.per_call,
            pretest=given.pretest,
            objects_at_once=given.objects,
            frontier=given.frontier,
            equal=equal,
            plain_scores=against(plain, truths),
            lanes_scores=against(fast, truths),
            objects=sum(c.counters["objects"] for c in fast),
            fovs=fovs,
            rounds=driver.rounds,
            plain_fov_per_s=round(sum(c.counters["fovs"] for c in plain) / one_by_one, 2),
            lanes_fov_per_s=round(fovs / in_step, 2),
            bare_fov_per_s=round(bare, 2),
            mvoxel_per_s=round(lanes * given.side**3 / in_step / 1e6, 4),
            load=round(os.getloadavg()[0], 1),
        )


if __name__ == "__main__":
    main()
