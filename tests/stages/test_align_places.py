"""Alignment tells and takes places in the volume's coordinates, wherever the volume begins."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import petavox as pv
from petavox.align import field_file
from petavox.align.frames import Field
from petavox.errors import BadInput
from petavox.stages import align, align_blocks, render
from petavox.stages.align import AlignStageSettings
from petavox.stages.landmarks import read_landmarks
from petavox.stages.section_fields import read_fields
from tests.stages.align_tissue import saved, tissue

START = (-2, 15, 27)
HEAD = "a,ay_nm,ax_nm,b,by_nm,bx_nm\n"


@pytest.fixture
def image(tmp_path):
    values = tissue(side=320)
    values[1, 40:80, 100:140] = np.random.default_rng(0).integers(1, 9, (40, 40))
    return saved(tmp_path / "image.zarr", values, START)


def test_damage_and_fields_of_a_volume_with_negative_sections_and_an_offset(
    image, tmp_path, monkeypatch
):
    kept, report = [], align.write_report

    def seen(place, result, missing, patches, hurt, corner):
        kept.extend(hurt.values())
        return report(place, result, missing, patches, hurt, corner)

    monkeypatch.setattr(align, "write_report", seen)
    align.run(image, tmp_path / "out", AlignStageSettings(threads=1))
    # places of three sections, without their masks
    assert len(kept) == 3
    assert all(isinstance(k, tuple) for k in kept)
    with open(tmp_path / "out" / "damage.csv") as f:
        boxes = [
            [int(r[n]) for n in ("y0", "x0")] for r in csv.DictReader(f) if r["section"] == "-1"
        ]
    assert np.abs(np.array(boxes) - [40 + 15, 100 + 27]).max(1).min() <= 4
    assert sorted(read_fields(tmp_path / "out", 8.0)) == [-2, -1, 0]
    settings = render.RenderSettings(threads=1, pyramid=False)
    render.run(image, tmp_path / "out", tmp_path / "v", settings)
    assert pv.open(tmp_path / "v").box.start[0] == -2


def test_names_that_are_no_sections_are_refused(tmp_path):
    field_file.save(tmp_path / "f.npz", {"section_x": Field()})
    with pytest.raises(BadInput, match="section_NUMBER"):
        read_fields(tmp_path / "f.npz", 1.0)


def test_landmarks_are_places_in_the_volume(tmp_path):
    path = tmp_path / "marks.csv"
    path.write_text(HEAD + "-2,200,296,-1,120,216\n")
    [m] = read_landmarks(path, 8.0, range(-2, 1), (15, 27))
    assert (m.a, m.b) == (-2, -1)
    np.testing.assert_array_equal(m.p, [[25 - 15, 37 - 27]])
    np.testing.assert_array_equal(m.q, [[0, 0]])


@pytest.mark.parametrize(
    "row", ["0,1,1,3,1,1", "-1,1,1,0,1,1", "0.5,1,1,1,1,1", "1,1,1,1,2,2", "0,nan,1,1,1,1"]
)
def test_landmarks_of_sections_that_are_not_there_are_refused(tmp_path, row):
    path = tmp_path / "marks.csv"
    path.write_text(HEAD + "0,1,1,1,1,1\n" + row + "\n")
    with pytest.raises(BadInput, match=r"line 3 of the landmarks .*marks\.csv.*0 to 2"):
        read_landmarks(path, 8.0, range(3))


def test_landmarks_are_checked_before_the_work(image, tmp_path, monkeypatch):
    (tmp_path / "marks.csv").write_text(HEAD + "1,1,1,2,1,1\n")
    monkeypatch.setattr(align_blocks.Place, "open", lambda self: pytest.fail("work has begun"))
    with pytest.raises(BadInput, match="sections 1 and 2"):
        align.run(image, tmp_path / "o", AlignStageSettings(), landmarks=tmp_path / "marks.csv")


@pytest.mark.parametrize("dtype", [np.float32, np.uint32])
def test_sections_that_are_no_grey_values_are_refused(tmp_path, dtype):
    path = saved(tmp_path / "image.zarr", tissue(2, 64).astype(dtype))
    field_file.save(tmp_path / "f.npz", {"section_00000": Field()})
    with pytest.raises(BadInput, match="uint8 or uint16"):
        align.run(path, tmp_path / "out", AlignStageSettings())
    with pytest.raises(BadInput, match="uint8 or uint16"):
        render.run(path, tmp_path / "f.npz", tmp_path / "v", render.RenderSettings())
    assert not (tmp_path / "v").exists()
