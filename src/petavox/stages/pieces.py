"""Independent pieces of work over several processes, in bounded memory.

What it is: `run`, for the steps of neuron stages that are not blocks of a grid (shards of
objects), and for blocks too. At most two pieces a worker are ever in flight, results come in the
order of the pieces. What it is not: the block runner: no ledger, no retries.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from petavox.errors import WorkFailed

P = TypeVar("P")
R = TypeVar("R")


def run(function: Callable[[P], R], pieces: Iterable[P], *, workers: int) -> Iterator[R]:
    """`function` of every piece, in order.

    function: importable (it is sent to fresh processes); workers: 1 runs in this process.
    Raises what a piece raises; WorkFailed if a process dies.
    """
    if workers <= 1:
        yield from map(function, pieces)
        return
    waiting = iter(pieces)
    fresh = multiprocessing.get_context("spawn")  # forks would inherit TensorStore's threads
    pool = concurrent.futures.ProcessPoolExecutor(workers, mp_context=fresh)
    flight: list[concurrent.futures.Future[R]] = []
    try:
        for piece in itertools.islice(waiting, 2 * workers):
            flight.append(pool.submit(function, piece))
        while flight:
            done = flight.pop(0)
            yield done.result()
            for piece in itertools.islice(waiting, 1):
                flight.append(pool.submit(function, piece))
    except concurrent.futures.process.BrokenProcessPool:
        raise WorkFailed(
            "a worker process died, most likely for want of memory. Use fewer --workers, or a "
            "smaller --block."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
