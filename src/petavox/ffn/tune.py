"""Tune: which precision, memory format, threads, batch and processes are fastest on this machine.

What it is: candidates, the measurement of one candidate in processes of its own, and the search:
one knob after another from the untuned f32 default, keeping what is faster.
What it is not: the work that is measured (petavox.ffn.tuned_work), or the settings file
(petavox.stages.tune).

Each candidate runs in fresh processes, so that threads, memory and caches of one cannot help or
hinder another.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from petavox.errors import BadInput, WorkFailed
from petavox.ffn.model import ModelSpec
from petavox.settings import Settings

Work = Literal["train", "segment"]


class Candidate(Settings):
    """One way to run. threads: of the processor, for each process; 0: as torch finds fit.
    lanes: subvolumes flooded in lock-step, `batch` of their fields of view in each call."""

    precision: Literal["f32", "bf16"] = "f32"
    memory_format: Literal["channels_last", "contiguous"] = "contiguous"
    compile: bool = False
    threads: int = Field(0, ge=0)
    batch: int = Field(1, ge=1)
    live: int = Field(1, ge=1)
    lanes: int = Field(1, ge=1)
    processes: int = Field(1, ge=1)


@dataclass(frozen=True)
class Measured:
    """A candidate with its fields of view per second (of all processes) and memory in MiB.

    why_not: why it cannot be used; empty if it can.
    """

    candidate: Candidate
    fov_per_s: float
    memory_mb: float
    why_not: str = ""


Measure = Callable[[Candidate], Measured]


def default(work: Work) -> Candidate:
    """The untuned way: float32, contiguous, threads as torch finds fit."""
    return Candidate(batch=4 if work == "train" else 1, live=4 if work == "train" else 1)


def knobs(work: Work, cores: int, *, compiler: bool, processor: bool) -> list[dict[str, list[Any]]]:
    """What is tried, one after another: groups of values to set together.

    cores: of this machine.  compiler: torch.compile can work.  processor: no accelerator.
    """
    halves = sorted({1, max(1, cores // 2), cores}) if processor else []
    batches = [1, 2, 4, 8] if processor else [4, 8, 16, 32, 64]
    many = [(n, max(1, cores // n)) for n in (2, 4) if n <= cores] if processor else [(2, 0)]
    together = {"batch": batches} | ({"lanes": batches} if work == "segment" else {})
    out: list[dict[str, list[Any]]] = [
        # threads first: on a machine that others use, waiting at barriers would hide all else
        {"threads": halves},
        {
            "precision": ["bf16", "f32", "bf16"],
            "memory_format": ["contiguous", "channels_last", "channels_last"],
        },
        together,
    ]
    if work == "segment":
        out.append({"lanes": [2, 4] if processor else [4, 16, 64]})  # one field of view a call
    if work == "train":
        out.append({"live": [8]})
    out.append({"processes": [n for n, _ in many], "threads": [t for _, t in many]})
    if compiler:
        out.append({"compile": [True]})
    return out


def search(
    work: Work, tries: list[dict[str, list[Any]]], measure: Measure, gain: float = 1.03
) -> Iterator[Measured]:
    """Measure the default, then each knob from the best so far; yields all measurements.

    A knob is moved only where the rate rises by the factor `gain`, or where `live` rises at no
    cost of more than that: more live patches decorrelate the batches.
    """
    best = measure(default(work))
    yield best
    for knob in tries:
        names = list(knob)
        start = best
        for values in zip(*knob.values(), strict=True):
            change = dict(zip(names, values, strict=True))
            candidate = start.candidate.model_copy(update=change)
            if candidate in (start.candidate, best.candidate):
                continue
            found = measure(candidate)
            yield found
            wanted = best.fov_per_s / gain if names == ["live"] else best.fov_per_s * gain
            if not found.why_not and found.fov_per_s >= wanted:
                best = found


def winner(found: list[Measured]) -> Measured:
    """The candidate that `search` ends with: the fastest, or with more live patches as fast."""
    usable = [m for m in found if not m.why_not]
    top = max(usable, key=lambda m: m.fov_per_s)
    same = [
        m for m in usable
        if m.candidate.model_copy(update={"live": top.candidate.live}) == top.candidate
        and m.fov_per_s >= top.fov_per_s / 1.03
    ]  # fmt: skip
    return max(same, key=lambda m: m.candidate.live)


def activation_mb(spec: ModelSpec, candidate: Candidate, work: Work) -> float:
    """Memory of the network's inner values for one process, MiB: kept for the way back in training.

    An estimate from below (two tensors a convolution), to leave out what cannot fit before it is
    tried.
    """
    voxels = float(np.prod(spec.fov)) * candidate.batch
    width = 2 if candidate.precision == "bf16" else 4
    layers = 2 * 2 * spec.depth if work == "train" else 4
    return voxels * spec.features * width * layers / 2**20


def measurer(
    work: Work, spec: ModelSpec, *, device: str, memory_mb: float, seconds: float = 3.0
) -> Measure:
    """A function that measures a candidate on this machine.

    memory_mb: bound for all processes together.  seconds: of each measurement.
    """

    def measure(candidate: Candidate) -> Measured:
        least = activation_mb(spec, candidate, work) * candidate.processes
        if least > memory_mb:
            return Measured(candidate, 0.0, least, f"needs over {memory_mb:,.0f} MiB")
        plan = {
            "work": work,
            "spec": spec.model_dump(mode="json", exclude={"provenance"}),
            "candidate": candidate.model_dump(mode="json"),
            "device": device,
            "seconds": seconds,
        }
        try:
            answers = _in_processes(plan, candidate)
        except WorkFailed as e:
            return Measured(candidate, 0.0, 0.0, str(e))
        memory = sum(a["memory_mb"] for a in answers)
        rate = sum(a["fov_per_s"] for a in answers)
        over = f"takes {memory:,.0f} MiB of {memory_mb:,.0f}" if memory > memory_mb else ""
        return Measured(candidate, rate, memory, over)

    return measure


def _in_processes(plan: dict[str, Any], candidate: Candidate) -> list[dict[str, float]]:
    """Start all processes, let them warm up, then measure them at the same time."""
    environment = dict(os.environ)
    if candidate.threads:
        environment["OMP_NUM_THREADS"] = str(candidate.threads)
    command = [sys.executable, "-m", "petavox.ffn.tuned_work", json.dumps(plan)]
    running = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=environment,
        )
        for _ in range(candidate.processes)
    ]  # fmt: skip
    try:
        for process in running:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                said = (process.communicate()[1] or "").strip().splitlines()
                raise WorkFailed(f"cannot run: {said[-1][:100] if said else 'process ended'}")
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        out = []
        for process in running:
            try:
                text, errors = process.communicate(timeout=60 + 10 * plan["seconds"])
            except subprocess.TimeoutExpired:
                raise WorkFailed("cannot run: one step takes longer than the measurement") from None
            if process.returncode:
                said = errors.strip().splitlines()
                raise WorkFailed(f"cannot run: {said[-1][:100] if said else 'process died'}")
            out.append(json.loads(text.strip().splitlines()[-1]))
        return out
    finally:
        for process in running:
            process.kill()
            process.wait()


def table(found: list[Measured]) -> list[dict[str, Any]]:
    """Rows to print: each candidate with its rate and its ratio to the first, the default."""
    first = found[0].fov_per_s
    return [
        {
            **dataclasses.asdict(m) | {"candidate": None},
            **m.candidate.model_dump(),
            "ratio": m.fov_per_s / first if first else float("nan"),
        }
        for m in found
    ]


def bound(memory_gb: float | None) -> float:
    """The memory bound in MiB: what was given, or 80 % of what is free now."""
    if memory_gb is not None:
        if memory_gb <= 0:
            raise BadInput(f"the memory bound is {memory_gb} GB; it must be positive.")
        return memory_gb * 1e9 / 2**20
    try:
        pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        raise BadInput("this system does not say how much memory is free; give --memory.") from None
    return 0.8 * pages / 2**20
