"""Union-find over many links: seconds and memory, from a generator.

    python -m benchmarks.unionfind [LINKS]          default 10,000,000

The links are those of a grid of blocks (32 x 32 in a layer) with 2,000 objects each: an object is
linked to the one of the same number in the next block along z, y and x with probability 0.45, so
components of all sizes form. What it is: time and memory of petavox.segment.unionfind. What it is
not: a check of the result (tests/segment/test_unionfind.py); only two bounds are checked here.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.common import emit
from petavox.segment.links import LOCAL_BITS
from petavox.segment.unionfind import PartitionedUnion

OBJECTS, SIDE, SHARE = 2000, 32, 0.45


def links(wanted: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """At least `wanted` links, block by block in batches."""
    rng = np.random.default_rng(seed)
    made, block = 0, 0
    local = np.arange(1, OBJECTS + 1, dtype=np.uint64)
    batch_a: list[np.ndarray] = []
    batch_b: list[np.ndarray] = []
    while made < wanted:
        y, x = block // SIDE % SIDE, block % SIDE
        steps = [SIDE * SIDE] + [SIDE] * (y + 1 < SIDE) + [1] * (x + 1 < SIDE)
        for step in steps:
            some = local[rng.random(OBJECTS) < SHARE]
            batch_a.append(some | np.uint64(block << LOCAL_BITS))
            batch_b.append(some | np.uint64((block + step) << LOCAL_BITS))
            made += len(some)
        block += 1
        if block % 512 == 0 or made >= wanted:
            yield np.concatenate(batch_a), np.concatenate(batch_b)
            batch_a, batch_b = [], []


def peak_gib() -> float:
    """Largest memory this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Measure once."""
    wanted = int(float(sys.argv[1])) if len(sys.argv) > 1 else 10_000_000
    folder = Path(tempfile.mkdtemp(prefix="petavox-union-"))
    before = peak_gib()
    try:
        union = PartitionedUnion(folder / "u", span_bits=34)
        began, worked = time.perf_counter(), time.process_time()
        making = 0.0
        source = links(wanted)
        while True:
            t = time.perf_counter()
            piece = next(source, None)
            making += time.perf_counter() - t
            if piece is None:
                break
            union.add(*piece)
        added = time.perf_counter()
        union.solve()
        solved = time.perf_counter()
        changed = 0
        for ids, roots in union.lookups():
            assert (roots < ids).all(), "a root is the smallest member"
            changed += len(ids)
        ended, worked = time.perf_counter(), time.process_time() - worked
        disk = sum(p.stat().st_size for p in (folder / "u").iterdir())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    peak = peak_gib()
    emit(
        "unionfind",
        links=union.links,
        ids_changed=changed,
        ranges=len(union._counts),
        largest_range_links=union.most,
        seconds_to_make_links=round(making, 1),
        seconds_to_add=round(added - began - making, 1),
        seconds_to_solve=round(solved - added, 1),
        seconds_of_lookups=round(ended - solved, 1),
        seconds=round(ended - began - making, 1),
        processor_seconds_with_making=round(worked, 1),
        load=round(os.getloadavg()[0], 1),
        peak_gib=round(peak, 2),
        bytes_a_link_of_largest_range=round((peak - before) * 2**30 / max(union.most, 1)),
        disk_gib=round(disk / 2**30, 2),
    )


if __name__ == "__main__":
    main()
