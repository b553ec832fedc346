"""Agglomeration of real tissue: what the candidates allow, and what the network says of a sample.

    python -m benchmarks.agglomeration                      # candidates of the published result
    python -m benchmarks.agglomeration --seconds 150        # and as many pairs as fit
    python -m benchmarks.agglomeration --labels supervoxels --seconds 150
    python -m benchmarks.agglomeration --consensus          # published result with supervoxels

What it is: `petavox agglomerate`'s candidates on fib25/training_sample2 (250^3 at 10 nm): how many
pairs, how many true (both objects mostly of one body), and the VI had all true ones been merged,
beside the oracle floor, where every object is given to its body wherever it lies. With --seconds,
a sample of pairs, true and false in turn in a fixed random order, is resegmented with the released
network until the time is over: share decided rightly by the published rule, steps, seconds.
What it is not: the accuracy of a whole agglomeration; that needs all pairs.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import petavox as pv
from benchmarks.common import data_folder, emit
from benchmarks.flood import released_model
from petavox.blocks import Ledger
from petavox.score.overlap import majority, oracle, variation_of_information
from petavox.score.pairs import pair_table
from petavox.score.tolerance import near_boundary
from petavox.segment.agglomeration import final_of
from petavox.segment.consensus import consensus
from petavox.segment.resegment import ResegmentSettings, around, radii, resegment
from petavox.segment.rule import Rule, accepted
from petavox.stages import tables
from petavox.stages.candidates import Candidates, CandidateSettings, group_pairs
from petavox.stages.pair_scores import score_columns
from petavox.stages.stage import run_stage
from petavox.volume.opening import create, finish

NM = (10.0, 10.0, 10.0)


def copied(path: Path, values: np.ndarray) -> None:
    """Labels as a volume with its voxel size."""
    box = pv.Box.of_shape(values.shape)
    made = create(path, box=box, voxel_size=NM, dtype=np.uint64, kind="labels")
    made.write(box, values.astype(np.uint64))
    finish(made, {"stage": "benchmark"})


def candidates(folder: Path, settings: CandidateSettings) -> tuple[dict[str, Any], float]:
    """The pairs of folder/labels as columns, and the seconds that finding them took."""
    began = time.perf_counter()
    find = Candidates(
        settings,
        reads={
            "labels": folder / "labels",
            "image": data_folder() / "fib25/training_sample2.h5/raw",
        },
        writes={"candidates": folder / "out.candidates"},
    )
    with Ledger(folder / "ledger.db") as ledger:
        run_stage(find, ledger=ledger, quiet=True)
    group_pairs(find, folder / "out.pairs")
    seconds = time.perf_counter() - began
    parts = list(tables.parts(folder / "out.pairs", len(find.grid())))
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}, seconds


def in_turn(same: np.ndarray) -> Iterator[int]:
    """Rows, true and false in turn, each kind in a fixed random order."""
    rng = np.random.default_rng(0)
    true, false = (rng.permutation(np.flatnonzero(same == k)) for k in (True, False))
    for pair in zip(true, false, strict=False):
        yield from (int(i) for i in pair)


def sample(
    image: np.ndarray,
    labels: np.ndarray,
    pairs: dict[str, np.ndarray],
    same: np.ndarray,
    folder: Path,
    seconds: float,
    precision: Any,
) -> dict[str, Any]:
    """Resegment pairs until the time is over; figures."""
    from petavox.ffn.model import load_model
    from petavox.ffn.predictor import Predictor

    predict = Predictor(load_model(released_model(folder)), precision=precision)
    settings = ResegmentSettings()
    radius = radii(settings, predict.spec, NM)[0]
    rows, found = [], []
    began = time.perf_counter()
    for i in in_turn(same):
        if time.perf_counter() - began > seconds:
            break
        point = [int(pairs[k][i]) for k in "zyx"]
        box = around(point, radius).intersection(pv.Box.of_shape(labels.shape))
        rows.append(i)
        found.append(
            resegment(
                image[box.slices()],
                labels[box.slices()],
                int(pairs["a"][i]),
                int(pairs["b"][i]),
                [p - s for p, s in zip(point, box.start, strict=True)],
                predict,
                predict.spec,
                voxel_size=NM,
                settings=settings,
            )
        )
    took = time.perf_counter() - began
    columns = {k: v[rows] for k, v in pairs.items()} | score_columns(found)
    true, scored = same[rows], np.array([not s.reason for s in found])
    ok = accepted(Rule(), columns, math.prod(NM))
    fovs = int(columns["fovs"].sum())

    def median(name: str, which: np.ndarray) -> float:
        return float(np.median(columns[name][which & scored])) if (which & scored).any() else -1.0

    return {
        "pairs_tried": len(rows),
        "true_tried": int(true.sum()),
        "without_score": int((~scored).sum()),
        "true_accepted": int((ok & true).sum()),
        "false_accepted": int((ok & ~true).sum()),
        "median_iou_true": median("iou", true),
        "median_iou_false": median("iou", ~true),
        "fovs": fovs,
        "fovs_per_pair": fovs / max(len(rows), 1),
        "fov_per_s": fovs / took,
        "precision": precision,
    }


def agreed() -> dict[str, Any]:
    """The consensus of the published result with the watershed supervoxels, and VI of both."""
    fib25 = data_folder() / "fib25"
    a, b, truth = (
        np.asarray(pv.open(p)).astype(np.uint64)
        for p in (
            fib25 / "reference_result.h5/segmentation",
            fib25 / "training_sample2.h5/supervoxels",
            fib25 / "training_sample2.h5/labels",
        )
    )
    began = time.perf_counter()
    out = consensus(a, b)
    figures: dict[str, Any] = {"seconds": round(time.perf_counter() - began, 1)}
    for name, labels in (("published", a), ("consensus", out)):
        table = pair_table(labels, truth).labelled()
        vi = variation_of_information(table)
        figures |= {
            f"{name}_objects": len(np.unique(table.result)),
            f"{name}_vi_split": round(vi.split, 4),
            f"{name}_vi_merge": round(vi.merge, 4),
            f"{name}_fill": round(table.total / truth.size, 4),
            f"{name}_vi_oracle": round(variation_of_information(oracle(table)).total, 4),
        }
    return figures


def main() -> None:
    """Candidates, and a sample if asked for; one line of JSON."""
    options = argparse.ArgumentParser(description="Judge pairs of objects of fib25.")
    options.add_argument("--labels", default="published", choices=["published", "supervoxels"])
    options.add_argument("--seconds", type=float, default=0.0, help="of resegmentation")
    options.add_argument("--max-distance", type=float, default=100.0)
    options.add_argument("--min-faces", type=int, default=10)
    options.add_argument("--precision", default="bf16", choices=["f32", "bf16"])
    options.add_argument("--consensus", action="store_true")
    given = options.parse_args()
    if given.consensus:
        emit("consensus", **agreed())
        return
    block = data_folder() / "fib25/training_sample2.h5"
    source = (
        block / "supervoxels"
        if given.labels == "supervoxels"
        else data_folder() / "fib25/reference_result.h5/segmentation"
    )
    labels, truth = (np.asarray(pv.open(p)).astype(np.uint64) for p in (source, block / "labels"))
    settings = CandidateSettings(max_distance=given.max_distance, min_faces=given.min_faces)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copied(folder / "labels", labels)
        pairs, seconds = candidates(folder, settings)
        raw = pair_table(labels, truth)
        tolerant = pair_table(labels, truth, ~near_boundary(truth, 2.0, NM))
        objects, bodies = majority(raw)
        at_a, at_b = (np.searchsorted(objects, pairs[k]) for k in "ab")
        same = bodies[at_a] == bodies[at_b]
        figures: dict[str, Any] = {
            "labels": given.labels,
            "max_distance_nm": given.max_distance,
            "min_faces": given.min_faces,
            "pairs": len(same),
            "true_pairs": int(same.sum()),
            "candidate_seconds": round(seconds, 1),
        }
        for kind, table in (("raw", raw.labelled()), ("tolerant", tolerant.labelled())):
            final = final_of(table.result, pairs["a"][same], pairs["b"][same])
            for what, merged in (
                ("unmerged", table),
                ("true_pairs_merged", table.with_result(final)),
                ("oracle", oracle(table, raw)),
            ):
                vi = variation_of_information(merged)
                figures[f"vi_{kind}_{what}"] = round(vi.total, 4)
        if given.seconds > 0:
            image = np.asarray(pv.open(block / "raw"))
            figures |= sample(image, labels, pairs, same, folder, given.seconds, given.precision)
    emit("agglomeration", **figures)


if __name__ == "__main__":
    main()
