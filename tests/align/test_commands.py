"""tiles -> stitch -> align -> render on a small set; what fails is told and the rest is kept."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage as ndi

import petavox.volume as pv
from petavox.align import field_file, tiles
from petavox.errors import WorkFailed
from petavox.stages import align, align_blocks, render, stitch

TILE, STEP, PIXEL = 160, 130, 4.0


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(3)
    shape = (3, 330, 330)
    image = ndi.gaussian_filter(rng.standard_normal(shape), (1.0, 3, 3)) / 0.05
    image += 0.5 * ndi.gaussian_filter(rng.standard_normal(shape), (1.5, 1.5, 1.5)) / 0.06
    image = np.clip(128 + 30 * image / image.std(), 1, 255)
    lines = ["file,section,x_nm,y_nm"]
    for k in range(3):
        for i in range(4):
            y, x = (i // 2) * STEP, (i % 2) * STEP
            dy, dx = rng.integers(-4, 5, 2) + 10
            tile = image[k, y + dy : y + dy + TILE, x + dx : x + dx + TILE]
            Image.fromarray(tile.astype(np.uint8)).save(tmp_path / f"k{k}_t{i}.png")
            lines.append(f"k{k}_t{i}.png,{k},{x * PIXEL},{y * PIXEL}")
    (tmp_path / "tiles.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "tiles.csv"


SETTINGS = stitch.StitchStageSettings(pixel_nm=PIXEL, thickness_nm=40.0, pyramid=False)


def test_tiles_become_one_aligned_volume(table, tmp_path):
    made = stitch.run(table, tmp_path / "s", SETTINGS)
    assert made["seams_failed"] == 0
    assert made["seam_correlation"] > 0.98
    found = align.run(tmp_path / "s", tmp_path / "a", align.AlignStageSettings())
    assert found["failed"] == []
    render.run(tmp_path / "s", tmp_path / "a", tmp_path / "v", render.RenderSettings(pyramid=False))
    volume = pv.open(tmp_path / "v")
    assert volume.voxel_size == pv.open(tmp_path / "s" / "sections").voxel_size
    middle = volume.read()[:, 60:-60, 60:-60].astype(float)
    near = [np.corrcoef(middle[k].ravel(), middle[k + 1].ravel())[0, 1] for k in range(2)]
    assert min(near) > 0.3


def test_a_damaged_file_is_left_out_and_told(table, tmp_path):
    bad = tmp_path / "k1_t2.png"
    bad.write_bytes(bad.read_bytes()[:2000])
    tiles.check(tiles.read(table), PIXEL)  # the header is whole: only reading shows it
    with pytest.raises(WorkFailed, match="1 of 12 tiles were left out"):
        stitch.run(table, tmp_path / "s", SETTINGS)
    volume = pv.open(tmp_path / "s" / "sections")
    assert volume.shape[0] == 3
    assert "k1_t2.png" in (tmp_path / "s" / "failures.csv").read_text()


def test_a_stopped_alignment_goes_on_from_where_it_was_with_the_same_result(
    table, tmp_path, monkeypatch
):
    stitch.run(table, tmp_path / "s", SETTINGS)
    settings = align.AlignStageSettings(slab=1, threads=1)
    align.run(tmp_path / "s", tmp_path / "whole", settings)
    real, calls = align_blocks.match_slab, []

    def counted(block, context):
        calls.append((context.reads["round"], block.number))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(block, context)

    monkeypatch.setattr(align_blocks, "match_slab", counted)
    with pytest.raises(KeyboardInterrupt):
        align.run(tmp_path / "s", tmp_path / "a", settings)
    assert not (tmp_path / "a").exists()
    first = list(calls)
    align.run(tmp_path / "s", tmp_path / "a", settings)
    again = calls[len(first) :]
    # the four slabs that were finished are not done again
    assert not set(first[:4]) & set(again)
    assert not (tmp_path / "a.run").exists()
    one, other = (field_file.load(tmp_path / n / "fields.npz") for n in ("whole", "a"))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name].displacement, other[name].displacement)


def test_the_size_of_slabs_and_the_number_of_threads_change_nothing(table, tmp_path):
    stitch.run(table, tmp_path / "s", SETTINGS)
    got = []
    for slab, threads in ((16, 2), (2, 1)):
        settings = align.AlignStageSettings(slab=slab, threads=threads)
        align.run(tmp_path / "s", tmp_path / f"a{slab}", settings)
        got.append(field_file.load(tmp_path / f"a{slab}" / "fields.npz"))
    for name in got[0]:
        np.testing.assert_array_equal(got[0][name].displacement, got[1][name].displacement)
