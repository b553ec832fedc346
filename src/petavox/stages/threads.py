"""Threads of a stage beside torch's own.

What it is: torch held to one thread while a pool's threads use the other cores, and a pool that is
given work as it goes. What it is not: a pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


class one_torch_thread:
    """torch works on one core inside: the pool's threads use the others, without fighting."""

    def __enter__(self) -> None:
        import torch

        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        import torch

        torch.set_num_threads(self._before)


def in_turn(
    pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], waiting: int
) -> Iterator[R]:
    """function(item) for each item, in order; at most `waiting` are given to the pool at once.

    `pool.map` takes all items before it starts: those of a large volume are millions. What has not
    begun when one fails is not begun.
    """
    given: deque[Future[R]] = deque()
    try:
        for item in items:
            given.append(pool.submit(function, item))
            if len(given) >= waiting:
                yield given.popleft().result()
        while given:
            yield given.popleft().result()
    finally:
        for left in given:
            left.cancel()
