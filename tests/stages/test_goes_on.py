"""Contrast, render and stitch, broken off: what is done is kept, the result is the same."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import petavox as pv
from petavox import volume
from petavox.align import field_file
from petavox.align.frames import Field
from petavox.errors import AlreadyExists, NotComplete
from petavox.space import Box
from petavox.stages import contrast, render, stitch, stitch_work
from petavox.stages.pieces import NAME, Pieces
from petavox.volume import opening, state


def saved(path, values):
    target = volume.create(
        path, box=Box.of_shape(values.shape), voxel_size=(40, 8, 8), dtype=values.dtype,
        kind="image", chunk=(1, 64, 64), shard=(1, 64, 64),
    )  # fmt: skip
    target.write(target.box, values)
    opening.finish(target, {})
    return path


@pytest.fixture
def sections(tmp_path, rng):
    return saved(tmp_path / "in.zarr", rng.integers(40, 200, (3, 150, 150)).astype(np.uint8))


def alike(one, other) -> bool:
    return np.array_equal(pv.open(one).read(), pv.open(other).read())


def breaks_off(monkeypatch, module, name, after):
    """Let `name` of `module` raise KeyboardInterrupt at its call number `after`; its calls."""
    real, calls = getattr(module, name), []

    def counted(*given, **more):
        calls.append(1)
        if len(calls) == after:
            raise KeyboardInterrupt
        return real(*given, **more)

    monkeypatch.setattr(module, name, counted)
    return calls


@pytest.mark.parametrize("method", ["clahe", "normalize"])
def test_contrast_goes_on_with_the_blocks_that_are_left(tmp_path, sections, monkeypatch, method):
    monkeypatch.setattr(contrast, "SHARD", 128)
    settings = contrast.ContrastSettings(method=method, tile=64)
    whole = contrast.run(sections, tmp_path / "whole", settings)
    calls = breaks_off(monkeypatch, contrast.Pieces, "add", 3)
    with pytest.raises(KeyboardInterrupt):
        contrast.run(sections, tmp_path / "out", settings)
    with pytest.raises(NotComplete):
        pv.open(tmp_path / "out")
    again = contrast.run(sections, tmp_path / "out", settings)
    assert len(calls) == 3 + 4 - 2  # four blocks, of which two were kept
    assert again["changed_share"] == whole["changed_share"]
    assert alike(tmp_path / "out", tmp_path / "whole")
    assert not (tmp_path / "out.run").exists()


@pytest.fixture
def fields(tmp_path):
    made = {f"section_{k:05d}": Field.translation([8.0 * k, -3.0]) for k in range(3)}
    field_file.save(tmp_path / "fields.npz", made)
    return tmp_path / "fields.npz"


SHARDS = render.RenderSettings(chunk=(1, 64, 64), shard=(1, 64, 64), threads=1)


def test_render_goes_on_with_the_shards_that_are_left(tmp_path, sections, fields, monkeypatch):
    render.run(sections, fields, tmp_path / "whole", SHARDS)
    calls = breaks_off(monkeypatch, render, "_block", 5)
    with pytest.raises(KeyboardInterrupt):
        render.run(sections, fields, tmp_path / "out", SHARDS)
    assert len(calls) < 10
    render.run(sections, fields, tmp_path / "out", SHARDS)
    assert len(calls) == 27 + 1  # each of the 27 shards once, and the one that was broken off
    assert alike(tmp_path / "out", tmp_path / "whole")


def test_what_was_broken_off_with_other_settings_is_not_gone_on_with(
    tmp_path, sections, fields, monkeypatch
):
    breaks_off(monkeypatch, render, "_block", 5)
    with pytest.raises(KeyboardInterrupt):
        render.run(sections, fields, tmp_path / "out", SHARDS)
    other = SHARDS.model_copy(update={"fill_gaps": 1})
    with pytest.raises(AlreadyExists):
        render.run(sections, fields, tmp_path / "out", other)
    render.run(sections, fields, tmp_path / "out", other, overwrite=True)
    render.run(sections, fields, tmp_path / "new", other)
    assert alike(tmp_path / "out", tmp_path / "new")


def test_a_line_that_was_cut_off_is_not_taken_for_a_piece(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    pieces = Pieces(out, "k")
    pieces.begin()
    pieces.add("one", 5)
    with open(tmp_path / "out.run" / NAME, "a") as f:
        f.write('["two", 1')
    again = Pieces(out, "k")
    assert again.going_on
    assert again.known == {"one": 5}
    again.add("three")
    assert Pieces(out, "k").known.keys() == {"one", "three"}


def test_another_key_or_a_finished_output_begins_anew(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    Pieces(out, "k").begin()
    assert not Pieces(out, "other").going_on
    state.finish(out, {})
    assert not Pieces(out, "k").going_on


@pytest.fixture
def table(tmp_path, rng):
    lines = ["file,section,x_nm,y_nm"]
    tissue = rng.integers(40, 200, (3, 96, 180)).astype(np.uint8)
    for k in range(3):
        for i, x in enumerate((0, 80)):
            Image.fromarray(tissue[k, :, x : x + 100]).save(tmp_path / f"k{k}t{i}.png")
            lines.append(f"k{k}t{i}.png,{k},{4.0 * x},0")
    (tmp_path / "tiles.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "tiles.csv"


TILES = stitch.StitchStageSettings(pixel_nm=4.0, threads=1, pyramid=False)


def same_sections(one, other) -> bool:
    return alike(one / "sections", other / "sections") and all(
        (one / "transforms" / f.name).read_bytes() == f.read_bytes()
        for f in (other / "transforms").iterdir()
    )


def test_stitch_goes_on_with_the_sections_that_are_left_to_measure(table, tmp_path, monkeypatch):
    stitch.run(table, tmp_path / "whole", TILES)
    calls = breaks_off(monkeypatch, stitch_work.mosaic, "measure", 3)
    with pytest.raises(KeyboardInterrupt):
        stitch.run(table, tmp_path / "out", TILES)
    stitch.run(table, tmp_path / "out", TILES)
    assert len(calls) == 4  # three sections, one of them twice
    assert same_sections(tmp_path / "out", tmp_path / "whole")
    assert (tmp_path / "out" / "seams.csv").read_text() == (
        tmp_path / "whole" / "seams.csv"
    ).read_text()
    assert not (tmp_path / "out.run").exists()


def test_stitch_goes_on_with_the_sections_that_are_left_to_render(table, tmp_path, monkeypatch):
    stitch.run(table, tmp_path / "whole", TILES)
    calls = breaks_off(monkeypatch, stitch_work.blend, "prepare", 3)
    with pytest.raises(KeyboardInterrupt):
        stitch.run(table, tmp_path / "out", TILES)
    with pytest.raises(NotComplete):
        pv.open(tmp_path / "out" / "sections")
    stitch.run(table, tmp_path / "out", TILES)
    assert len(calls) == 4
    assert same_sections(tmp_path / "out", tmp_path / "whole")


def test_a_tile_that_was_replaced_meanwhile_is_measured_again_and_no_other(
    table, tmp_path, monkeypatch
):
    breaks_off(monkeypatch, stitch_work.blend, "prepare", 3)
    with pytest.raises(KeyboardInterrupt):
        stitch.run(table, tmp_path / "out", TILES)
    new = np.asarray(Image.open(tmp_path / "k1t0.png"))[::-1]
    Image.fromarray(new).save(tmp_path / "k1t0.png")
    calls = breaks_off(monkeypatch, stitch_work.mosaic, "measure", 0)
    stitch.run(table, tmp_path / "out", TILES, overwrite=True)
    assert len(calls) == 1
    stitch.run(table, tmp_path / "whole", TILES)
    assert same_sections(tmp_path / "out", tmp_path / "whole")
