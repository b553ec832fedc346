"""Scores of the published result on FIB-25, and how fast they come.

    python -m benchmarks.score
    petavox skeletonize block.h5/labels skeletons --swc        # truth skeletons, for run length
    python -m benchmarks.score --skeletons skeletons/swc

What it is: the figures of docs/scores.md, measured. What it is not: a score of a new result.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import petavox as pv
from benchmarks.common import data_folder, emit
from petavox.score.reporting import run_report
from petavox.stages import score, skeleton_scores


def main() -> None:
    """Score the published pass and the supervoxels; print one line of JSON."""
    options = argparse.ArgumentParser(description="Scores of the published result on FIB-25.")
    options.add_argument("--skeletons", type=Path, help="truth skeletons of training_sample2, SWC")
    given = options.parse_args()
    fib = data_folder() / "fib25"
    published = pv.open(fib / "reference_result.h5" / "segmentation")
    truth = pv.open(fib / "training_sample2.h5" / "labels")
    supervoxels = pv.open(fib / "training_sample2.h5" / "supervoxels")
    start = time.perf_counter()
    found = score.tables(published, truth, quiet=True)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    places = score.tables(published, truth, score.ScoreSettings(places=True), quiet=True)
    listed = len(places.errors()["kind"])
    seconds_with_places = time.perf_counter() - start
    figures = found.report(oracle=True)
    figures.pop("conventions")
    there = score.tables(supervoxels, truth, where=published, quiet=True).report()
    runs = {}
    if given.skeletons:
        truth_skeletons = skeleton_scores.read_skeletons(given.skeletons)
        for nodes in (1, 2, 5):
            scores, outside = skeleton_scores.skeleton_scores(
                published, truth_skeletons, merge_nodes=nodes
            )
            along = run_report(scores, outside, nodes)
            along.pop("conventions")
            runs[f"merge_nodes_{nodes}"] = along
    emit(
        "score",
        data="fib25/training_sample2",
        published=figures,
        supervoxels_where_published=there["raw"],
        supervoxels=score.tables(supervoxels, truth, quiet=True).report()["raw"],
        errors_listed=listed,
        skeletons=len(truth_skeletons) if runs else 0,
        run_length=runs,
        seconds=round(seconds, 2),
        seconds_with_places=round(seconds_with_places, 2),
        mvoxel_per_s=round(truth.box.size / seconds / 1e6, 1),
    )


if __name__ == "__main__":
    main()
