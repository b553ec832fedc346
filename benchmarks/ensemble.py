"""Several passes instead of one: what their consensus gains on real tissue, beside each pass.

    petavox segment fib25/training_sample2.h5/raw one.zarr -m fib25.safetensors --precision bf16
    petavox segment fib25/training_sample2.h5/raw two.zarr -m fib25.safetensors --precision bf16 \\
        --deltas 12 12 12
    petavox segment fib25/training_sample2.h5/raw three.zarr -m fib25.safetensors \\
        --precision int8 --deltas 12 12 12 --flip zyx
    python -m benchmarks.ensemble one.zarr two.zarr three.zarr

What it is: passes over fib25/training_sample2 (250^3 voxels of 10 nm) scored alone and together,
for a grid of settings of which none was fitted. A consensus labels less than a pass, and scores are
of voxels labelled in both: `pass_there` is the first pass on the voxels that the consensus labels,
so that the gain is not that of leaving out what is hard.
What it is not: agglomeration (benchmarks.accuracy takes the consensus as its labels).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import petavox as pv
from benchmarks.accuracy_errors import scores_of
from benchmarks.common import data_folder, emit
from benchmarks.judging import NM
from petavox.score.pairs import PairTable
from petavox.score.tolerance import near_boundary
from petavox.segment.consensus import consensus_ids
from petavox.segment.ensemble import clustered
from petavox.segment.parts import Parts, added, parts_of

SHARES = (0.02, 0.1, 0.34)
MIN_SIZE = 1000


class Joint:
    """The parts of all passes, each cut further by truth and by nearness to a truth boundary."""

    def __init__(self, passes: list[np.ndarray], truth: np.ndarray) -> None:
        near = near_boundary(truth, 2.0, NM)
        # ids from 1 on: no row is all 0, so that voxels that no pass labels count too
        fine = parts_of([*passes, truth + np.uint64(1), near.astype(np.uint64)])
        k = len(passes)
        self.labels, self.voxels = fine.labels[:, :k], fine.voxels
        self.truth, self.near = fine.labels[:, k] - np.uint64(1), fine.labels[:, k + 1] > 0

    def of(self, which: list[int]) -> tuple[Parts, np.ndarray]:
        """The parts of some passes; and for each row its part, -1 where none of them labels."""
        labels = self.labels[:, which]
        parts = added([Parts(labels, self.voxels)])
        place = {tuple(row): i for i, row in enumerate(parts.labels.tolist())}
        return parts, np.array([place.get(tuple(row), -1) for row in labels.tolist()])

    def scores(self, result: np.ndarray) -> dict[str, float]:
        """Of one id a row."""

        def table(keep: np.ndarray) -> PairTable:
            some = PairTable(result[keep], self.truth[keep], self.voxels[keep])
            return some.with_result(some.result)

        return scores_of(table(np.ones(len(result), bool)), table(~self.near))


def together(joint: Joint, which: list[int]) -> list[dict[str, Any]]:
    """Every way to agree on some of the passes, scored."""
    parts, place = joint.of(which)
    found = []
    ways: list[tuple[dict[str, Any], np.ndarray]] = []
    if len(which) == 2:
        ways.append(({"rule": "published"}, consensus_ids(parts, MIN_SIZE)))
    for least in range(1, len(which) + 1):
        for share in SHARES:
            how: dict[str, Any] = {"share": share, "least": least}
            ways.append((how, clustered(parts, **how, min_size=MIN_SIZE)))
    for how, ids in ways:
        result = np.append(ids, np.uint64(0))[place]
        first = np.where(result > 0, joint.labels[:, which[0]], np.uint64(0))
        found.append(
            {"passes": [i + 1 for i in which]}
            | how
            | joint.scores(result)
            | {f"pass_there_{k}": v for k, v in joint.scores(first).items() if k in _THERE}
        )
    return found


_THERE = ("fill", "vi_raw", "vi_tolerant")


def cost(path: Path) -> dict[str, Any]:
    """Steps and precision of a pass, as its provenance says."""
    said = json.loads((path / "petavox.json").read_text()).get("provenance", {})
    figures = said.get("counters", {})
    return {k: figures[k] for k in ("fovs", "precision") if k in figures}


def main() -> None:
    """One line of JSON: each pass, the first two, and all."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("passes", nargs="+", type=Path, help="labels of fib25/training_sample2")
    given = options.parse_args()
    if len(given.passes) < 2:
        options.error("give two passes or more")
    truth = np.asarray(pv.open(data_folder() / "fib25/training_sample2.h5/labels"))
    passes = [np.asarray(pv.open(p)).astype(np.uint64) for p in given.passes]
    joint = Joint(passes, truth.astype(np.uint64))
    alone = [
        {"name": p.name} | cost(p) | joint.scores(joint.labels[:, i])
        for i, p in enumerate(given.passes)
    ]
    sets = [list(range(n)) for n in range(2, len(passes) + 1)]
    emit("ensemble", alone=alone, together=[row for s in sets for row in together(joint, s)])


if __name__ == "__main__":
    main()
