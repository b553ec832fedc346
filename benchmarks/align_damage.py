"""Stitching and alignment of damaged phantom sections: folds, cracks, lost, swapped, turned.

    python -m benchmarks.align_damage [--sections 12] [--tile 600] [--seed 0] [--keep DIR]

Tiles of phantom tissue with exact truth and, in one stack: two folds, a crack, dust, a lost tile,
a lost section, two sections swapped, and one turned by 170 degrees. Told: the errors outside of
damage (20 px away), the farthest that a tile's centre lies from where it belongs, and which
damage the reports list.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import emit
from petavox.errors import WorkFailed
from petavox.phantom import TileSettings, TilesTruth
from petavox.stages import align, stitch
from petavox.stages.phantom_tiles import write_tiles
from petavox.stages.tile_truth import Followed


def settings(sections: int, tile: int, seed: int) -> TileSettings:
    """The stack; folds and cracks are about 0.1 um wide."""
    return TileSettings(
        sections=sections, grid=(2, 2), tile=(tile, tile), overlap=max(48, tile // 10), seed=seed,
        elastic=5.0, folds=2, cracks=1, dust=3, missing_tiles=1, missing_sections=1, swaps=1,
        turned=1,
    )  # fmt: skip


def one(place: Path, made: TileSettings, threads: int) -> dict[str, Any]:
    """Make, stitch, align and judge one stack in the folder `place`."""
    tiles, stitched, aligned = place / "tiles", place / "stitched", place / "aligned"
    if not (tiles / "phantom.json").exists():
        write_tiles(tiles, made)
    try:
        joined = stitch.run(
            tiles / "tiles.csv",
            stitched,
            stitch.StitchStageSettings(
                pixel_nm=made.pixel_nm,
                thickness_nm=made.thickness_nm,
                threads=threads,
                pyramid=False,
            ),
            overwrite=True,
        )
        found = align.run(
            stitched, aligned, align.AlignStageSettings(threads=threads), overwrite=True
        )
    except WorkFailed as e:
        print(e)
        joined = json.loads((stitched / "report.json").read_text())
        found = json.loads((aligned / "report.json").read_text())
    truth = TilesTruth.load(tiles)
    run = Followed(truth, stitched, aligned)
    margin = {"step": 24, "margin": min(made.size) // 8}
    near = truth.adjacent(run.stitch, run.align, **margin)
    return {
        "seam_px": _pair(truth.seam(run.stitch)),
        "adjacent_px": _pair(near),
        "per_pair": near["per_pair"],
        "span_px": _pair(truth.span(run.stitch, run.align, **margin)),
        "tile_off_px": round(farthest(truth, run), 2),
        "left_out": found["failed"],
        **listed(truth, joined, found, aligned),
        "seconds": joined["seconds"] | found["seconds"],
    }


def farthest(truth: TilesTruth, run: Followed) -> float:
    """The largest distance of a tile's centre from its place in its section, px."""
    centre = (np.array(truth.settings.tile, float) - 1)[None] / 2
    out = [0.0]
    for k in truth.sections:
        there = [i for i in range(len(truth.layout.nominal)) if truth.layout.has(k, i)]
        gap = np.concatenate(
            [run.stitch(k, i, centre) - truth.tile_to_section(k, i, centre) for i in there]
        )
        out.append(float(np.linalg.norm(gap - np.nanmedian(gap, axis=0), axis=1).max()))
    return max(out)


def listed(
    truth: TilesTruth, joined: dict[str, Any], found: dict[str, Any], aligned: Path
) -> dict[str, Any]:
    """Which damage the reports of stitch and align tell; the rest is in `untold`."""
    lost = {int(line.split(":")[0]) for line in joined["lost"]}
    order = found["suspected_order"]
    known = [k for k in range(truth.settings.sections) if k not in found["missing"]]
    moved = {k for k, j in zip(known, order, strict=False) if k != j}
    turned = {int(n.split()[1]) for n in found["notes"] if "rotated" in n}
    rows = [line.split(",") for line in (aligned / "damage.csv").read_text().splitlines()[1:]]
    marks = {(int(r[0]), r[1]) for r in rows}
    told, untold = 0, []
    for d in truth.damage:
        kind, k = d.kind, d.section
        shown = {
            "missing section": k in lost and k in found["missing"],
            "missing tile": k in lost,
            "swapped": k in moved,
            "turned": k in turned,
            "flipped": any("flipped" in n and f"section {k} " in n for n in found["notes"]),
        }.get(kind, (k, kind) in marks)
        told += shown
        if not shown:
            untold.append(f"{kind} in section {k}")
    return {"damage": len(truth.damage), "told": told, "untold": untold}


def _pair(v: dict[str, Any]) -> list[float]:
    return [round(v["mean"], 3), round(v["p95"], 3)]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sections", type=int, default=12)
    parser.add_argument("--tile", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for everything, kept")
    given = parser.parse_args()
    made = settings(given.sections, given.tile, given.seed)
    with tempfile.TemporaryDirectory() as scratch:
        figures = one(given.keep or Path(scratch), made, given.threads)
    emit("align_damage", set=f"{given.sections} sections, seed {given.seed}", **figures)


if __name__ == "__main__":
    main()
