"""Tiles of damaged sections: what is lost, swapped, turned or folded is told, and aligned."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage as ndi

from petavox.phantom import TileSet, TileSettings, TilesTruth
from petavox.stages import align, stitch
from petavox.stages.tile_truth import Followed

MADE = TileSettings(
    sections=8, grid=(2, 2), tile=(260, 260), overlap=56, seed=3, shift=8, elastic=2.0,
    elastic_sigma=120, jitter=4, lens=0.5, noise=6.0, folds=1, fold_width=26, missing_tiles=1,
    missing_sections=1, swaps=1, turned=1,
)  # fmt: skip


def tissue() -> np.ndarray:
    """(8, 700, 700) uint8, from -100 px on: membranes that move little from section to section."""
    rng = np.random.default_rng(2)
    small = [
        ndi.gaussian_filter(rng.standard_normal((20, 350, 350)).astype("f4"), (3, 5, 5))
        for _ in range(4)
    ]
    fields = np.stack(small)[:, 6:14] / small[0].std()
    order = np.sort(fields, 0)
    margin = ndi.zoom(order[-1] - order[-2], (1, 2, 2), order=1)
    grain = ndi.gaussian_filter(rng.standard_normal((8, 700, 700)).astype("f4"), (0.7, 1.5, 1.5))
    out = 165 + 8 * grain / grain.std() - 95 * np.exp(-((margin / 0.15) ** 2))
    return np.clip(out, 30, 230).astype(np.uint8)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    place = tmp_path_factory.mktemp("damaged")
    image = tissue()

    def section(z, box):
        y, x = (np.clip(np.arange(a, b) + 100, 0, 699) for a, b in zip(
            box.start[1:], box.stop[1:], strict=True))  # fmt: skip
        return image[z][np.ix_(y, x)]

    made = TileSet(MADE, section)
    lines = ["file,section,x_nm,y_nm"]
    for k in range(MADE.sections):
        for i in range(4):
            if made.layout.has(k, i):
                name = f"t{i:04d}.png"
                (place / f"s{k}").mkdir(exist_ok=True)
                Image.fromarray(made.tile(k, i)).save(place / f"s{k}" / name)
                y, x = made.layout.nominal[i] * MADE.pixel_nm
                lines.append(f"s{k}/{name},{k},{x},{y}")
    (place / "tiles.csv").write_text("\n".join(lines) + "\n")
    settings = stitch.StitchStageSettings(pixel_nm=MADE.pixel_nm, pyramid=False)
    joined = stitch.run(place / "tiles.csv", place / "s", settings)
    found = align.run(place / "s", place / "a", align.AlignStageSettings())
    truth = TilesTruth(made.layout)
    return truth, Followed(truth, place / "s", place / "a"), joined, found, place


def sections_of(truth, kind):
    return {d.section for d in truth.damage if d.kind == kind}


def test_every_damage_is_told(judged):
    truth, _, joined, found, place = judged
    lost = {int(line.split(":")[0]) for line in joined["lost"]}
    assert lost == sections_of(truth, "missing section") | sections_of(truth, "missing tile")
    assert set(found["missing"]) == sections_of(truth, "missing section")
    assert {int(n.split()[1]) for n in found["notes"]} >= sections_of(truth, "turned")
    known = [k for k in range(MADE.sections) if k not in found["missing"]]
    moved = {k for k, j in zip(known, found["suspected_order"], strict=False) if k != j}
    assert moved == sections_of(truth, "swapped")
    folds = [r.split(",") for r in (place / "a" / "damage.csv").read_text().splitlines()[1:]]
    assert {int(r[0]) for r in folds if r[1] == "fold"} >= sections_of(truth, "fold")


def test_no_tile_is_thrown_off(judged):
    truth, run, *_ = judged
    centre = np.array([[130.0, 130.0]])
    for k in truth.sections:
        gap = np.concatenate(
            [
                run.stitch(k, i, centre) - truth.tile_to_section(k, i, centre)
                for i in range(4)
                if truth.layout.has(k, i)
            ]
        )
        assert np.abs(gap - np.median(gap, axis=0)).max() < 4


def test_outside_the_damage_neighbours_agree(judged):
    truth, run, _, found, _ = judged
    assert found["failed"] == []
    near = truth.adjacent(run.stitch, run.align, step=16, margin=60)
    assert near["mean"] < 1.5
