"""Agglomeration without the network: supervoxels by the mean boundary probability between them.

    python -m benchmarks.mean_affinity

What it is: the plain baseline on gala_fib: the two supervoxels with the lowest mean boundary
probability over their common faces are joined, again and again, up to a threshold. The threshold
is the one with the best VI on train.h5; test.h5 is scored once.
What it is not: part of petavox.
"""

from __future__ import annotations

import heapq
from typing import Any

import h5py
import numpy as np

from benchmarks.common import data_folder, emit
from petavox.score.overlap import adapted_rand, oracle, variation_of_information
from petavox.score.pairs import PairTable, pair_table
from petavox.segment.unionfind import components, look_up


def merges(labels: np.ndarray, boundary: np.ndarray) -> list[tuple[float, int, int]]:
    """(mean boundary probability, a, b) of every join, in the order of joining.

    labels: (z, y, x), every voxel held by a supervoxel.  boundary: of the same shape, 0..1.
    """
    parts = []
    for axis in range(3):
        low = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
        high = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        differ = (labels[low] != labels[high]) & (labels[low] > 0) & (labels[high] > 0)
        a, b = labels[low][differ], labels[high][differ]
        value = np.maximum(boundary[low][differ], boundary[high][differ])
        pairs, place = np.unique(np.stack([np.minimum(a, b), np.maximum(a, b)], 1), axis=0,
                                 return_inverse=True)  # fmt: skip
        sums, counts = np.bincount(place.ravel(), value), np.bincount(place.ravel())
        parts.append((pairs[:, 0], pairs[:, 1], sums, counts))
    a, b, sums, counts = (np.concatenate([p[k] for p in parts]) for k in range(4))
    return joins_of(a, b, sums, counts)


def joins_of(
    a: np.ndarray, b: np.ndarray, sums: np.ndarray, counts: np.ndarray
) -> list[tuple[float, int, int]]:
    """(mean cost, a, b) of every join by average linkage, in the order of joining.

    a, b: (n,) ids of pairs; a pair may come more than once.  sums: cost summed over the faces of
    each row.  counts: faces.
    """
    near: dict[int, dict[int, list[float]]] = {int(i): {} for i in np.unique([a, b])}
    for i, k, s, n in zip(a.tolist(), b.tolist(), sums.tolist(), counts.tolist(), strict=True):
        said = near[i].setdefault(k, [0.0, 0])
        said[0] += s
        said[1] += n
        near[k][i] = said
    queue = [(s / n, i, k) for i in near for k, (s, n) in near[i].items() if i < k]
    heapq.heapify(queue)
    out = []
    while queue:
        mean, i, k = heapq.heappop(queue)
        said = near.get(i, {}).get(k)
        if said is None or said[0] / said[1] != mean:
            continue
        out.append((mean, i, k))
        del near[i][k]
        for other, (s, n) in near.pop(k).items():
            if other == i:
                continue
            del near[other][k]
            both = near[i].get(other, [0.0, 0])
            both = [both[0] + s, both[1] + n]
            near[i][other] = near[other][i] = both
            heapq.heappush(queue, (both[0] / both[1], min(i, other), max(i, other)))
    return out


def after(table: PairTable, joins: list[tuple[float, int, int]], limit: float) -> PairTable:
    """The table after the joins below a limit."""
    ok = [(a, b) for mean, a, b in joins if mean < limit]
    a, b = np.array(ok, np.uint64).reshape(-1, 2).T
    return table.with_result(look_up(table.result, *components(a, b)))


def scores(table: PairTable) -> dict[str, float]:
    """VI and adapted Rand on voxels labelled in both."""
    vi = variation_of_information(table)
    return {
        "vi": round(vi.total, 4),
        "split": round(vi.split, 4),
        "merge": round(vi.merge, 4),
        "rand": round(adapted_rand(table).error, 4),
    }


def main() -> None:
    """One line of JSON."""
    known: dict[str, Any] = {}
    for name in ("train", "test"):
        with h5py.File(data_folder() / "gala_fib" / f"{name}.h5") as file:
            labels, truth = file["supervoxels"][...], file["labels"][...]
            boundary = file["boundary_prob"][...].astype(np.float64)
        table = pair_table(labels, truth).labelled()
        known[name] = (table, merges(labels.astype(np.int64), boundary / boundary.max()))
    limits = np.linspace(0.05, 0.95, 91)
    costs = [variation_of_information(after(*known["train"], x)).total for x in limits]
    limit = float(limits[int(np.argmin(costs))])
    table, joins = known["test"]
    emit(
        "mean_affinity",
        limit=round(limit, 3),
        vi_train=round(min(costs), 4),
        supervoxels=scores(table),
        mean_affinity=scores(after(table, joins, limit)),
        best_limit=scores(min((after(table, joins, x) for x in limits),
                              key=lambda t: variation_of_information(t).total)),
        floor=scores(oracle(table)),
    )  # fmt: skip


if __name__ == "__main__":
    main()
