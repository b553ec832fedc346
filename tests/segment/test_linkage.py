"""Average linkage with bounds against the plain way: every pair worked out at every step."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from petavox.segment import linkage
from petavox.segment.linkage import Linkage, with_largest


def plainly(labels, voxels, share):
    """The cluster of each part: of all pairs the one with the largest share, then the first."""
    n, k = labels.shape
    held = [
        [{int(labels[i, p]): int(voxels[i])} if labels[i, p] else {} for p in range(k)]
        for i in range(n)
    ]
    near = {
        frozenset((int(i), int(j)))
        for p in range(k)
        for of in [np.flatnonzero(labels[:, p])]
        for small, large, _ in with_largest(labels[of, p], of, voxels[of])
        for i, j in zip(small, large, strict=True)
    }
    cluster = np.arange(n)

    def shared(i, j):
        found = []
        for a, b in zip(held[i], held[j], strict=True):
            if a and b:
                both = sum(v * b.get(label, 0) for label, v in a.items())
                found.append(Fraction(both, sum(a.values()) * sum(b.values())))
        return float(sum(found)) / len(found) if found else 0.0

    while True:
        pairs = [(-shared(*sorted(p)), *sorted(p)) for p in near]
        best = min(pairs, default=(0.0, 0, 0))
        if -best[0] <= share:
            return cluster
        _, i, j = best
        cluster[cluster == j] = i
        for a, b in zip(held[i], held[j], strict=True):
            for label, v in b.items():
                a[label] = a.get(label, 0) + v
        near = {frozenset(i if m == j else m for m in p) for p in near}
        near = {p for p in near if len(p) == 2}


def parts(seed):
    """Parts of two to four passes, some with mergers over most of them, some empty in a pass."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(2, 40)), int(rng.integers(2, 5))
    kinds = rng.choice([2, 4, n], k)
    labels = np.stack([rng.integers(0 if rng.random() < 0.5 else 1, m + 1, n) for m in kinds], 1)
    labels[:, 0] = np.where(rng.random(n) < rng.choice([0.5, 0.9, 1.0]), 1, labels[:, 0])
    return np.unique(labels, axis=0).astype(np.uint64), rng


@pytest.mark.parametrize("many", [0, 3, linkage.MANY])
@pytest.mark.parametrize("seed", range(40))
def test_clusters_are_those_of_the_plain_way(seed, many, monkeypatch):
    monkeypatch.setattr(linkage, "MANY", many)
    labels, rng = parts(seed)
    monkeypatch.setattr(linkage, "PARTNERS", int(rng.choice([2, 64])))
    voxels = rng.choice([1, 2, 2, 4, 7], len(labels))
    # shares such as 1/2 + 1/3 differ in their last bit by the order of adding: none of these
    share = float(rng.choice([0.05, 0.11, 0.31, 0.52]))
    assert Linkage(labels, voxels, share).run().tolist() == plainly(labels, voxels, share).tolist()


def looks(n, monkeypatch):
    """How often a share is worked out where one pass joined n parts, and another none."""
    monkeypatch.setattr(linkage, "MANY", 100)
    real, calls = Linkage._share, []
    with monkeypatch.context() as patch:
        patch.setattr(Linkage, "_share", lambda self, i, k: calls.append(1) or real(self, i, k))
        labels = np.stack([np.ones(n), np.arange(1, n + 1), np.arange(1, n + 1)], 1)
        voxels = np.random.default_rng(0).integers(1000, 5000, n)
        assert not Linkage(labels.astype(np.uint64), voxels, 0.1).run().any()
    return len(calls)


def test_a_merger_that_is_joined_whole_takes_time_in_proportion_to_its_parts(monkeypatch):
    assert looks(800, monkeypatch) < 2.6 * looks(400, monkeypatch)
