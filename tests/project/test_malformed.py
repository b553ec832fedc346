"""Projects that cannot be run: one sentence that names what is wrong, and nothing is begun."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import petavox as pv
from petavox.cli.run import app
from petavox.space import Box
from tests.project import small


class Case:
    """A project to spoil: its folder, the values of petavox.yaml, data beside it."""

    def __init__(self, base, tissue):
        self.base, self.tissue = base, tissue
        self.folder = base / "p"
        self.folder.mkdir()
        self.values = small.described(tissue)
        self.args = []
        self.raw = None

    @property
    def stages(self):
        return self.values["stages"]

    def begin_at(self, kind, path):
        self.values["input"] = {kind: str(path)}
        self.values.pop("truth", None)
        return self.values["input"]

    def table(self, *rows, head="file,section,x_nm,y_nm"):
        """Begin at a tile table."""
        file = self.base / "tiles.csv"
        file.write_text("\n".join([head, *rows]) + "\n")
        self.values = small.described_tiles(self.base)
        return file

    def png(self, name="a.png"):
        import imageio.v3 as iio

        iio.imwrite(self.base / name, np.full((32, 32), 9, np.uint8))
        return name

    def volume(
        self, name="v.zarr", *, dtype=np.uint8, kind="image", size=(10, 10, 10), finish=True
    ):
        from petavox.volume.opening import create
        from petavox.volume.opening import finish as end

        made = create(
            self.base / "v.zarr",
            box=Box((0, 0, 0), (24, 32, 48)),
            voxel_size=size,
            dtype=np.uint8,
            kind="image",
        )
        if finish:
            end(made, {})
        return self.base / "v.zarr"

    def write(self):
        text = yaml.safe_dump(self.values) if self.raw is None else self.raw
        file = self.folder / "petavox.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())


CASES = {}


def case(expected):
    """Register a way to spoil a project, and what must be said of it."""

    def kept(spoil):
        CASES[spoil.__name__] = (spoil, expected)
        return spoil

    return kept


@case("no project at")
def no_folder(c):
    c.folder = c.base / "elsewhere"
    c.raw = ""
    c.write = lambda: None


@case("not valid YAML")
def broken_yaml(c):
    c.raw = "name: [a"


@case("holds a list")
def a_list(c):
    c.raw = "- name"


@case("not text")
def binary(c):
    c.raw = b"\xff\xfe\x00\x81"


@case("'name' is missing")
def empty(c):
    c.raw = ""


@case("unknown key 'voxelsize'.*Known keys")
def unknown_key(c):
    c.values["voxelsize"] = [10, 10, 10]


@case("no stage 'segmentation'.*segment")
def unknown_stage(c):
    c.stages["segmentation"] = {}


@case("unknown key 'blocks' in .*stages.segment")
def unknown_setting(c):
    c.stages["segment"]["blocks"] = 4


@case("rule.odds .* is -1")
def wrong_nested_setting(c):
    c.stages["agglomerate"] = {"rule": {"odds": -1}}


@case("stage 'mesh' is 'yes please'")
def stage_is_a_word(c):
    c.stages["mesh"] = "yes please"


@case("stages .*stage: settings")
def stages_is_a_list(c):
    c.values["stages"] = ["segment"]


@case("workers .* is -1")
def negative_workers(c):
    c.values["workers"] = -1


@case("voxel_size .*three")
def two_numbers(c):
    c.values["voxel_size"] = [10, 10]


@case("voxel_size")
def negative_size(c):
    c.values["voxel_size"] = [10, -10, 10]


@case("voxel_size")
def size_with_unit(c):
    c.values["voxel_size"] = "0.01 um"


@case("exactly one of tiles, sections, image")
def no_input(c):
    c.values["input"] = {}


@case("image and sections|sections and image")
def two_inputs(c):
    c.values["input"]["sections"] = c.values["input"]["image"]


@case("tiles need `voxel_size")
def tiles_without_size(c):
    c.table()
    del c.values["voxel_size"]


@case("must be square")
def oblong_pixels(c):
    c.table()
    c.values["voxel_size"] = [40, 4, 5]


@case("reads version 1; make a new file by `petavox init`")
def old_version(c):
    c.values["version"] = 0


@case("newer petavox")
def new_version(c):
    c.values["version"] = 2


@case("input.image.*nowhere")
def no_image(c):
    c.values["input"]["image"] = "nowhere.zarr"


@case("an image of uint8 or uint16 is needed")
def labels_for_image(c):
    c.values["input"]["image"] = str(c.tissue / "labels.zarr")


@case("not complete")
def unfinished_image(c):
    c.values["input"]["image"] = str(c.volume(finish=False))


@case("input.image: .*says its voxels are 10 x 10 x 10 nm.*40 x 10 x 10 nm was given")
def size_contradicts(c):
    c.values["voxel_size"] = [40, 10, 10]


@case("voxel size")
def file_without_size(c):
    import h5py

    with h5py.File(c.base / "raw.h5", "w") as f:
        f["raw"] = np.zeros((24, 32, 48), np.uint8)
    c.begin_at("image", c.base / "raw.h5/raw")


@case("input.mask")
def no_mask(c):
    c.values["input"]["mask"] = "mask.zarr"


@case("lacks|column")
def table_of_synapses_without_columns(c):
    (c.base / "s.csv").write_text("id,where\n1,2\n")
    c.values["input"]["synapses"] = str(c.base / "s.csv")


@case("no table")
def no_table_of_synapses(c):
    c.values["input"]["synapses"] = "synapses.csv"


@case("models.segmentation is none.safetensors, but there is no file")
def no_model(c):
    c.values["models"] = {"segmentation": "none.safetensors"}


@case("bad.safetensors")
def damaged_model(c):
    (c.base / "bad.safetensors").write_bytes(b"nothing of the kind")
    c.values["models"] = {"segmentation": str(c.base / "bad.safetensors")}


@case("stage 'stitch' is asked for, but there is no tiles: give input.tiles")
def stitch_without_tiles(c):
    c.stages["stitch"] = {}


@case("stage 'consensus' is asked for, but there is no blocks_again: switch on segment_again")
def consensus_of_one(c):
    c.stages["consensus"] = True


@case("stage 'mesh' is asked for.*no neurons or objects: switch on reconcile or agglomerate")
def input_of_a_stage_is_off(c):
    c.stages["reconcile"] = False
    c.stages["agglomerate"] = False


@case("stage 'synapses' is asked for, but models.synapses is empty")
def synapses_without_model(c):
    c.stages["synapses"] = True


@case("cannot read the tile table")
def no_tile_table(c):
    c.table().unlink()


@case("positions must be in nm")
def tiles_in_pixels(c):
    c.table("a.png,0,0,0", head="file,section,x_px,y_px")


@case("1 of 1 files .* are missing")
def no_tile(c):
    c.table("gone.png,0,0,0")


@case("cannot be read as an image")
def unreadable_tile(c):
    (c.base / "a.png").write_text("not a picture")
    c.table("a.png,0,0,0")


@case("seem to be in another unit")
def tiles_in_micrometres(c):
    c.table(f"{c.png('a.png')},0,0,0", f"{c.png('b.png')},0,0.3,0")


@case("lists .* twice")
def tile_twice(c):
    c.table(f"{c.png()},0,0,0", f"{c.png()},0,300,0")


@case("pixel_nm is said by voxel_size")
def pixel_said_twice(c):
    c.table(f"{c.png()},0,0,0")
    c.stages["stitch"] = {"pixel_nm": 10}


@case("context is .*less than .*reach of the model")
def context_too_small(c):
    c.stages["segment"] |= {"context": [4, 4, 4], "method": "flood"}


@case("last blocks along y are thinner")
def last_block_too_thin(c):
    c.stages["segment"] |= {"block": [24, 44, 48], "method": "flood"}


@case("box .* is not inside")
def box_outside(c):
    c.stages["segment"]["box"] = "0:24,0:48,0:480"


@case("more than a factor of two apart")
def other_scale(c):
    c.begin_at("image", c.volume(size=(40, 4, 4)))
    c.stages["segment"] = {"context": [10, 10, 10]}


@case("truth.labels .*nothing there")
def no_truth(c):
    c.values["truth"] = {"labels": "truth.zarr"}


@case("lie in one another")
def input_where_an_output_goes(c):
    shutil.copytree(c.tissue / "image.zarr", c.folder / "objects.zarr")
    c.values["input"]["image"] = "objects.zarr"


@case("this project did not make it")
def output_of_somebody_else(c):
    (c.folder / "meshes").mkdir()


@case("GiB free; this run may write")
def no_space(c):
    c.disk = 1000


@case("cannot be written")
def no_right_to_write(c):
    (c.folder / "run").write_text("a file where a folder must be")


@case("no site 'moon'")
def unknown_site(c):
    c.values["site"] = "moon"


@case("workers or site, not both")
def workers_and_site(c):
    c.values |= {"site": "laptop", "workers": 2}


@case("--workers and --site together")
def workers_and_site_as_options(c):
    c.args = ["--workers", "2", "--site", "laptop"]


@case("no step 'meshes'; the steps")
def until_unknown(c):
    c.args = ["--until", "meshes"]


@case("step 'stitch' is left out here: there is no tiles")
def until_left_out(c):
    c.args = ["--until", "stitch"]


@case("--until and --only together")
def until_and_only(c):
    c.args = ["--until", "mesh", "--only", "mesh"]


@case("0:24")
def subset_malformed(c):
    c.args = ["--subset", "0:24"]


@case("subset .* is not inside")
def subset_outside(c):
    c.args = ["--subset", "0:24,0:48,0:480"]


@case("nothing to run")
def all_off(c):
    c.values["stages"] = dict.fromkeys(
        ("segment", "reconcile", "agglomerate", "mesh", "skeletonize", "report"), False
    )
    c.values.pop("truth")


@case("record .* cannot be read")
def damaged_record(c):
    (c.folder / "run/steps").mkdir(parents=True)
    (c.folder / "run/steps/segment.json").write_text("{")


@case("must be square")
def sections_of_oblong_pixels(c):
    c.begin_at("sections", c.volume(size=(10, 10, 12)))


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said_in_a_sentence_before_any_work(name, tmp_path, tissue, monkeypatch):
    spoil, expected = CASES[name]
    c = Case(tmp_path, tissue)
    c.disk = None
    spoil(c)
    c.write()
    if c.disk is not None:
        usage = type("Usage", (), {"free": c.disk, "total": c.disk, "used": 0})
        monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    before = _there(c.folder)
    ended = CliRunner().invoke(app, [str(c.folder), *c.args])
    assert ended.exit_code not in (0, 1, 70), ended.stderr
    lines = [x for x in ended.stderr.splitlines() if "error:" in x]
    assert len(lines) == 1, ended.stderr
    import re

    assert re.search(expected, lines[0]), lines[0]
    assert _there(c.folder) == before


def test_there_are_forty_of_them():
    assert len(CASES) >= 40


def _there(folder):
    """All files but the lock and the memory of digests, which are no work."""
    return sorted(
        (str(p.relative_to(folder)), p.stat().st_size)
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("lock", "digests.json")
    )


def test_a_project_that_is_made_from_bad_data_leaves_nothing(tmp_path):
    from petavox.cli.init import app as init

    ended = CliRunner().invoke(
        init, [str(tmp_path / "p"), "--image", str(tmp_path / "nowhere.zarr")]
    )
    assert ended.exit_code == 2
    assert not (tmp_path / "p").exists()


def test_init_writes_a_project_that_runs_and_is_not_written_twice(tissue, tmp_path):
    from petavox.cli.init import app as init

    words = [str(tmp_path / "p"), "--image", str(tissue / "image.zarr")]
    words += ["--labels", str(tissue / "labels.zarr"), "--json"]
    ended = CliRunner().invoke(init, words)
    assert ended.exit_code == 0, ended.output
    assert "segment" in json.loads(ended.stdout)["stages"]
    from petavox.project import load

    project = load(tmp_path / "p")
    assert pv.open(project.inputs("segment")["image"]).box.shape == small.SHAPE
    again = CliRunner().invoke(init, words)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr
    text = project.file.read_text()
    assert all(f"  # {word}" in text for word in ("stitch: on", "qc: off", "floods, block"))


def test_init_asks_where_nobody_said(tissue, tmp_path, monkeypatch):
    from petavox.cli import init

    answers = iter(["picture", "image", str(tissue / "image.zarr")])
    monkeypatch.setattr(init.typer, "prompt", lambda *_, **__: next(answers))
    monkeypatch.setattr(init.typer, "confirm", lambda *_, **__: False)
    monkeypatch.setattr(init, "_can_ask", lambda: True)
    ended = CliRunner().invoke(init.app, [str(tmp_path / "p"), "--json"])
    assert ended.exit_code == 0, ended.output
    monkeypatch.setattr(init, "_can_ask", lambda: False)
    ended = CliRunner().invoke(init.app, [str(tmp_path / "q")])
    assert "--tiles, --sections or --image" in ended.stderr
