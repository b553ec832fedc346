from __future__ import annotations

import json

import imageio.v3 as iio
import numpy as np
import pytest
from typer.testing import CliRunner

import petavox as pv
from petavox.cli.app import app
from petavox.phantom import TilesTruth, tissue
from petavox.space import Box
from petavox.stages.phantom import PhantomSettings, read_skeletons, read_synapses, write
from petavox.volume import state

COARSE = {"voxel_size": (30.0, 30.0, 30.0), "look": "x-ray", "seed": 3}


def run(*args):
    return CliRunner().invoke(app, ["phantom", *map(str, args)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "tissue"
    write(out, PhantomSettings(shape=(20, 60, 140), offset=(-3, 5, -7), **COARSE), swc=True)
    return out


def test_the_volumes_hold_the_tissue_of_their_box(folder):
    image, labels, classes = (pv.open(folder / f"{n}.zarr") for n in ("image", "labels", "classes"))
    assert image.box == labels.box == classes.box == Box((-3, 5, -7), (17, 65, 133))
    assert tuple(image.voxel_size) == COARSE["voxel_size"]
    assert (image.dtype, labels.dtype, classes.dtype) == (np.uint16, np.uint64, np.uint8)
    # a part that crosses the blocks' face, computed in one piece
    t = tissue(Box((0, 20, 115), (6, 30, 127)), seed=3, look="x-ray", voxel_size=(30.0,) * 3)
    assert np.array_equal(image.read(t.box), t.image)
    assert np.array_equal(labels.read(t.box), t.labels)
    assert np.array_equal(classes.read(t.box), t.classes)


def test_the_tables_agree_with_the_volumes(folder):
    labels = pv.open(folder / "labels.zarr")
    ids = set(np.unique(labels.read()).tolist())
    sites = read_synapses(folder / "synapses.csv")
    assert len(sites) > 3
    for s in sites:
        assert {s["pre"], *s["posts"]} <= ids
        voxel = np.floor(np.array(s["position"]) / 30).astype(int)
        assert labels.box.contains_point(voxel.tolist())
    wires = [r.split(",") for r in (folder / "connectome.csv").read_text().splitlines()[1:]]
    assert sum(int(n) for _, _, n in wires) == sum(len(s["posts"]) for s in sites)
    bones = read_skeletons(folder / "skeletons.npz")
    assert set(bones.ids.tolist()) <= ids
    one = int(bones.ids[0])
    swc = [r.split() for r in (folder / "skeletons" / f"{one}.swc").read_text().splitlines()[1:]]
    assert len(swc) == (bones.ids == one).sum()
    assert np.allclose(
        sorted(float(r[4]) for r in swc), np.sort(bones.of(one).nodes[:, 0]), atol=0.01
    )
    said = json.loads((folder / "phantom.json").read_text())
    assert said["settings"]["seed"] == 3
    assert said["counters"]["synapses"] == len(sites)


def test_the_number_of_processes_does_not_matter(folder, tmp_path):
    write(
        tmp_path / "again",
        PhantomSettings(shape=(20, 60, 140), offset=(-3, 5, -7), **COARSE),
        workers=2,
    )
    for name in ("image", "labels"):
        a, b = (pv.open(f / f"{name}.zarr").read() for f in (folder, tmp_path / "again"))
        assert np.array_equal(a, b)
    for name in ("synapses.csv", "connectome.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_command_prints_figures_and_refuses_to_overwrite(tmp_path):
    args = [tmp_path / "t", "--shape", 8, 16, 16, "--voxel-size", 30, 30, 30, "--seed", 3]
    done = run(*args, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["voxels"] == 2048
    again = run(*args)
    assert again.exit_code == 2
    assert "is there already" in again.stderr


TISSUE = ["--shape", 8, 16, 16, "--voxel-size", 30, 30, 30]
TILES = [
    "--tiles", "--set", "sections=1", "--set", "grid=[1,2]", "--set", "tile=[64,72]", "--set",
    "overlap=20", "--set", "shift=4", "--set", "pixel_nm=16",
]  # fmt: skip


@pytest.mark.parametrize("kind", [TISSUE, TILES], ids=["tissue", "tiles"])
def test_overwrite_replaces_an_earlier_phantom(tmp_path, kind):
    assert run(tmp_path / "t", *kind, "--seed", 3).exit_code == 0
    again = run(tmp_path / "t", *kind, "--seed", 4, "--overwrite")
    assert again.exit_code == 0, again.stderr
    assert json.loads((tmp_path / "t" / "phantom.json").read_text())["settings"]["seed"] == 4


@pytest.mark.parametrize(
    ("kind", "part"),
    [(TISSUE, "petavox.stages.phantom._tables"), (TILES, "petavox.stages.phantom_tiles._encoded")],
    ids=["tissue", "tiles"],
)
def test_a_phantom_whose_writer_died_is_no_result_and_can_be_replaced(
    tmp_path, monkeypatch, kind, part
):
    with monkeypatch.context() as m:

        def dies(*_, **__):
            raise KeyboardInterrupt

        m.setattr(part, dies)
        assert run(tmp_path / "t", *kind).exit_code != 0
    with pytest.raises(pv.PetavoxError, match="not complete"):
        state.require_complete(tmp_path / "t")
    done = run(tmp_path / "t", *kind, "--overwrite")
    assert done.exit_code == 0, done.stderr
    state.require_complete(tmp_path / "t")


@pytest.mark.parametrize("kind", [TISSUE, TILES], ids=["tissue", "tiles"])
def test_other_work_is_never_replaced_by_a_phantom(tmp_path, kind):
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.tex").write_text("years")
    done = run(tmp_path / "t", *kind, "--overwrite")
    assert done.exit_code == 2
    assert (tmp_path / "t" / "thesis.tex").read_text() == "years"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--look", "tem"], "look"),
        (["--voxel-size", "0", "8", "8"], "voxel_size"),
        (["--shape", "0", "8", "8"], "no voxel"),
        (["--damage"], "add --tiles"),
        (["--tiles", "--set", "sections"], "key=value"),
        (["--tiles", "--set", "section=3"], "unknown key 'section'"),
    ],
)
def test_what_cannot_be_made_is_told_before_anything_is_written(tmp_path, args, says):
    done = run(tmp_path / "x", *args)
    assert done.exit_code == 2
    assert says in done.stderr.replace("\n", " ")
    assert not (tmp_path / "x").exists()


def test_tiles_are_written_with_their_table_masks_and_truth(tmp_path):
    done = run(
        tmp_path / "t", "--tiles", "--seed", 3, "--set", "sections=3", "--set", "grid=[1,2]",
        "--set", "tile=[64,72]", "--set", "overlap=20", "--set", "missing_tiles=1", "--set",
        "dust=1", "--set", "shift=4", "--set", "pixel_nm=16", "--set", "elastic=2",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = [r.split(",") for r in (tmp_path / "t" / "tiles.csv").read_text().splitlines()]
    assert rows[0] == ["file", "section", "x_nm", "y_nm"]
    assert len(rows) == 6
    truth = TilesTruth.load(tmp_path / "t")
    gone = next(d for d in truth.damage if d.kind == "missing tile")
    assert all(f"s{gone.section:04d}/t{gone.tile:04d}" not in r[0] for r in rows)
    for name, _, x, y in rows[1:]:
        image = iio.imread(tmp_path / "t" / name)
        assert (image.shape, image.dtype) == ((64, 72), np.uint8)
        i = int(name[-8:-4])
        assert (float(x), float(y)) == (i * 52 * 16.0, 0.0)
    mask = iio.imread(tmp_path / "t" / "masks" / "s0000.png")
    assert mask.shape[0] > 64
    stitch, _ = truth.perfect()
    assert truth.seam(stitch)["max"] < 1e-6


def test_a_folder_without_truth_is_told(tmp_path):
    with pytest.raises(pv.PetavoxError, match="no readable truth"):
        TilesTruth.load(tmp_path)
