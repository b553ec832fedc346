"""Pairs counted against a dictionary; blocks add up to the volume."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from petavox.cooccurrence import counted, summed


@given(st.integers(0, 10_000), st.tuples(*[st.integers(0, 6)] * 3))
def test_pairs_are_those_of_a_dictionary_and_blocks_add_up(seed, shape):
    rng = np.random.default_rng(seed)
    big = np.uint64((1 << 64) - 3)
    a = rng.integers(0, 3, shape, np.uint64) * big
    b = rng.integers(0, 4, shape).astype(np.uint16)
    first, second, voxels = counted(a, b)
    assert (first.dtype, second.dtype, voxels.dtype) == (np.uint64, np.uint64, np.int64)
    wanted = Counter(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    rows = list(zip(first.tolist(), second.tolist(), strict=True))
    assert rows == sorted(wanted)
    assert dict(zip(rows, voxels.tolist(), strict=True)) == dict(wanted)
    cut = shape[0] // 2
    parts = [counted(a[k], b[k]) for k in (slice(cut, None), slice(None, cut))]
    again = summed(*(np.concatenate([p[k] for p in parts]) for k in range(3)))
    assert all(np.array_equal(x, y) for x, y in zip(again, (first, second, voxels), strict=True))
