"""Stitching and alignment of real images.

    python -m benchmarks.align_real [--only temca vnc fib25] [--sections 8] [--side 768]

temca: two 2 x 2 groups of camera tiles, no truth: the normalised correlation across each seam.
vnc, fib25: real sections (every second slice of fib25 at 10 nm) distorted by known fields
(petavox.phantom.redistort), then aligned: the error between neighbours. The tissue itself moves
from section to section, and the originals were aligned by others to about a pixel: both are in
the error.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.common import data_folder, emit
from petavox.align import tiles
from petavox.errors import WorkFailed
from petavox.phantom import TilesTruth, redistort
from petavox.space import Box
from petavox.stages import align, stitch
from petavox.volume import opening
from petavox.volume.opening import create

BLOCKS = {
    "block_a": ("col{column}_row{row}_*.tif", (0.105, 0.2375)),
    "block_b": ("col{column}_row{row}_*.png", (0.13, 0.285)),
}
STACKS = {
    "vnc": ("vnc_sstem/stack1.h5", 4.6, 45.0, 1),
    "fib25": ("fib25/validation_sample_z0-200.h5", 10.0, 20.0, 2),
}


def temca(name: str, place: Path) -> dict[str, Any]:
    """One group of tiles stitched; the correlation of each seam."""
    pattern, overlap = BLOCKS[name]
    folder = data_folder() / "temca_tiles" / name
    table = tiles.from_pattern(folder, pattern, pixel_nm=8.0, overlap=overlap)
    tiles.write(place / f"{name}.csv", table)
    settings = stitch.StitchStageSettings.model_validate(
        {"pixel_nm": 8.0, "pyramid": False, "match": {"search_px": 60}}
    )
    found = stitch.run(place / f"{name}.csv", place / name, settings)
    with open(place / name / "seams.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    return {
        "seams": found["seams"],
        "failed": [f"{r['a'][:15]} | {r['b'][:15]}" for r in rows if r["matched"] == "0"],
        "correlation": [float(r["correlation"]) for r in rows if r["matched"] == "1"],
        "residual_px": found["seam_residual_px"],
        "cycle_px": found["cycle_px"],
    }


def redistorted(name: str, sections: int, side: int, place: Path) -> dict[str, Any]:
    """Real sections, distorted and aligned again."""
    file, pixel, thickness, every = STACKS[name]
    with h5py.File(data_folder() / file) as f:
        images = f["raw"][: sections * every : every, :side, :side]
    distorted, made = redistort(
        np.asarray(images), 5, rotation=3.0, shift=15.0, elastic=5.0, elastic_sigma=150.0,
        pixel_nm=pixel, thickness_nm=thickness,
    )  # fmt: skip
    stack = np.stack(distorted)
    volume = create(
        place / f"{name}.zarr", box=Box.of_shape(stack.shape), voxel_size=(thickness, pixel, pixel),
        dtype=stack.dtype, kind="image", chunk=(1, 256, 256), shard=(1, 1024, 1024),
    )  # fmt: skip
    volume.write(volume.box, stack)
    opening.finish(volume, {"benchmark": "align_real"})
    try:
        found = align.run(place / f"{name}.zarr", place / name, align.AlignStageSettings())
    except WorkFailed as e:
        return {"failed": str(e)}
    fields = align.read_fields(place / name, pixel)
    truth = TilesTruth(made.layout)

    def to_section(k: int, i: int, p: np.ndarray) -> np.ndarray:
        return p

    def to_volume(k: int, s: np.ndarray) -> np.ndarray:
        return fields[k](s)

    margin = {"step": 24, "margin": side // 8}
    before = truth.adjacent(to_section, lambda k, s: s, **margin)
    near = truth.adjacent(to_section, to_volume, **margin)
    span = truth.span(to_section, to_volume, **margin)
    return {
        "sections": len(stack),
        "before_px": round(before["mean"], 2),
        "adjacent_px": [round(near["mean"], 3), round(near["p95"], 3)],
        "span_px": [round(span["mean"], 3), round(span["p95"], 3)],
        "patch_correlation": found["patch_correlation"],
        "damage": found["damage"],
    }


def main() -> None:
    """One line of JSON for each set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=["temca", "vnc", "fib25"])
    parser.add_argument("--sections", type=int, default=8)
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument("--keep", type=Path, help="folder for everything, kept")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = given.keep or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        for name in given.only:
            if name == "temca":
                for block in BLOCKS:
                    emit("align_real", set=block, **temca(block, place))
            else:
                figures = redistorted(name, given.sections, given.side, place)
                emit("align_real", set=name, **figures)


if __name__ == "__main__":
    main()
