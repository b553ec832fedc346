"""Supervoxels of gala_fib agglomerated by the judgement of the released network.

    python -m benchmarks.gala SCORES --seconds 600     # floods, into SCORES/{train,test}.jsonl
    python -m benchmarks.gala SCORES                   # the table

What it is: `benchmarks.mean_affinity` with another witness. Every pair of supervoxels that touch at
10 faces or more gets the chance to be one body: from the network, which is asked again about the
pair (petavox.segment.resegment), from the boundary probability that comes with the data, from
both, or from what is cheap to know. Chances come from a logistic rule fitted on train.h5; then the
two objects with the largest mean chance over their common faces are joined, again and again, down
to a threshold fitted on train.h5. test.h5 is scored once.
The network learned other tissue; its grey values are those of train.h5 (mean 148, deviation 55).
What it is not: a training of the network (`benchmarks.finetune`).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.common import data_folder, emit
from benchmarks.flood import released_model
from benchmarks.judging import NM, judge, with_scores
from benchmarks.mean_affinity import after, joins_of, scores
from petavox.ffn.flood import normalised
from petavox.ffn.model import load_model
from petavox.ffn.predictor import Predictor
from petavox.score.overlap import majority, oracle, variation_of_information
from petavox.score.pairs import PairTable, pair_table
from petavox.segment.agglomeration import final_of
from petavox.segment.candidates import contacts
from petavox.segment.features import ASKED, CHEAP, features
from petavox.segment.prior import known_of, stake
from petavox.segment.resegment import ResegmentSettings
from petavox.segment.rule import Rule, logistic_fit
from petavox.segment.rule import odds as rule_odds

GREY = {"image_mean": 148.0, "image_std": 55.0}
"""Of train.h5; the network was published with 128 and 33."""
MIN_FACES = 10
RIDGE = 10.0
SETTINGS = ResegmentSettings(box_radius=(240, 240, 240), analysis_radius=(200, 200, 200), tries=1)
"""Supervoxels are small: a box of 49 voxels holds three steps of 8 along each axis."""
PLAIN = tuple(f for f in CHEAP if not f.startswith("log_overlap"))
"""Cheap features without those of an earlier flood, which supervoxels do not have."""


@dataclass(frozen=True)
class Half:
    """One of the two volumes: pairs with all that is known of them, and the truth."""

    name: str
    image: np.ndarray
    supervoxels: np.ndarray
    table: PairTable
    pairs: dict[str, np.ndarray]
    same: np.ndarray

    @classmethod
    def read(cls, name: str) -> Half:
        """Read NAME.h5 and find its pairs."""
        with h5py.File(data_folder() / "gala_fib" / f"{name}.h5") as file:
            image, boundary = file["raw"][...], file["boundary_prob"][...]
            labels, truth = (file[k][...].astype(np.uint64) for k in ("supervoxels", "labels"))
        found = contacts(labels, max_distance=0.0, voxel_size=NM, image=image)
        ids, place, voxels = np.unique(labels, return_inverse=True, return_counts=True)
        gray = np.bincount(place.ravel(), image.ravel().astype(np.float64)) / voxels
        pairs = known_of(found, ids, voxels, gray, {}, NM)
        pairs["boundary"] = boundaries(labels, boundary / boundary.max(), pairs)
        pairs = {k: v[found.faces >= MIN_FACES] for k, v in pairs.items()}
        table = pair_table(labels, truth)
        objects, bodies = majority(table)
        at_a, at_b = (np.searchsorted(objects, pairs[k]) for k in "ab")
        known = np.append(objects, 0)
        bodies = np.append(bodies, 0)
        own_a = np.where(known[at_a] == pairs["a"], bodies[at_a], 0)
        own_b = np.where(known[at_b] == pairs["b"], bodies[at_b], 0)
        same = (own_a == own_b) & (own_a > 0)
        return cls(name, image, labels, table.labelled(), pairs, same)


def boundaries(
    labels: np.ndarray, boundary: np.ndarray, pairs: dict[str, np.ndarray]
) -> np.ndarray:
    """The mean boundary probability over the faces of each pair, as in benchmarks.mean_affinity."""
    sums: dict[tuple[int, int], list[float]] = {}
    for axis in range(3):
        low = tuple(slice(None, -1) if k == axis else slice(None) for k in range(3))
        high = tuple(slice(1, None) if k == axis else slice(None) for k in range(3))
        differ = labels[low] != labels[high]
        a, b = labels[low][differ], labels[high][differ]
        value = np.maximum(boundary[low][differ], boundary[high][differ])
        both, place = np.unique(
            np.stack([np.minimum(a, b), np.maximum(a, b)], 1), axis=0, return_inverse=True
        )
        total, count = np.bincount(place.ravel(), value), np.bincount(place.ravel())
        for (i, k), s, n in zip(both.tolist(), total.tolist(), count.tolist(), strict=True):
            said = sums.setdefault((i, k), [0.0, 0.0])
            said[0] += s
            said[1] += n
    rows = zip(pairs["a"].tolist(), pairs["b"].tolist(), strict=True)
    return np.array([sums[p][0] / sums[p][1] for p in rows])


def ask(half: Half, order: np.ndarray, folder: Path, seconds: float, most: int) -> None:
    """Ask the network about pairs in this order; goes on where it was."""
    read = load_model(released_model(folder))
    spec = read.spec.model_copy(update=GREY)
    model = type(read)(spec, read.network)
    predict = Predictor(model, precision="int8", sample=normalised(half.image, spec))
    began = time.process_time()
    judge(
        half.image, half.supervoxels, half.pairs, order[:most], folder / f"{half.name}.jsonl",
        predict, SETTINGS, over=lambda: time.process_time() - began > seconds,
    )  # fmt: skip


def table_of(pairs: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """Features, (n, k); `boundary` is one of them."""
    plain = tuple(n for n in names if n != "boundary")
    columns = [features(pairs, plain)] if plain else []
    return np.column_stack([*columns, pairs["boundary"]] if "boundary" in names else columns)


def chances(train: Half, test: Half, names: tuple[str, ...]) -> list[np.ndarray]:
    """The chance of every pair of both volumes by a rule fitted on train.h5.

    A rule that looks at what the network said learns and speaks only where it was asked; elsewhere
    the same rule without the network speaks.
    """
    rest = tuple(n for n in names if n not in ASKED) or PLAIN
    without = _fitted(train, test, rest, [np.ones(len(h.same), bool) for h in (train, test)])
    if rest == names:
        return without
    there = [~np.isnan(h.pairs["iou"]) for h in (train, test)]
    if not there[0].any():
        return without
    asked = _fitted(train, test, names, there)
    return [np.where(t, a, w) for t, a, w in zip(there, asked, without, strict=True)]


def _fitted(
    train: Half, test: Half, names: tuple[str, ...], there: list[np.ndarray]
) -> list[np.ndarray]:
    tables = [table_of(h.pairs, names) for h in (train, test)]
    rows = there[0]
    mean, scale = tables[0][rows].mean(0), np.maximum(tables[0][rows].std(0), 1e-9)
    weights, bias = logistic_fit((tables[0][rows] - mean) / scale, train.same[rows], RIDGE)
    return [1 / (1 + np.exp(-((t - mean) / scale @ weights + bias))) for t in tables]


def linked(train: Half, test: Half, cost: list[np.ndarray]) -> dict[str, Any]:
    """Scores of test.h5 after joining by mean cost (small first), threshold from train.h5."""
    joins = [
        joins_of(h.pairs["a"], h.pairs["b"], c * h.pairs["faces"], h.pairs["faces"])
        for h, c in zip((train, test), cost, strict=True)
    ]
    limits = np.linspace(0.02, 0.98, 97)
    vi = [variation_of_information(after(train.table, joins[0], x)).total for x in limits]
    limit = float(limits[int(np.argmin(vi))])
    best = min(
        (after(test.table, joins[1], x) for x in limits),
        key=lambda t: variation_of_information(t).total,
    )
    return {
        "limit": round(limit, 3),
        "vi_train": round(min(vi), 4),
        **scores(after(test.table, joins[1], limit)),
        "vi_best_limit": round(variation_of_information(best).total, 4),
    }


def joined(half: Half, ok: np.ndarray) -> dict[str, float]:
    """Scores after joining some pairs."""
    a, b = half.pairs["a"][ok], half.pairs["b"][ok]
    return scores(half.table.with_result(final_of(half.table.result, a, b)))


def main() -> None:
    """The table as one line of JSON; with --seconds floods first."""
    options = argparse.ArgumentParser(description="gala_fib agglomerated by the network.")
    options.add_argument("scores", type=Path, help="folder of judged pairs, made or continued")
    options.add_argument(
        "--seconds", type=float, default=0.0, help="of processor time for floods, for each volume"
    )
    options.add_argument("--most", type=int, nargs=2, default=(160, 120), metavar=("TEST", "TRAIN"),
                         help="pairs asked about")  # fmt: skip
    given = options.parse_args()
    torch.set_num_threads(1)
    given.scores.mkdir(parents=True, exist_ok=True)
    train, test = Half.read("train"), Half.read("test")
    before = chances(train, test, PLAIN)
    if given.seconds > 0:
        for half, chance, most in zip((test, train), before[::-1], given.most, strict=True):
            # what an answer may change: of pairs that contact leaves open, the large ones first
            order = np.argsort(-chance * (1 - chance) * stake(half.pairs), kind="stable")
            ask(half, order, given.scores, given.seconds, most)
    train, test = (
        Half(h.name, h.image, h.supervoxels, h.table,
             with_scores(h.pairs, given.scores / f"{h.name}.jsonl"), h.same)
        for h in (train, test)
    )  # fmt: skip
    asked = [~np.isnan(h.pairs["iou"]) for h in (train, test)]
    ok = asked[1] & (rule_odds(Rule(), test.pairs) > 1)
    ways = {
        "contact": PLAIN,
        "boundary": ("boundary",),
        "boundary_and_contact": (*PLAIN, "boundary"),
        "network": (*ASKED, *PLAIN),
        "network_and_boundary": (*ASKED, *PLAIN, "boundary"),
    }
    steps = {
        name: linked(train, test, [1 - c for c in chances(train, test, names)])
        for name, names in ways.items()
    }
    emit(
        "gala",
        pairs=len(test.same),
        true=int(test.same.sum()),
        asked=int(asked[1].sum()),
        true_asked=int((asked[1] & test.same).sum()),
        asked_train=int(asked[0].sum()),
        fovs=int(test.pairs["fovs"].sum()),
        flood_seconds=round(float(test.pairs["seconds"].sum())),
        supervoxels=scores(test.table),
        mean_boundary=linked(train, test, [h.pairs["boundary"] for h in (train, test)]),
        published_rule=joined(test, ok) | {"joined": int(ok.sum()),
                                           "wrong": int((ok & ~test.same).sum())},
        **steps,
        true_pairs=joined(test, test.same),
        true_pairs_asked=joined(test, asked[1] & test.same),
        floor=scores(oracle(test.table)),
    )  # fmt: skip


if __name__ == "__main__":
    main()
