"""The gate of lane options that change the order of a flood: what they cost in VI.

    python -m benchmarks.gates [--options objects=4 frontier=4] [--side 128] [--corner 0 0 0]

What it is: a corner of fib25/training_sample2 flooded by the released network with the plain
driver, and with each option by the batched one, all scored against the labels. The gate of anything
that changes results: VI split no more than 0.02 bits above the plain driver's, merge 0.01.
`against_plain` compares the two floods with each other.
What it is not: a rate (benchmarks.lanes), or a proof for other tissue: one corner holds some thirty
objects, and one object joined or cut moves the figures by as much as the gate allows, or more.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import petavox as pv
from benchmarks.common import data_folder, emit
from benchmarks.flood import released_model
from benchmarks.shipped_model import scores
from petavox.ffn.batched import LockStep
from petavox.ffn.flood import flood, normalised, prepared
from petavox.ffn.growth import FloodSettings
from petavox.ffn.lanes import LaneSettings
from petavox.ffn.model import load_model
from petavox.ffn.predictor import Predictor

SPLIT, MERGE = 0.02, 0.01


def judged(plain: dict[str, float], found: dict[str, float]) -> dict[str, float | bool]:
    """The differences of an option to the plain driver, and whether both are within the gate."""
    split = round(found["vi_split"] - plain["vi_split"], 4)
    merge = round(found["vi_merge"] - plain["vi_merge"], 4)
    return {"more_split": split, "more_merge": merge, "passes": split <= SPLIT and merge <= MERGE}


def options(text: str) -> LaneSettings:
    """`objects=4` or `objects=2,frontier=2` as settings."""
    return LaneSettings.model_validate(dict(part.split("=") for part in text.split(",")))


def main() -> None:
    """Flood, score, print one line of JSON for each option."""
    given = argparse.ArgumentParser(description="Gates of options that change the order.")
    given.add_argument("--options", nargs="+", type=options, default=["objects=4", "frontier=4"])
    given.add_argument("--side", type=int, default=128)
    given.add_argument("--corner", type=int, nargs=3, default=(0, 0, 0))
    given.add_argument("--precision", default="bf16", choices=["f32", "bf16", "int8"])
    given.add_argument("--plain", type=Path, help="npy of the plain driver's labels: made or read")
    args = given.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(released_model(Path(folder)))
    block, box = (
        data_folder() / "fib25/training_sample2.h5",
        pv.Box.of_shape([args.side] * 3, args.corner),
    )
    image, truth = pv.open(block / "raw").read(box), pv.open(block / "labels").read(box)
    sample = normalised(image, model.spec)
    predictor = Predictor(model, precision=args.precision, sample=sample)
    how = {"voxel_size": (10.0, 10.0, 10.0), "settings": FloodSettings()}
    if args.plain and args.plain.exists():
        plain = np.load(args.plain)
    else:
        plain = flood(image, predictor, model.spec, **how).labels()  # type: ignore[arg-type]
        if args.plain:
            np.save(args.plain, plain)
    base = scores(plain, truth)
    for option in [options(o) if isinstance(o, str) else o for o in args.options]:
        began = time.perf_counter()
        canvas = prepared(image, predictor, model.spec, **how)  # type: ignore[arg-type]
        driver = LockStep([canvas], predictor, option)
        driver.run()
        found = scores(canvas.labels(), truth)
        between = scores(canvas.labels(), plain)
        emit(
            "gates",
            data="fib25/training_sample2",
            box=str(box),
            precision=args.precision,
            option=",".join(f"{k}={v}" for k, v in option.model_dump().items() if v > 1),
            **judged(base, found),
            plain=base,
            found=found,
            against_plain={k: between[k] for k in ("vi_split", "vi_merge")},
            plain_objects=len(np.unique(plain)) - 1,
            objects=canvas.counters["objects"],
            collided=canvas.counters["objects_collided"],
            fovs=canvas.counters["fovs"],
            rounds=driver.rounds,
            seconds=round(time.perf_counter() - began, 1),
            load=round(os.getloadavg()[0], 1),
        )


if __name__ == "__main__":
    main()
