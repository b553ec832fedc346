"""`petavox import`, `export` and `info`: what a person gets."""

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

import petavox as pv
from petavox.cli.app import app
from petavox.space import Box


def run(*words: object) -> dict:
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def block(tmp_path, rng):
    values = rng.integers(0, 9, (20, 200, 180), np.uint32)
    with h5py.File(tmp_path / "block.h5", "w") as f:
        f.attrs["voxel_size_nm"] = [40.0, 4.0, 4.0]
        f["labels"] = values
        f["other"] = values.astype(np.uint8)
    return tmp_path / "block.h5", values


def test_there_and_back_again(tmp_path, block):
    file, values = block
    made = run("import", f"{file}/labels", tmp_path / "a", "--dtype", "uint64",
               "--box", "2:20,0:200,10:180")  # fmt: skip
    assert made["dtype"] == "uint64"
    assert made["box"] == "2:20,0:200,10:180"
    assert made["kind"] == "labels"
    run("export", tmp_path / "a", tmp_path / "b", "--format", "precomputed")
    run("export", tmp_path / "b", tmp_path / "c.h5", "--format", "hdf5")
    back = pv.open(tmp_path / "c.h5/labels")
    assert back.box == Box((2, 0, 10), (20, 200, 180))
    np.testing.assert_array_equal(back.read(), values[2:, :, 10:])


def test_a_level_is_exported_by_its_resolution(tmp_path, block):
    file, _ = block
    run("import", f"{file}/labels", tmp_path / "a")
    run("export", tmp_path / "a", tmp_path / "c.h5/x", "--format", "hdf5",
        "--resolution", 40, 8, 8)  # fmt: skip
    coarse = pv.open(tmp_path / "c.h5/x")
    assert tuple(coarse.voxel_size) == (40, 8, 8)
    assert coarse.shape == (20, 100, 90)


@pytest.mark.parametrize("name", ["labels", "deep/er/labels"])
def test_export_into_a_file_replaces_one_array_and_keeps_the_others(tmp_path, block, name):
    file, values = block
    run("import", f"{file}/labels", tmp_path / "a", "--box", "4:20,0:200,0:180")
    with h5py.File(file, "a") as f:
        f["deep/er/labels"] = np.zeros((2, 2, 2), np.uint8)
        f["deep/beside"] = np.arange(5)
        f["deep"].attrs["note"] = "kept"
        f["link"] = h5py.SoftLink("/other")
    words = ["export", tmp_path / "a", f"{file}/{name}", "--format", "hdf5"]
    refused = CliRunner().invoke(app, [*map(str, words)])
    assert refused.exit_code != 0
    assert "what else is in the file is kept" in " ".join(refused.stderr.split())
    run(*words, "--overwrite")
    back = pv.open(f"{file}/{name}")
    assert back.box == Box((4, 0, 0), (20, 200, 180))
    np.testing.assert_array_equal(back.read(), values[4:])
    with h5py.File(file) as f:
        for kept in ("other", "link"):
            np.testing.assert_array_equal(f[kept], values.astype(np.uint8))
        assert f["deep/beside"][:].tolist() == [0, 1, 2, 3, 4]
        assert f["deep"].attrs["note"] == "kept"
        assert f.attrs["voxel_size_nm"].tolist() == [40, 4, 4]
        if name != "labels":
            np.testing.assert_array_equal(f["labels"], values)
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


@pytest.mark.parametrize(
    ("name", "says"), [("deep", "is a group"), ("other/x", "would lie in a data set")]
)
def test_export_into_a_file_that_could_not_keep_its_arrays_is_refused(tmp_path, block, name, says):
    file, _ = block
    run("import", f"{file}/labels", tmp_path / "a")
    with h5py.File(file, "a") as f:
        f["deep/er"] = np.zeros((2, 2, 2), np.uint8)
    before = file.read_bytes()
    words = ["export", str(tmp_path / "a"), f"{file}/{name}", "--format", "hdf5", "--overwrite"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code not in (0, 70)
    assert says in " ".join(done.stderr.split())
    assert file.read_bytes() == before


def test_an_array_is_exported_into_the_file_it_comes_from(block):
    file, values = block
    run("export", f"{file}/labels", f"{file}/copy", "--format", "hdf5", "--overwrite")
    for name in ("labels", "copy"):
        np.testing.assert_array_equal(pv.open(f"{file}/{name}").read(), values)


def test_sections_and_their_voxel_size(tmp_path, block):
    file, values = block
    run("export", f"{file}/other", tmp_path / "tif", "--format", "tiff", "--box", "0:12,0:9,0:11")
    run("import", tmp_path / "tif", tmp_path / "a", "--voxel-size", 40, 4, 4, "--no-pyramid")
    np.testing.assert_array_equal(pv.open(tmp_path / "a").read(), values[:12, :9, :11])
    assert len(pv.open(tmp_path / "a").levels) == 1


def test_info_of_a_file_lists_its_data_sets(block):
    file, _ = block
    assert run("info", file)["datasets"] == {
        "labels": "uint32 20 x 200 x 180",
        "other": "uint8 20 x 200 x 180",
    }


def test_info_of_a_volume_tells_levels_state_and_provenance(tmp_path, block):
    file, _ = block
    run("import", f"{file}/other", tmp_path / "a", "--kind", "labels")
    said = run("info", tmp_path / "a")
    assert said["kind"] == "labels"
    assert said["complete"] is True
    assert list(said["levels"]) == ["40 x 4 x 4 nm", "40 x 8 x 8 nm"]
    assert said["provenance"]["inputs"] == {"source": f"{file}/other"}
    assert said["provenance"]["counters"]["voxels"] == 20 * 200 * 180
    foreign = run("info", f"{file}/labels")
    assert foreign["made_by"] == "another program"


@pytest.mark.parametrize("command", ["import", "export", "info", "check"])
def test_help_has_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: petavox {command}" in result.stdout


# VmHWM is this program's own peak; ru_maxrss would begin with that of the process that started it
MEMORY = """
import pathlib, sys
from petavox.cli.app import main
sys.argv = ["petavox", *sys.argv[1:]]
try:
    main()
finally:
    status = pathlib.Path("/proc/self/status").read_text()
    print(next(int(x.split()[1]) for x in status.splitlines() if x.startswith("VmHWM")) // 1024)
"""


def test_import_of_a_large_volume_stays_in_little_memory(tmp_path):
    with h5py.File(tmp_path / "v.h5", "w") as f:
        f.attrs["voxel_size_nm"] = [8.0, 8.0, 8.0]
        d = f.create_dataset("x", (128, 768, 768), np.uint64, chunks=(16, 256, 256), fillvalue=5)
        d[64] = 7
        assert d.size * d.dtype.itemsize > 600e6
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, "import", "v.h5/x", "out", "--memory", "64"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert int(done.stdout.split()[-1]) < 550
