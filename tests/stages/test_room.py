"""No stage removes what it reads, and an old alignment stays until the new one is there."""

from __future__ import annotations

import pytest

from petavox.align import field_file
from petavox.align.frames import Field
from petavox.errors import AlreadyExists, BadInput
from petavox.stages import align, align_blocks, contrast, qc, render
from petavox.stages.room import require_apart, require_room
from petavox.volume import state
from tests.stages.align_tissue import saved, tissue

ONE = align.AlignStageSettings(threads=1, find_damage=False)


@pytest.fixture
def image(tmp_path):
    return saved(tmp_path / "image.zarr", tissue(2))


@pytest.fixture
def fields(tmp_path):
    field_file.save(tmp_path / "fields.npz", {f"section_{k:05d}": Field() for k in range(2)})
    return tmp_path / "fields.npz"


def test_no_stage_writes_over_the_volume_that_it_reads(image, fields, tmp_path, monkeypatch):
    before = sorted(p for p in image.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="would overwrite"):
        render.run(image, fields, "image.zarr", render.RenderSettings(), overwrite=True)
    with pytest.raises(BadInput, match="would overwrite"):
        qc.run(str(image), tmp_path / "image.zarr", qc.QcSettings(), overwrite=True)
    with pytest.raises(BadInput, match="would overwrite"):
        align.run(image, "image.zarr", ONE, overwrite=True)
    with pytest.raises(BadInput, match="would overwrite"):
        contrast.run(str(image), "image.zarr", contrast.ContrastSettings(), overwrite=True)
    assert sorted(p for p in image.rglob("*")) == before


def test_an_input_inside_the_output_is_told_from_one_beside_it(tmp_path):
    require_apart(tmp_path / "a", [tmp_path / "ab", None, tmp_path])
    require_apart("s3://x/a", ["s3://x/ab", tmp_path])
    for out, given in [(tmp_path, tmp_path / "sections"), ("s3://x/a", "s3://x/a/sections")]:
        with pytest.raises(BadInput, match="choose another name"):
            require_apart(out, [given])


def test_an_old_alignment_is_there_until_the_new_one_is(image, tmp_path, monkeypatch):
    out = tmp_path / "out"
    align.run(image, out, ONE)
    old = (out / "fields.npz").read_bytes()
    with pytest.raises(BadInput, match="would overwrite"):
        align.run(image, out, ONE, fixed=out, overwrite=True)

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(align_blocks.BlockMatcher, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            align.run(image, out, ONE, overwrite=True)
    assert (out / "fields.npz").read_bytes() == old
    with pytest.raises(AlreadyExists):  # also while a stopped run of the new one is there
        align.run(image, out, ONE)
    align.run(image, out, ONE, overwrite=True)
    assert len(align.read_fields(out, 8.0)) == 2


def test_what_is_no_volume_is_refused_before_the_work(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(BadInput, match="not a volume"):
        require_room(tmp_path / "mine", overwrite=True)
    (tmp_path / "out").mkdir()
    state.begin(tmp_path / "out")
    require_room(tmp_path / "out", overwrite=False, going_on=True)
    with pytest.raises(AlreadyExists):
        require_room(tmp_path / "out", overwrite=False)
