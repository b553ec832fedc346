"""Threads of a stage beside torch's own.

What it is: torch held to one thread while a pool's threads use the other cores. What it is not: a
pool.
"""

from __future__ import annotations


class one_torch_thread:
    """torch works on one core inside: the pool's threads use the others, without fighting."""

    def __enter__(self) -> None:
        import torch

        self._before = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        import torch

        torch.set_num_threads(self._before)
