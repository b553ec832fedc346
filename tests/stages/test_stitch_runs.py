"""Stitching that was broken off while tiles, lens or size were others than when it goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import petavox as pv
from petavox.align import field_file
from petavox.errors import BadInput
from petavox.stages import stitch, stitch_work, tile_reading
from tests.stages.align_tissue import tissue

ONE = stitch.StitchStageSettings(pixel_nm=4.0, threads=1, pyramid=False)
STEP, TILE = 130, 160


def table(folder, name, places):
    """A table of tiles cut from one tissue; places: file -> (section, y, x) px."""
    big = tissue(1, 640)[0]
    lines = ["file,section,x_nm,y_nm"]
    for file, (k, y, x) in places.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(big[y : y + TILE, x : x + TILE]).save(folder / file)
        lines.append(f"{file},{k},{4 * x},{4 * y}")
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def stopped_at(section, monkeypatch, *given, unreadable=()):
    """Stitch until the fields of `section` are written, while some tiles cannot be read."""
    read, save = tile_reading.read_image, field_file.save

    def reading(file):
        if file.name in unreadable:
            raise BadInput(f"{file} cannot be read.")
        return read(file)

    def saving(path, named, **more):
        save(path, named, **more)
        if f"section_{section:05d}" in str(path):
            raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(tile_reading, "read_image", reading)
        m.setattr(stitch_work.field_file, "save", saving)
        with pytest.raises(KeyboardInterrupt):
            stitch.run(*given)


def same(one, other):
    return np.array_equal(pv.open(one / "sections").read(), pv.open(other / "sections").read())


ROWS = {f"k{k}_{j}.png": (k, 0, j * STEP) for k in range(2) for j in range(2)}


@pytest.mark.parametrize("places", [ROWS, ROWS | {"k0_2.png": (0, 0, 2 * STEP)}])
def test_a_tile_that_can_be_read_again_is_in_the_section_that_was_rendered_without_it(
    tmp_path, monkeypatch, places
):
    listed = table(tmp_path, "tiles.csv", places)  # with a third tile, the volume grows too
    last = max(f for f in places if f.startswith("k0"))
    stopped_at(1, monkeypatch, listed, tmp_path / "out", ONE, unreadable={last})
    stitch.run(listed, tmp_path / "out", ONE)
    stitch.run(listed, tmp_path / "whole", ONE)
    assert same(tmp_path / "out", tmp_path / "whole")
    one, other = (
        field_file.load(tmp_path / n / "transforms" / "section_00000.npz") for n in ("out", "whole")
    )
    assert sorted(one) == sorted(other) == sorted(f for f in places if f.startswith("k0"))


def test_sections_that_were_rendered_in_the_same_way_are_not_rendered_again(tmp_path, monkeypatch):
    listed = table(tmp_path, "tiles.csv", ROWS)
    stopped_at(1, monkeypatch, listed, tmp_path / "out", ONE)
    rendered, prepare = [], stitch_work.blend.prepare

    def counted(*given, **more):
        rendered.append(1)
        return prepare(*given, **more)

    monkeypatch.setattr(stitch_work.blend, "prepare", counted)
    stitch.run(listed, tmp_path / "out", ONE)
    assert len(rendered) == 1


def test_an_overlap_without_a_single_match_is_told_and_the_rest_is_written(tmp_path):
    places = {"a.png": (0, 0, 0), "b.png": (0, 0, 146)}  # 14 px in common, less than a block
    listed = table(tmp_path, "tiles.csv", places)
    listed.write_text(listed.read_text().replace(",584,", ",568,"))
    figures = stitch.run(listed, tmp_path / "out", ONE)
    assert figures["seams_failed"] == 1
    assert "the overlap does not match" in (tmp_path / "out" / "failures.csv").read_text()


def test_tiles_of_one_name_in_several_folders_each_have_their_field(tmp_path):
    places = {f"r{i}/c{j}.png": (0, i * STEP, j * STEP) for i in range(2) for j in range(2)}
    stitch.run(table(tmp_path, "tiles.csv", places), tmp_path / "out", ONE)
    fields = field_file.load(tmp_path / "out" / "transforms" / "section_00000.npz")
    assert sorted(fields) == sorted(places)
    assert "r0/c0.png,r1/c0.png" in (tmp_path / "out" / "seams.csv").read_text()


def test_names_that_repeat_in_other_sections_only_stay_short():
    files = [(k, Path(f"/data/s{k}/t{i}.png")) for k in range(2) for i in range(2)]
    assert stitch_work.names(files) == ["t0.png", "t1.png", "t0.png", "t1.png"]


def test_a_tile_whose_own_field_is_not_sound_is_in_the_list_of_failures(tmp_path, monkeypatch):
    finish = stitch_work.mosaic.finish

    def unsound(*given):
        made = finish(*given)
        made.failures[1] = "its field is not sound"
        return made

    monkeypatch.setattr(stitch_work.mosaic, "finish", unsound)
    stitch.run(table(tmp_path, "tiles.csv", ROWS), tmp_path / "out", ONE)
    told = (tmp_path / "out" / "failures.csv").read_text().splitlines()
    cause = "placed without its own field: its field is not sound"
    assert told[1:] == [f"0,k0_1.png,{cause}", f"1,k1_1.png,{cause}"]
