"""Neighbours that do not lie on one another after an alignment are named."""

from __future__ import annotations

from petavox.stages.align_report import apart


def row(a, b, inliers, patch, failed=""):
    return {"a": a, "b": b, "inlier_share": inliers, "patch_correlation": patch, "failed": failed}


GOOD = [row(k, k + 1, 0.99, 0.5 + 0.01 * (k % 5)) for k in range(6)]


def test_a_stack_that_lies_well_names_none():
    assert apart(GOOD) == []
    assert apart([]) == []


def test_few_matches_that_fit_or_patches_unlike_the_stack_name_a_pair():
    assert apart([*GOOD, row(6, 7, 0.21, 0.5)]) == ["6-7"]
    assert apart([*GOOD, row(6, 7, 0.9, 0.1)]) == ["6-7"]
    assert apart([*GOOD, row(6, 7, 0.9, "")]) == []


def test_failed_pairs_and_sections_that_are_no_neighbours_are_told_elsewhere():
    assert apart([*GOOD, row(6, 7, 0.0, 0.0, "no match"), row(3, 5, 0.3, "")]) == []
