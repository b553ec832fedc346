"""The pictures of README and docs: image, truth and result of one section, side by side.

    python -m benchmarks.figures                                  # the published result
    python -m benchmarks.figures out.zarr --name segment --z 125  # one of your own

What it is: docs/images/NAME.png from volumes. What it is not: a score.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import petavox as pv
from benchmarks.common import data_folder
from petavox.provenance import write_atomically
from petavox.view import picture

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def main() -> None:
    """Make one figure."""
    fib = data_folder() / "fib25"
    options = argparse.ArgumentParser(description="Image, truth and result side by side.")
    options.add_argument("result", nargs="?", default=str(fib / "reference_result.h5/segmentation"))
    options.add_argument("--image", default=str(fib / "training_sample2.h5/raw"))
    options.add_argument("--truth", default=str(fib / "training_sample2.h5/labels"))
    options.add_argument("--z", type=int, default=125, help="section, in voxels of the volumes")
    options.add_argument("--name", default="published", help="docs/images/NAME.png")
    options.add_argument("--title", default="result", help="words above the result")
    options.add_argument("--beside", help="another result, drawn to the right of the first")
    options.add_argument("--beside-title", default="another", help="words above that one")
    given = options.parse_args()
    image, truth, result = map(pv.open, (given.image, given.truth, given.result))
    box = image.box.intersection(truth.box).intersection(result.box)

    def drawn_with(labels: pv.Volume, title: str) -> np.ndarray:
        return picture.figure(
            image.read(box),
            truth.read(box),
            labels.read(box),
            given.z - box.start[0],
            titles=("image", "truth", title),
        )

    drawn = drawn_with(result, given.title)
    if given.beside:
        other = drawn_with(pv.open(given.beside), given.beside_title)
        drawn = np.concatenate([drawn, other[:, -(other.shape[1] // 3) :]], 1)
    file = IMAGES / f"{given.name}.png"
    write_atomically(file, picture.png(drawn))
    print(f"{file}: section z = {given.z}, {drawn.shape[1]} x {drawn.shape[0]} pixels")


if __name__ == "__main__":
    main()
