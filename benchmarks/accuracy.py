"""Accuracy beyond one pass: each step's gain on real tissue, beside its floor.

    petavox segment fib25/training_sample2.h5/raw pass.zarr -m fib25.safetensors --precision bf16
    python -m benchmarks.accuracy pass.zarr --scores scores.jsonl --seconds 3600   # floods
    python -m benchmarks.accuracy pass.zarr --scores scores.jsonl                  # the table

What it is: the pairs of a pass of fib25/training_sample2 (250^3 voxels of 10 nm) with all that is
cheap to know; the plausible ones are resegmented with the released network, best promise first,
until the time is over (SCORES keeps them; the same command goes on). Then every way to decide is
scored: without the network, with its hints of the pass, with its judgement.
Two-fold by z: the weights for the pairs of one half come from the other half alone.
What it is not: blockwise (`petavox agglomerate` does the same by blocks, with the same kernels).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

import petavox as pv
from benchmarks.accuracy_errors import Tissue, looked_at, pictured, run_lengths, scores_of
from benchmarks.common import data_folder, emit
from benchmarks.flood import released_model
from benchmarks.judging import NM, judge, with_scores
from petavox.ffn.flood import normalised
from petavox.score.pairs import pair_table
from petavox.score.tolerance import near_boundary
from petavox.segment.agglomeration import ACCEPTED, REJECTED, UNSCORED, final_of, kept_apart
from petavox.segment.candidates import contacts
from petavox.segment.consensus import consensus
from petavox.segment.features import CHEAP
from petavox.segment.grown import grown
from petavox.segment.prior import known_of, stake
from petavox.segment.resegment import ResegmentSettings
from petavox.segment.rule import Rule, crossed
from petavox.segment.rule import odds as rule_odds
from petavox.stages.candidates import overlaps_of

SETTINGS = ResegmentSettings()
"""A box of 57 voxels around the decision point: 4 steps of 8 along each axis."""
NO_HINTS = tuple(f for f in CHEAP if not f.startswith("log_overlap"))


def pairs_of(labels: np.ndarray, image: np.ndarray, path: Path) -> dict[str, np.ndarray]:
    """All pairs that come within 100 nm, with what is known of them without the network."""
    ids, place, voxels = np.unique(labels, return_inverse=True, return_counts=True)
    gray = np.bincount(place.ravel(), image.ravel().astype(np.float64)) / voxels
    found = contacts(labels, max_distance=100.0, voxel_size=NM, image=image)
    return known_of(found, ids, voxels, gray, overlaps_of(path), NM)


def ask(
    image: np.ndarray,
    labels: np.ndarray,
    pairs: dict[str, np.ndarray],
    order: np.ndarray,
    file: Path,
    seconds: float,
) -> None:
    """Resegment pairs in this order until the time is over."""
    from petavox.ffn.model import load_model
    from petavox.ffn.predictor import Predictor

    model = load_model(released_model(file.parent))
    # int8: two thirds of the time of bf16; the pass itself was flooded in bf16
    predict = Predictor(model, precision="int8", sample=normalised(image, model.spec))
    began = time.monotonic()
    judge(
        image, labels, pairs, order, file, predict, SETTINGS,
        over=lambda: time.monotonic() - began > seconds,
    )  # fmt: skip


RIDGE = 10.0
"""Fixed beforehand, like the odds asked (1); nothing but weights is learned."""


def decisions(
    pairs: dict[str, np.ndarray], odds: np.ndarray, known: np.ndarray, *, topology: bool
) -> np.ndarray:
    """Which pairs are joined, (n,) bool: with odds above 1, unless other pairs contradict."""
    kind = np.where(~known, UNSCORED, np.where(odds > 1, ACCEPTED, REJECTED)).astype(object)
    edges = dict(pairs) | {"odds": odds, "odds_asked": np.ones(len(odds)), "decision": kind}
    found = kept_apart(edges)["decision"] if topology else kind
    return np.asarray(found == ACCEPTED)


def main() -> None:
    """The table as one line of JSON; with --seconds floods first."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("labels", type=Path, help="one pass over fib25/training_sample2")
    options.add_argument("--scores", type=Path, required=True, help="JSON lines, made or continued")
    options.add_argument("--seconds", type=float, default=0.0, help="of resegmentation")
    options.add_argument("--other", type=Path, help="a second pass, for the consensus")
    options.add_argument("--grown", action="store_true", help="also fill by growing objects")
    options.add_argument("--skeletons", type=Path, help="truth skeletons, SWC, for run length")
    options.add_argument("--pictures", type=Path, help="folder for pictures of the first suspects")
    options.add_argument("--errors", type=Path, help="table of errors on skeletons, 5 nodes")
    given = options.parse_args()
    block = data_folder() / "fib25/training_sample2.h5"
    labels, truth = (
        np.asarray(pv.open(p)).astype(np.uint64) for p in (given.labels, block / "labels")
    )
    image = np.asarray(pv.open(block / "raw"))
    tissue = Tissue(labels, truth, near_boundary(truth, 2.0, NM))
    kept = given.scores.with_suffix(".pairs.npz")
    if not kept.exists():
        began = time.process_time()
        found = pairs_of(labels, image, given.labels)
        np.savez(kept, seconds=np.array(time.process_time() - began), **found)
    pairs = dict(np.load(kept))
    steps: dict[str, Any] = {"candidate_cpu_seconds": round(float(pairs.pop("seconds")), 1)}
    same = tissue.body(pairs["a"]) == tissue.body(pairs["b"])
    half = (pairs["z"] >= labels.shape[0] // 2).astype(int)
    if given.seconds > 0:
        odds = crossed(pairs, same, half, names=CHEAP)
        gain = odds / (1 + odds) * stake(pairs)
        ask(image, labels, pairs, np.argsort(-gain, kind="stable"), given.scores, given.seconds)
    pairs = with_scores(pairs, given.scores)
    steps["pass"] = tissue.scores(pairs["a"][:0], pairs["b"][:0])
    steps["true_pairs"] = tissue.scores(pairs["a"][same], pairs["b"][same])
    asked = ~np.isnan(pairs["iou"])
    ok = asked & same
    steps["true_pairs_asked"] = tissue.scores(pairs["a"][ok], pairs["b"][ok])
    every = np.ones(len(same), bool)
    contact = crossed(pairs, same, half, ridge=RIDGE, names=NO_HINTS)
    hints = crossed(pairs, same, half, ridge=RIDGE, names=CHEAP)
    judged = crossed(pairs, same, half, ridge=RIDGE)
    both = np.where(asked, judged, hints)
    published = rule_odds(Rule(), pairs)
    pairs["chance"] = hints / (1 + hints)
    ways = {
        "contact": (contact, every),
        "hints": (hints, every),
        "published": (published, asked),
        "judged": (judged, asked),
        "both": (both, every),
    }
    joined: dict[str, np.ndarray] = {}
    for name, (odds, known) in ways.items():
        for topology in (False, True):
            ok = decisions(pairs, odds, known, topology=topology)
            joined[name] = ok
            steps[name + "_topology" * topology] = tissue.scores(pairs["a"][ok], pairs["b"][ok]) | {
                "accepted": int(ok.sum()),
                "wrong": int((ok & ~same).sum()),
            }
    if given.grown:
        ok = joined["both"]
        final = final_of(labels.ravel(), pairs["a"][ok], pairs["b"][ok]).reshape(labels.shape)
        perfect = np.append(tissue.bodies, np.uint64(0))[np.searchsorted(tissue.objects, labels)]
        perfect = np.where(np.isin(labels, tissue.objects), perfect, np.uint64(0))
        for name, some in (("judged", final), ("floor", perfect)):
            for most in (10.0, 20.0):
                wide, _ = grown(some, most, NM)
                steps[f"{name}_grown_{most:.0f}nm"] = scores_of(
                    pair_table(wide, truth), pair_table(wide, truth, ~tissue.near)
                )
    if given.other:
        second = np.asarray(pv.open(given.other)).astype(np.uint64)
        agreed = consensus(labels, second)
        steps["consensus"] = scores_of(
            pair_table(agreed, truth), pair_table(agreed, truth, ~tissue.near)
        )
    ok = joined["both"]
    edges = dict(pairs) | {"odds": both, "odds_asked": np.ones(len(same)),
                           "decision": np.where(ok, ACCEPTED, REJECTED).astype(object)}  # fmt: skip
    if given.skeletons:
        runs = {
            "pass": run_lengths(tissue, pairs, ok & False, given.skeletons),
            "published_topology": run_lengths(tissue, pairs, joined["published"], given.skeletons),
            "both_topology": run_lengths(tissue, pairs, ok, given.skeletons, given.errors),
            "true_pairs": run_lengths(tissue, pairs, same, given.skeletons),
        }
        steps["run_length"] = runs
    suspected = {by: looked_at(tissue, edges, same, by) for by in ("bits", "chance")}
    if given.pictures:
        for by, found in suspected.items():
            pictured(tissue, image, edges, found["rows"][:6], given.pictures / f"suspects_{by}.png")
    emit(
        "accuracy",
        pairs=len(same),
        true=int(same.sum()),
        asked=int(asked.sum()),
        true_asked=int((asked & same).sum()),
        fovs=int(pairs["fovs"].sum()),
        flood_seconds=round(float(pairs["seconds"].sum())),
        suspects={by: {k: v for k, v in found.items() if k != "rows"}
                  for by, found in suspected.items()},
        **steps,
    )  # fmt: skip


if __name__ == "__main__":
    main()
