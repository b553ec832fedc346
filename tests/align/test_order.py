"""The order of sections by likeness: what was swapped is found, and nothing else moved."""

from __future__ import annotations

import time

import pytest

from petavox.align.order import liked_order


def likeness(places):
    """Likeness of sections up to four apart; places: where each truly lies in the tissue."""
    n = len(places)
    return {
        (j, k): 0.6 - 0.1 * min(abs(places[j] - places[k]), 5)
        for k in range(n)
        for j in range(max(0, k - 4), k)
    }


def test_sections_in_order_stay():
    assert liked_order(range(12), likeness(range(12))) == list(range(12))


@pytest.mark.parametrize("swap", [[3, 2], [4, 3, 2], [3, 4, 2]])
def test_sections_that_were_moved_are_found(swap):
    places = [0, 1, *swap, *range(2 + len(swap), 14)]
    found = liked_order(range(14), likeness(places))
    assert [places[k] for k in found] == list(range(14))


def test_a_long_stack_takes_seconds():
    places = list(range(3000))
    places[2000], places[2001] = 2001, 2000
    began = time.monotonic()
    found = liked_order(range(3000), likeness(places))
    assert [places[k] for k in found] == list(range(3000))
    assert time.monotonic() - began < 20  # comparing whole orders each time takes many minutes
