"""Seconds and peak memory of a function in a process of its own, its children included.

What it is: for benchmarks that compare peak memory. Memory is the sum of the resident sets of
the process tree, sampled ten times a second, so pages shared between processes count twice.
What it is not: a benchmark.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from typing import Any

import psutil


def _call(function: Callable[..., Any], arguments: tuple[Any, ...], pipe: Any) -> None:
    began = time.monotonic()
    result = function(*arguments)
    pipe.send((time.monotonic() - began, result))


def measured(function: Callable[..., Any], *arguments: Any) -> tuple[float, float, Any]:
    """(seconds, peak GB, what the function returned); it must be importable."""
    spawn = multiprocessing.get_context("spawn")
    mine, its = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_call, args=(function, arguments, its))
    process.start()
    its.close()
    peak = 0
    watched = psutil.Process(process.pid)
    while not mine.poll(0.1) and process.is_alive():
        total = 0
        try:
            for p in [watched, *watched.children(recursive=True)]:
                try:
                    total += p.memory_info().rss
                except psutil.Error:
                    continue
        except psutil.Error:
            break
        peak = max(peak, total)
    if not mine.poll(1):
        raise RuntimeError(f"{function.__name__} died with exit code {process.exitcode}")
    seconds, result = mine.recv()
    process.join()
    return seconds, peak / 1e9, result
