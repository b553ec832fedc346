"""The bare network on a processor: precisions, fusions and processes against each other.

    python -m benchmarks.network [--seconds 4] [--variants f32 bf16 int8 ...]

What it is: fields of view per second of the released network, one at a time, each variant in fresh
processes: with all cores, and as one process per core. Variants that petavox does not use are kept
here, because the page docs/fast.md says why: `compiled` (torch.compile, inductor) and `fused`
(convolution + ReLU in one oneDNN call) lose or gain too little, and `bf16_torch` (torch's own
bfloat16 convolution also where the processor has no instructions for it) is what petavox avoids
there. CPU seconds are given too: on a machine that others use they say more than the wall.
What it is not: a flood (benchmarks.flood, benchmarks.lanes), or accuracy (benchmarks.int8).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import petavox as pv
from benchmarks.common import data_folder, emit
from benchmarks.flood import released_model
from petavox.ffn.model import Model, load_model
from petavox.ffn.predictor import MixedStack, Predictor

VARIANTS = ("f32", "bf16", "int8", "bf16_fused", "bf16_compiled", "bf16_torch")
Step = Callable[[torch.Tensor], torch.Tensor]
_ONES = [1, 1, 1]


def fused(stack: MixedStack) -> Step:
    """The bf16 network with each convolution and its ReLU in one oneDNN call."""
    conv = torch.ops.mkldnn._convolution_pointwise

    def run(layer: Any, x: torch.Tensor, then: str) -> torch.Tensor:
        out: torch.Tensor = conv(x, layer.weight, layer.bias, _ONES, _ONES, _ONES, 1, then, [], "")
        return out

    def step(x: torch.Tensor) -> torch.Tensor:
        x = run(stack.second, run(stack.first, x.to(torch.bfloat16), "relu"), "none").float()
        for module in stack.residual:
            inner = run(module.first, functional.relu(x).to(torch.bfloat16), "relu")
            x = x + run(module.second, inner, "none")
        out: torch.Tensor = stack.last(functional.relu(x).movedim(1, -1)).movedim(-1, 1)
        return out

    return step


def network(variant: str, model: Model, sample: np.ndarray) -> Step:
    """The network as a function (1, 2, z, y, x) -> (1, 1, z, y, x)."""
    precision, _, how = variant.partition("_")
    if how == "torch":
        return MixedStack(model.network).eval()
    made = Predictor(model, precision=precision, sample=sample).network  # type: ignore[arg-type]
    if how == "compiled":
        return torch.compile(made)
    return fused(made) if how == "fused" else made


def one(variant: str, model_file: Path, seconds: float) -> dict[str, float]:
    """Measure in this process; waits for a line on standard input before it starts."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    model = load_model(model_file)
    raw = pv.open(data_folder() / "fib25/training_sample2.h5/raw")
    image = (raw.read(pv.Box.of_shape((49, 49, 49), (100, 100, 100))).astype(np.float32) - 128) / 33
    with torch.inference_mode():
        step = network(variant, model, image)
        view = torch.from_numpy(image[:33, :33, :33].copy())
        x = torch.stack([view, torch.full_like(view, -2.9)])[None]
        x = x.contiguous(memory_format=torch.channels_last_3d)
        step(x)
        step(x)
        print("ready", flush=True)
        sys.stdin.readline()
        fovs, began, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - began < seconds:
            step(x)
            fovs += 1
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {"fov_per_s": fovs / wall, "cpu_ms_per_fov": 1e3 * cpu / fovs}


def together(variant: str, model: Path, seconds: float, processes: int, threads: int) -> Any:
    """The rates of several processes at work at the same time."""
    command = [sys.executable, "-m", "benchmarks.network", "--one", variant, "--model", str(model),
               "--seconds", str(seconds)]  # fmt: skip
    running = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
        for _ in range(processes)
    ]  # fmt: skip
    try:
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                said = process.communicate()[1].strip().splitlines() or ["it died"]
                return {"cannot": said[-1][:200]}
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        found = [json.loads(p.communicate()[0].strip().splitlines()[-1]) for p in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    return {
        "fov_per_s": round(sum(f["fov_per_s"] for f in found), 2),
        "cpu_ms_per_fov": round(sum(f["cpu_ms_per_fov"] for f in found) / processes, 1),
    }


def main() -> None:
    """Measure all, print one line of JSON."""
    options = argparse.ArgumentParser(description="Bare network, variants against each other.")
    options.add_argument("--seconds", type=float, default=4.0)
    options.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    options.add_argument("--one", choices=VARIANTS, help=argparse.SUPPRESS)
    options.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.model, given.seconds)))
        return
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        model = released_model(Path(folder))
        found = {
            v: {
                "one_process": together(v, model, given.seconds, 1, cores),
                "a_process_a_core": together(v, model, given.seconds, cores, 1),
            }
            for v in given.variants
        }
    rates = {k: v["one_process"].get("fov_per_s", 0.0) for k, v in found.items()}
    base = rates.get("bf16", 0.0)
    emit(
        "network",
        cores=cores,
        load=round(os.getloadavg()[0], 1),
        **found,
        ratio_to_bf16={k: round(r / base, 3) for k, r in rates.items()} if base else {},
    )


if __name__ == "__main__":
    main()
