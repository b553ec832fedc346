"""The shipped model on tissue it has not seen, beside the published result where there is one.

    python -m benchmarks.shipped_model [model.safetensors] [phantom] [gala] [fib25]

phantom: seed 99 (learned from: other seeds).  gala: gala_fib/test.  fib25: all of z >= 170 of
training_sample2 (learned from: z < 170); the published flood-filling result, cut to the same box,
is scored beside it. Phantom and fib25 are scored without the 10 voxels at the rim of what is
flooded, where no field of view has its centre; gala is too thin for that and scored whole. Scores
are over voxels with truth; adapted Rand counts empty voxels as one object, VI (bits) is over voxels
that both label.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import petavox as pv
from benchmarks.common import data_folder, emit
from petavox.ffn.flood import SeedSettings, flood
from petavox.ffn.growth import FloodSettings
from petavox.ffn.model import load_model
from petavox.ffn.predictor import Predictor
from petavox.ffn.shipped import MODEL
from petavox.phantom import tissue
from petavox.score.overlap import adapted_rand, fill, variation_of_information
from petavox.score.pairs import pair_table
from petavox.space import Box

AROUND = 10
"""Voxels flooded around what is scored."""
FIB_BOX = Box((180, 10, 10), (240, 240, 240))
PHANTOM_BOX = Box.of_shape((64, 128, 128))
Data = tuple[np.ndarray, np.ndarray, dict[str, Any]]
"""Image, the truth of its middle, and what else to tell."""


def main(arguments: list[str]) -> None:
    """Flood and score what is asked for; one line of JSON each."""
    torch.set_num_threads(1)
    sets: dict[str, Callable[[], Data]] = {"phantom": phantom, "gala": gala, "fib25": fib25}
    path = next((Path(a) for a in arguments if a.endswith(".safetensors")), MODEL)
    model = load_model(path)
    predictor = Predictor(model, precision="bf16")
    for name in [a for a in arguments if a in sets] or list(sets):
        image, truth, beside = sets[name]()
        began, cpu = time.perf_counter(), time.process_time()
        canvas = flood(
            image, predictor, model.spec, voxel_size=(10.0, 10.0, 10.0),
            settings=FloodSettings(min_segment_size=500), seeds=SeedSettings(),
        )  # fmt: skip
        emit(
            "shipped_model",
            data=name,
            model=path.name,
            shape=truth.shape,
            **scores(middle(canvas.labels(), truth.shape), truth),
            objects=canvas.counters["objects"],
            fovs=canvas.counters["fovs"],
            seconds=round(time.perf_counter() - began, 1),
            processor_seconds=round(time.process_time() - cpu, 1),
            trained={k: model.spec.provenance.get(k) for k in ("steps", "fovs", "minutes")},
            **beside,
        )


def scores(labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Adapted Rand error, VI in bits and fill, rounded."""
    table = pair_table(labels, truth)
    known = table.where(table.truth > 0)
    vi = variation_of_information(table.labelled())
    return {
        "adapted_rand": round(adapted_rand(known).error, 4),
        "adapted_rand_labelled": round(adapted_rand(table.labelled()).error, 4),
        "vi_split": round(vi.split, 4),
        "vi_merge": round(vi.merge, 4),
        "fill": round(fill(table), 4),
    }


def middle(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The middle of an array, of the given shape."""
    around = [(n - m) // 2 for n, m in zip(array.shape, shape, strict=True)]
    return array[tuple(slice(a, a + m) for a, m in zip(around, shape, strict=True))]


def phantom() -> Data:
    """Image and truth of a phantom of a seed that no recipe has."""
    made = tissue(PHANTOM_BOX.grown(AROUND), (10.0, 10.0, 10.0), seed=99)
    return made.image, middle(made.labels, PHANTOM_BOX.shape), {}


def gala() -> Data:
    """Image and truth of gala_fib/test."""
    file = data_folder() / "gala_fib" / "test.h5"
    return pv.open(f"{file}/raw").read(), pv.open(f"{file}/labels").read().astype(np.uint64), {}


def fib25() -> Data:
    """Image and truth of a part of training_sample2 not learned from; the published scores."""
    folder = data_folder() / "fib25"
    sample = folder / "training_sample2.h5"
    truth = pv.open(f"{sample}/labels").read(FIB_BOX)
    published = pv.open(f"{folder / 'reference_result.h5'}/segmentation").read(FIB_BOX)
    beside = {f"published_{k}": v for k, v in scores(published, truth).items()}
    return pv.open(f"{sample}/raw").read(FIB_BOX.grown(AROUND)), truth, beside


if __name__ == "__main__":
    main(sys.argv[1:])
