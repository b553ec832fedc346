"""Bad input to the volume commands: one sentence, exit code not 0, nothing that looks finished."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

import petavox as pv
from petavox.cli.app import app
from petavox.errors import PetavoxError, WorkFailed
from petavox.space import Box, Grid
from petavox.volume.opening import create, finish


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with good and bad volumes, as working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    block = rng.integers(0, 255, (12, 14, 16), np.uint8)
    with h5py.File("v.h5", "w") as f:
        f.attrs["voxel_size_nm"] = [40.0, 4.0, 4.0]
        f["raw"] = block
        f["flat"] = block[0]
        f["four"] = block[None]
        f["empty"] = np.zeros((0, 4, 4), np.uint8)
        f["float64"] = block.astype(float)
        f["signed"] = block.astype(np.int32)
        f["bool"] = block > 9
        nan = block.astype(np.float32)
        nan[3, 4, 5] = np.nan
        f["nan"] = nan
        f["float"] = block.astype(np.float32)
        f["two_numbers"] = block
        f["two_numbers"].attrs["voxel_size_nm"] = [4.0, 40.0]
        f["zero_size"] = block
        f["zero_size"].attrs["voxel_size_nm"] = [0.0, 4.0, 4.0]
    with h5py.File("unsized.h5", "w") as f:
        f["raw"] = block
    Path("broken.h5").write_bytes(Path("v.h5").read_bytes()[:700])
    Path("text.txt").write_text("hello")
    Path("nothing").mkdir()
    Path("bad.zarr").mkdir()
    Path("bad.zarr/zarr.json").write_text("{")
    Path("group.zarr").mkdir()
    Path("group.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    Path("bad.pc").mkdir()
    Path("bad.pc/info").write_text('{"scales": []}')
    for name in ("half.zarr", "done.zarr"):
        v = create(name, box=Box((0, 0, 0), (4, 4, 4)), voxel_size=(1, 1, 1), dtype="uint8",
                   kind="image")  # fmt: skip
    finish(v, {"stage": "test"})
    return tmp_path


CASES = {
    "missing file": ("import none.h5/raw out", "no file none.h5"),
    "missing folder": ("import none.zarr out", "no volume at none.zarr"),
    "missing data set": ("import v.h5/row out", "It holds: "),
    "a whole HDF5 file": ("import v.h5 out", "Address one as v.h5/NAME"),
    "a file of another kind": ("import text.txt out", "a kind petavox does not know"),
    "an empty folder": ("import nothing out", "no volume at nothing"),
    "a truncated HDF5 file": ("import broken.h5/raw out", "not a readable HDF5"),
    "2-D": ("import v.h5/flat out", "2 axes (14, 16)"),
    "4-D": ("import v.h5/four out", "4 axes"),
    "no voxel": ("import v.h5/empty out", "is empty"),
    "float64": ("import v.h5/float64 out", "holds float64"),
    "signed": ("import v.h5/signed out", "holds int32"),
    "bool": ("import v.h5/bool out", "holds bool"),
    "NaN": ("import v.h5/nan out", "at z, y, x = 3, 4, 5"),
    "float labels": ("import v.h5/float out --kind labels", "labels are whole numbers"),
    "narrower type": ("import v.h5/float out --dtype uint8", "not as uint8"),
    "unknown type": ("import v.h5/raw out --dtype int8", "not one of"),
    "no voxel size": ("import unsized.h5/raw out", "pass --voxel-size"),
    "contradicting voxel size": (
        "import v.h5/raw out --voxel-size 4 4 40",
        "order is z y x",
    ),
    "voxel size of two numbers": ("import v.h5/two_numbers out", "has 2 numbers"),
    "voxel size of 0": ("import v.h5/zero_size out", "must be a positive number"),
    "voxel size below 0": (
        "import unsized.h5/raw out --voxel-size -1 4 4",
        "must be a positive number",
    ),
    "box outside": ("import v.h5/raw out --box 0:13,0:14,0:16", "leaves v.h5/raw"),
    "empty box": ("import v.h5/raw out --box 3:3,0:1,0:1", "holds no voxel"),
    "malformed box": ("import v.h5/raw out --box 0:3", "not of the form"),
    "box backwards": ("import v.h5/raw out --box 3:0,0:1,0:1", "ends before it starts"),
    "unknown format": ("import v.h5/raw out --format zarr9", "not one of ome-zarr"),
    "unknown kind": ("import v.h5/raw out --kind picture", "not one of image, labels"),
    "8-bit precomputed labels": (
        "import v.h5/raw out --kind labels --format precomputed",
        "--dtype uint64",
    ),
    "shard of part chunks": (
        "import v.h5/raw out --chunk 4 4 4 --shard 6 8 8",
        "not whole chunks",
    ),
    "chunk of 0": ("import v.h5/raw out --chunk 0 4 4", "at least 1"),
    "no memory": ("import v.h5/raw out --memory 0", "raise the memory"),
    "output exists": ("import v.h5/raw done.zarr", "pass --overwrite"),
    "output is other work": ("import v.h5/raw . --overwrite", "lie in one another"),
    "output in the input": ("import v.h5/raw v.h5/raw/x --overwrite", "lie in one another"),
    "output under a file": ("import v.h5/raw text.txt/out", "cannot write to"),
    "broken JSON": ("import bad.zarr out", "not valid JSON"),
    "group without multiscales": ("import group.zarr out", "without OME multiscales"),
    "info without scales": ("import bad.pc out", "not the info"),
    "unfinished volume": ("import half.zarr out", "not complete"),
    "export to an unknown format": ("export v.h5/raw out --format doc", "not one of"),
    "export to a badly named file": ("export v.h5/raw out --format hdf5", "end it with .h5"),
    "export over a file": ("export done.zarr v.h5/x --format hdf5", "pass --overwrite"),
    "export without such a level": (
        "export done.zarr out --format tiff --resolution 8 8 8",
        "has no level of 8 x 8 x 8 nm",
    ),
    "info of nothing": ("info nowhere", "no volume at nowhere"),
    "check of an unfinished volume": ("check half.zarr", "not complete"),
    "check of float labels": ("check v.h5/raw --labels v.h5/float", "labels are whole"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_sentence_and_leaves_no_result(here, case):
    command, says = CASES[case]
    before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file()}
    result = CliRunner().invoke(app, command.split())
    assert result.exit_code not in (0, 70)
    said = " ".join(result.stderr.split())
    assert says in said
    assert "Traceback" not in said
    assert all(p.read_bytes() == data for p, data in before.items())
    for path in (here / "out", *here.glob("*.partial"), *here.glob(".*.partial")):
        with pytest.raises(PetavoxError):
            pv.open(path)


def test_damaged_chunks_are_a_sentence(tmp_path, rng):
    box = Box((0, 0, 0), (16, 16, 16))
    for format in ("ome-zarr", "precomputed"):
        path = tmp_path / format
        v = create(path, box=box, voxel_size=(8, 8, 8), dtype="uint8", kind="image",
                   chunk=(8, 8, 8), shard=(16, 16, 16), format=format)  # fmt: skip
        v.write(box, rng.integers(0, 255, box.shape, np.uint8))
        finish(v, {})
        file = max((p for p in path.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 3] ^= 1
        for damaged in (whole[:100], whole[: len(whole) // 2], b"\x55" * len(whole), flipped):
            file.write_bytes(damaged)
            with pytest.raises(WorkFailed, match="cannot be read") as e:
                pv.open(path).read()
            assert "\n" not in str(e.value)
            result = CliRunner().invoke(
                app, ["import", str(path), str(tmp_path / "out"), "--overwrite"]
            )
            assert result.exit_code == WorkFailed.exit_code
            with pytest.raises(PetavoxError, match="not complete"):
                pv.open(tmp_path / "out")


def test_a_damaged_hdf5_chunk_is_a_sentence(tmp_path, rng):
    with h5py.File(tmp_path / "v.h5", "w") as f:
        f.attrs["voxel_size_nm"] = [8, 8, 8]
        d = f.create_dataset("x", data=rng.integers(0, 9, (64, 64, 64), np.uint8),
                             chunks=(32, 32, 32), compression="gzip")  # fmt: skip
        where = d.id.get_chunk_info(3)
    data = bytearray((tmp_path / "v.h5").read_bytes())
    data[where.byte_offset : where.byte_offset + where.size] = b"\x55" * where.size
    (tmp_path / "v.h5").write_bytes(data)
    with pytest.raises(WorkFailed, match="may be damaged"):
        pv.open(tmp_path / "v.h5/x").read()


FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
from petavox.cli.app import main
sys.argv = ["petavox", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    "how",
    [
        "import {} out",
        "import {} out --format precomputed",
        "export {} out.h5/x --format hdf5",
        "export {} out --format tiff",
    ],
)
def test_a_full_disk_is_a_sentence_and_leaves_no_result(tmp_path, rng, how):
    with h5py.File(tmp_path / "v.h5", "w") as f:
        f.attrs["voxel_size_nm"] = [8, 8, 8]
        f["x"] = rng.integers(0, 255, (4, 600, 600), np.uint8)
    done = subprocess.run(
        [sys.executable, "-c", FULL, *how.format("v.h5/x").split()],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == WorkFailed.exit_code, done.stderr
    assert "cannot be written" in done.stderr
    for name in ("out", "out.h5/x"):
        with pytest.raises(PetavoxError):
            pv.open(tmp_path / name)


def test_a_killed_import_is_no_result(tmp_path):
    (tmp_path / "s").mkdir()
    for z in range(4):
        tifffile.imwrite(tmp_path / f"s/{z}.tif", np.full((8, 8), z, np.uint8))
    code = (
        "import os, petavox.volume.transfer as t\n"
        "import petavox as pv\n"
        "t.copy = lambda *a, **k: os.kill(os.getpid(), 9)\n"
        "t.import_volume(pv.open('s', voxel_size=(1, 1, 1)), 'out')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=120)
    assert (tmp_path / "out/zarr.json").exists()
    with pytest.raises(PetavoxError, match="not complete"):
        pv.open(tmp_path / "out")
    result = CliRunner().invoke(app, ["info", str(tmp_path / "out"), "--json"])
    assert json.loads(result.stdout)["complete"] is False


def test_a_damaged_state_is_not_complete(here):
    Path("done.zarr/petavox.json").write_text("{")
    with pytest.raises(PetavoxError, match="make the volume again"):
        pv.open("done.zarr")


def test_values_that_do_not_fit_are_refused(tmp_path):
    box = Box((0, 0, 0), (4, 4, 4))
    v = create(tmp_path / "v", box=box, voxel_size=(1, 1, 1), dtype="uint8", kind="image")
    for where, values in (
        (Box((0, 0, 0), (4, 4, 5)), np.zeros((4, 4, 5), np.uint8)),
        (box, np.zeros((4, 4, 3), np.uint8)),
        (box, np.zeros((4, 4, 4), np.uint16)),
    ):
        with pytest.raises(PetavoxError):
            v.write(where, values)
    v.write(Box((1, 1, 1), (1, 2, 2)), np.zeros((0, 1, 1), np.uint8))
    assert len(Grid(v.box, v.write_shape)) == 1
