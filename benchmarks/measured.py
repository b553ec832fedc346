"""Seconds and peak memory of a function in a process of its own, its children included.

What it is: for benchmarks that compare peak memory. All processes it starts are sampled five times
a second: memory is the sum of resident sets, so pages shared between processes count twice; CPU
seconds are the sum over all processes seen, and tell what the work costs where other programs
share the machine. What it is not: a benchmark.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

_MARK = "PETAVOX_MEASURED"


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], mark: str, pipe: Any) -> None:
    os.environ[_MARK] = mark  # inherited by all that this process starts, also by daemons
    began = time.monotonic()
    result = function(*arguments)
    pipe.send((time.monotonic() - began, result))


@dataclass(frozen=True)
class Measured:
    """What a call took, and what it returned."""

    seconds: float
    cpu_seconds: float
    peak_gb: float
    result: Any

    def figures(self, prefix: str = "") -> dict[str, float]:
        """For a benchmark's line."""
        return {
            f"{prefix}seconds": round(self.seconds, 1),
            f"{prefix}cpu_seconds": round(self.cpu_seconds, 1),
            f"{prefix}peak_gb": round(self.peak_gb, 2),
        }


def measured(function: Callable[..., Any], *arguments: Any) -> Measured:
    """Call an importable function in a fresh process and watch it and all it starts."""
    spawn = multiprocessing.get_context("spawn")
    mine, its = spawn.Pipe(duplex=False)
    mark = uuid.uuid4().hex
    process = spawn.Process(target=_call, args=(function, arguments, mark, its))
    process.start()
    its.close()
    peak = 0
    spent: dict[int, float] = {}
    belongs: dict[int, bool] = {}
    while not mine.poll(0.2) and process.is_alive():
        total = 0
        for p in psutil.process_iter():
            try:
                if not belongs.get(p.pid, False):
                    # a fresh process may not have its final environment yet: look again for a while
                    if p.pid in belongs and time.time() - p.create_time() > 5:
                        continue
                    belongs[p.pid] = p.pid == process.pid or p.environ().get(_MARK) == mark
                if belongs[p.pid]:
                    total += p.memory_info().rss
                    times = p.cpu_times()
                    spent[p.pid] = times.user + times.system
            except psutil.Error:
                continue
        peak = max(peak, total)
    if not mine.poll(1):
        raise RuntimeError(f"{function.__name__} died with exit code {process.exitcode}")
    seconds, result = mine.recv()
    process.join()
    return Measured(seconds, sum(spent.values()), peak / 1e9, result)
