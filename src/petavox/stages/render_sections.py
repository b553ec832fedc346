"""Which section is shown at a place z of the aligned volume, and which of its points.

What it is: the choice of sections for what is missing, and the inverse fields, made when they are
needed and not all kept. What it is not: the pixels (stages/render.py).
"""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from petavox.align.frames import Field, Lattice


class Pulls:
    """Inverse fields, volume -> section, made when asked for; the newest `most` are kept, for
    those of all sections of a long stack would take gigabytes. Threads may ask at once.

    fields: section -> volume; asked only for what is made, so that it may read them from a file.
    reach: the corners (low, high) of each section's place in the volume, pixels.
    """

    def __init__(
        self, fields: Mapping[int, Field], reach: Mapping[int, tuple[Any, Any]], most: int
    ) -> None:
        self.fields, self.reach, self.most = fields, reach, most
        self._kept: OrderedDict[int, Field] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, k: int) -> Field:
        """The inverse field of section k."""
        with self._lock:
            if k not in self._kept:
                f = self.fields[k]
                spacing = f.lattice.spacing if f.lattice is not None else 512.0
                self._kept[k] = f.inverse(Lattice.covering(*self.reach[k], spacing))
                while len(self._kept) > self.most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(k)
            return self._kept[k]


def at_once(shards: int, per_layer: int, threads: int) -> int:
    """Most layers of shards that threads work on at once, if they take them in order.

    >>> at_once(100, 10, 2)  # a layer's last shard and the next one's first
    2
    >>> at_once(100, 1, 4)
    4
    """
    busy = min(threads, shards)
    return min(-(-shards // per_layer), -(-(busy - 1) // per_layer) + 1)


def shown_at(k: int, known: Sequence[int], *, fill: bool) -> int | None:
    """The section to show at z = k: itself; with `fill` the nearest where it is missing, the lower
    one of two. known: sections with a field, ascending."""
    i = bisect.bisect_left(known, k)
    if i < len(known) and known[i] == k:
        return k
    if not fill:
        return None
    return min(known[max(i - 1, 0) : i + 1], key=lambda j: (abs(j - k), j))


def near(k: int, known: Sequence[int], most: int) -> list[int]:
    """The sections of `known` (ascending) at most `most` away from k, nearest first, the lower one
    of two before."""
    first, stop = bisect.bisect_left(known, k - most), bisect.bisect_right(known, k + most)
    return sorted((j for j in known[first:stop] if j != k), key=lambda j: (abs(j - k), j))
