"""One flood of a whole block of tissue against the same in overlapping blocks, reconciled.

    petavox segment fib25/training_sample2.h5/raw whole.zarr -m fib25.safetensors \\
        --precision bf16 --deltas 12 12 12
    petavox segment fib25/training_sample2.h5/raw objects.blocks -m fib25.safetensors \\
        --settings bf16.yaml --deltas 12 12 12 --blocks 125 125 125 --context 24 24 24 --workers 2
    petavox reconcile objects.blocks joined.zarr
    python -m benchmarks.blockwise whole.zarr joined.zarr --other another_pass.zarr

What it is: both against the truth, and against each other; with the proof that reconcile printed.
`--other` is a second flood of the whole: how far two floods differ anyway.
What it is not: the flood, or its speed.
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
from petavox.score.overlap import variation_of_information
from petavox.score.pairs import pair_table
from petavox.score.tolerance import near_boundary


def main() -> None:
    """One line of JSON."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    options.add_argument("whole", type=Path, help="labels of fib25/training_sample2")
    options.add_argument("joined", type=Path, help="the same in blocks, reconciled")
    options.add_argument("--other", type=Path, nargs="*", default=[], help="other floods")
    given = options.parse_args()
    whole, joined, *others = (
        np.asarray(pv.open(p)).astype(np.uint64) for p in (given.whole, given.joined, *given.other)
    )
    truth = np.asarray(pv.open(data_folder() / "fib25/training_sample2.h5/labels"))
    near = near_boundary(truth, 2.0, NM)

    def scored(labels: np.ndarray) -> dict[str, float]:
        return scores_of(pair_table(labels, truth), pair_table(labels, truth, ~near))

    def between(a: np.ndarray) -> dict[str, float]:
        vi = variation_of_information(pair_table(a, whole).labelled())
        return {"vi": round(vi.total, 4), "split": round(vi.split, 4), "merge": round(vi.merge, 4)}

    proof: dict[str, Any] = json.loads((given.joined / "petavox.json").read_text())
    emit(
        "blockwise",
        whole=scored(whole),
        joined=scored(joined),
        between=between(joined),
        others=[{"name": p.name} | between(v) for p, v in zip(given.other, others, strict=True)],
        proof=proof.get("provenance", {}).get("proof", {}),
    )


if __name__ == "__main__":
    main()
