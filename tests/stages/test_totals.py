"""Totals by object over many blocks: the sums, and how often rows are sorted."""

from __future__ import annotations

import numpy as np
import pytest

from petavox.stages import totals as stage


@pytest.mark.parametrize("few", [1, 7, 10**6])
def test_totals_are_the_sums_however_they_are_gathered(monkeypatch, few):
    monkeypatch.setattr(stage, "_FEW", few)
    rng = np.random.default_rng(few)
    parts = [
        (rng.integers(2**63, 2**63 + 30, n, np.uint64), rng.integers(0, 9, n))
        for n in rng.integers(0, 12, 40)
    ]
    expected: dict[int, int] = {}
    for ids, amounts in parts:
        for label, amount in zip(ids.tolist(), amounts.tolist(), strict=True):
            expected[label] = expected.get(label, 0) + amount
    ids, sums = stage.totals(iter(parts))
    assert ids.dtype == np.uint64
    assert dict(zip(ids.tolist(), sums.tolist(), strict=True)) == expected
    assert ids.tolist() == sorted(expected)
    assert [len(a) for a in stage.totals(iter([]))] == [0, 0]


def test_rows_are_sorted_as_often_as_they_double_not_once_a_block(monkeypatch):
    monkeypatch.setattr(stage, "_FEW", 10)
    handled = []
    add = stage.add_totals
    monkeypatch.setattr(
        stage, "add_totals", lambda s, i, a: handled.append(len(s[0]) + len(i)) or add(s, i, a)
    )
    blocks, each = 1000, 10
    parts = ((np.arange(k * each, (k + 1) * each), np.ones(each)) for k in range(blocks))
    ids, _ = stage.totals(parts)
    assert len(ids) == blocks * each
    assert sum(handled) < 5 * blocks * each  # in every block: 500 times as much
