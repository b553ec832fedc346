"""Accuracy beyond one pass: each step's gain on real tissue, beside its floor.

    petavox segment fib25/training_sample2.h5/raw pass.zarr -m fib25.safetensors --precision bf16
    python -m benchmarks.accuracy pass.zarr --scores scores.jsonl --seconds 3600   # floods
    python -m benchmarks.accuracy pass.zarr --scores scores.jsonl                  # the table

What it is: the pairs of a pass of fib25/training_sample2 (250^3 voxels of 10 nm) with all that is
cheap to know; the plausible ones are resegmented with the released network, best promise first,
until the time is over (SCORES keeps them; the same command goes on). Then every way to decide is
scored: without the network, with its hints of the pass, with its judgement.
Two-fold by z: rule, odds and guard for the pairs of one half come from the other half alone.
What it is not: blockwise (`petavox agglomerate` does the same by blocks, with the same kernels).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

import petavox as pv
from benchmarks.common import data_folder, emit
from benchmarks.flood import released_model
from petavox.score.overlap import adapted_rand, fill, majority, oracle, variation_of_information
from petavox.score.pairs import PairTable, pair_table
from petavox.score.tolerance import near_boundary
from petavox.segment.agglomeration import ACCEPTED, decided, final_of, kept_apart
from petavox.segment.candidates import contacts, grown
from petavox.segment.consensus import consensus
from petavox.segment.features import ASKED, CHEAP, FEATURES
from petavox.segment.prior import known_of, stake
from petavox.segment.resegment import ResegmentSettings, Scores, around, radii, resegment
from petavox.segment.rule import Rule, crossed, fit
from petavox.segment.suspects import suspects
from petavox.stages.candidates import overlaps_of

NM = (10.0, 10.0, 10.0)
VOXEL = math.prod(NM)
SETTINGS = ResegmentSettings(
    tries=2,
    box_radius=(280, 280, 280),
    analysis_radius=(240, 240, 240),
    exclusion_radius=(60, 60, 60),
)
"""A box of 57 voxels: 4 steps of 8 along each axis. The published one of 101 costs seven times
as much and says the same of the pairs that were tried with both."""
NO_HINTS = tuple(f for f in CHEAP if not f.startswith("log_overlap"))


class Tissue:
    """The labels, the truth, and the scores of any merging of the labels."""

    def __init__(self, labels: np.ndarray, truth: np.ndarray, near: np.ndarray) -> None:
        self.labels, self.truth, self.near = labels, truth, near
        self.raw, self.tolerant = pair_table(labels, truth), pair_table(labels, truth, ~near)
        self.objects, self.bodies = majority(self.raw)

    def body(self, ids: np.ndarray) -> np.ndarray:
        """The majority body of each id."""
        return self.bodies[np.searchsorted(self.objects, ids)]

    def scores(self, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
        """Of the labels after merging the pairs (a[i], b[i])."""

        def merged(table: PairTable) -> PairTable:
            return table.with_result(final_of(table.result, a, b))

        return scores_of(merged(self.raw), merged(self.tolerant))


def scores_of(raw: PairTable, tolerant: PairTable) -> dict[str, float]:
    """VI and adapted Rand, raw and tolerant, with the floor of further merging."""
    out: dict[str, float] = {"fill": round(fill(raw), 4)}
    for name, table in (("raw", raw), ("tolerant", tolerant)):
        seen = table.labelled()
        vi = variation_of_information(seen)
        out |= {
            f"vi_{name}": round(vi.total, 4),
            f"merge_{name}": round(vi.merge, 4),
            f"rand_{name}": round(adapted_rand(seen).error, 4),
            f"floor_{name}": round(variation_of_information(oracle(seen, raw)).total, 4),
        }
    return out


def pairs_of(labels: np.ndarray, image: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    """All pairs that come within 100 nm, with what is known of them without the network."""
    ids, place, voxels = np.unique(labels, return_inverse=True, return_counts=True)
    gray = np.bincount(place.ravel(), image.ravel().astype(np.float64)) / voxels
    found = contacts(labels, max_distance=100.0, voxel_size=NM, image=image)
    return known_of(found, ids, voxels, gray, overlaps_of(path), NM)


def judge(
    image: np.ndarray,
    labels: np.ndarray,
    pairs: dict[str, np.ndarray],
    order: np.ndarray,
    file: Path,
    seconds: float,
) -> None:
    """Resegment pairs in this order until the time is over; one line of JSON each."""
    from petavox.ffn.model import load_model
    from petavox.ffn.predictor import Predictor

    known = {(row["a"], row["b"]) for row in rows_of(file)}
    predict = Predictor(load_model(released_model(file.parent)), precision="bf16")
    radius = radii(SETTINGS, predict.spec, NM)[0]
    began = time.monotonic()
    with open(file, "a") as out:
        for i in order:
            a, b, *point = (int(pairs[k][i]) for k in "abzyx")
            if (a, b) in known:
                continue
            if time.monotonic() - began > seconds:
                break
            box = around(point, radius).intersection(pv.Box.of_shape(labels.shape))
            found = resegment(
                image[box.slices()],
                labels[box.slices()],
                a,
                b,
                [p - s for p, s in zip(point, box.start, strict=True)],
                predict,
                predict.spec,
                voxel_size=NM,
                settings=SETTINGS,
            )
            out.write(json.dumps({"a": a, "b": b} | found.row()) + "\n")
            out.flush()


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows that were judged so far."""
    return [json.loads(x) for x in file.read_text().splitlines()] if file.exists() else []


def with_scores(pairs: dict[str, np.ndarray], file: Path) -> dict[str, np.ndarray]:
    """The pairs with the network's scores; NaN where it was not asked."""
    at = {(int(a), int(b)): i for i, (a, b) in enumerate(zip(pairs["a"], pairs["b"], strict=True))}
    names = [k for k, v in Scores().row().items() if not isinstance(v, str)]
    out = {k: np.full(len(at), 0.0 if k in ("fovs", "seconds") else np.nan) for k in names}
    for row in rows_of(file):
        i = at[row["a"], row["b"]]
        for k in names:
            out[k][i] = row[k]
    return pairs | out


def decisions(
    tissue: Tissue, pairs: dict[str, np.ndarray], names: tuple[str, ...]
) -> dict[str, np.ndarray]:
    """Edges decided without the guard of topology; each half by what was fitted on the other."""
    same = tissue.body(pairs["a"]) == tissue.body(pairs["b"])
    half = (pairs["z"] >= tissue.labels.shape[0] // 2).astype(int)
    middle = tissue.labels.shape[0] // 2
    scored = dict(pairs)
    if not set(names) & set(ASKED):
        scored["iou"] = np.zeros(len(same))  # no network: nothing is missing
    out: dict[str, np.ndarray] = {}
    for k in (0, 1):
        learn = half != k
        slab = slice(middle, None) if k == 0 else slice(None, middle)
        seen = {n: v[learn] for n, v in scored.items()}
        # within the half: two slabs choose ridge, odds and guard
        z = pairs["z"][learn] - (slab.start or 0)
        fold = (z >= middle // 2).astype(int)
        inner = [
            pair_table(
                tissue.labels[slab][c], tissue.truth[slab][c], ~tissue.near[slab][c]
            ).labelled()
            for c in (slice(None, middle // 2), slice(middle // 2, None))
        ]

        def vi(ok: np.ndarray, f: int, seen: Any = seen, inner: Any = inner) -> float:
            final = final_of(inner[f].result, seen["a"][ok], seen["b"][ok])
            return float(variation_of_information(inner[f].with_result(final)).total)

        rule = fit(seen, same[learn], fold, vi, voxel_volume=VOXEL, names=names)
        rule = rule.model_copy(update={"topology": False})
        mine = decided({n: v[half == k] for n, v in scored.items()}, rule, VOXEL)
        for n, v in mine.items():
            out.setdefault(n, np.zeros(len(same), np.asarray(v).dtype))[half == k] = v
    return out


def main() -> None:
    """The table as one line of JSON; with --seconds floods first."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("labels", type=Path, help="one pass over fib25/training_sample2")
    options.add_argument("--scores", type=Path, required=True, help="JSON lines, made or continued")
    options.add_argument("--seconds", type=float, default=0.0, help="of resegmentation")
    options.add_argument("--other", type=Path, help="a second pass, for the consensus")
    given = options.parse_args()
    block = data_folder() / "fib25/training_sample2.h5"
    labels, truth = (
        np.asarray(pv.open(p)).astype(np.uint64) for p in (given.labels, block / "labels")
    )
    image = np.asarray(pv.open(block / "raw"))
    tissue = Tissue(labels, truth, near_boundary(truth, 2.0, NM))
    began = time.monotonic()
    pairs = pairs_of(labels, image, given.labels)
    steps: dict[str, Any] = {"candidate_seconds": round(time.monotonic() - began, 1)}
    same = tissue.body(pairs["a"]) == tissue.body(pairs["b"])
    half = (pairs["z"] >= labels.shape[0] // 2).astype(int)
    if given.seconds > 0:
        odds = crossed(pairs, same, half, names=CHEAP)
        gain = odds / (1 + odds) * stake(pairs)
        judge(image, labels, pairs, np.argsort(-gain, kind="stable"), given.scores, given.seconds)
    pairs = with_scores(pairs, given.scores)
    steps["pass"] = tissue.scores(pairs["a"][:0], pairs["b"][:0])
    steps["true_pairs"] = tissue.scores(pairs["a"][same], pairs["b"][same])
    asked = ~np.isnan(pairs["iou"])
    ok = asked & same
    steps["true_pairs_asked"] = tissue.scores(pairs["a"][ok], pairs["b"][ok])
    by: dict[str, dict[str, np.ndarray]] = {
        "contact": decisions(tissue, pairs, NO_HINTS),
        "hints": decisions(tissue, pairs, CHEAP),
        "published": decided(pairs, Rule(guard=1.0, topology=False), VOXEL),
        "judged": decisions(tissue, pairs, FEATURES),
    }
    by["topology"] = kept_apart(by["judged"])
    for name, edges in by.items():
        ok = edges["decision"] == ACCEPTED
        steps[name] = tissue.scores(pairs["a"][ok], pairs["b"][ok]) | {
            "accepted": int(ok.sum()),
            "wrong": int((ok & ~same).sum()),
            "missed": int((asked & same & ~ok).sum()),
        }
    ok = by["topology"]["decision"] == ACCEPTED
    final = final_of(labels.ravel(), pairs["a"][ok], pairs["b"][ok]).reshape(labels.shape)
    for most in (10.0, 20.0):
        wide, _ = grown(final, most, NM)
        steps[f"grown_{most:.0f}nm"] = scores_of(
            pair_table(wide, truth), pair_table(wide, truth, ~tissue.near)
        )
    if given.other:
        second = np.asarray(pv.open(given.other)).astype(np.uint64)
        both = consensus(labels, second)
        steps["consensus"] = scores_of(
            pair_table(both, truth), pair_table(both, truth, ~tissue.near)
        )
    ids, voxels = np.unique(labels[labels > 0], return_counts=True)
    listed = suspects(by["topology"], ids, voxels)
    first = listed["edge"][:50]
    wrong = np.where(listed["kind"][:50] == "split", same[first], ~same[first])
    emit(
        "accuracy",
        pairs=len(same),
        true=int(same.sum()),
        asked=int(asked.sum()),
        true_asked=int((asked & same).sum()),
        fovs=int(pairs["fovs"].sum()),
        flood_seconds=round(float(pairs["seconds"].sum())),
        suspects=len(listed["edge"]),
        suspects_first=len(first),
        suspects_right=int(wrong.sum()),
        **steps,
    )


if __name__ == "__main__":
    main()
