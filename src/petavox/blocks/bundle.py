"""Which blocks are next, and how many travel together: many when short, one when long.

What it is: an order, and arithmetic on measured seconds. What it is not: the sending.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence, Set

TARGET_S = 1.0
"""A bundle should take about this long: a message costs about a millisecond."""

MOST = 256


class BundleSize:
    """The size of the next bundle, from the seconds of the blocks so far.

    The first bundles are single blocks: they are the probes.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self.fixed = fixed
        self.mean_s: float | None = None
        self.longest_s = 0.0
        self.count = 0

    def saw(self, seconds: float) -> None:
        """Take a finished block into account (running mean; recent blocks weigh more)."""
        self.count += 1
        weight = max(1.0 / self.count, 0.02)
        self.mean_s = (
            seconds if self.mean_s is None else self.mean_s * (1 - weight) + seconds * weight
        )
        self.longest_s = max(self.longest_s, seconds)

    def next(self, *, left: int, workers: int) -> int:
        """Blocks for the next bundle; near the end smaller, so that no worker waits alone."""
        if self.fixed is not None:
            return min(self.fixed, left)
        if self.mean_s is None or self.count < workers:
            return 1
        wanted = int(TARGET_S / max(self.mean_s, 1e-6))
        fair = -(-left // (4 * max(1, workers)))
        return max(1, min(wanted, fair, MOST))


def order(
    wanted: Sequence[int], done: bytearray, seed: int | None, last: Set[int]
) -> Iterator[int]:
    """The blocks to do, in order or shuffled; those of `last` when all others were begun."""
    if seed is not None:
        wanted = list(wanted)
        random.Random(seed).shuffle(wanted)
    first = (n for n in wanted if not done[n] and n not in last)
    return itertools.chain(first, (n for n in wanted if not done[n] and n in last))
