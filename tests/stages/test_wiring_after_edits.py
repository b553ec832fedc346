"""A connectome follows proofreading: the graph's edits, no voxel read again."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from petavox.blocks import Ledger
from petavox.cli.app import app
from petavox.neuron import tables
from petavox.stages import edit
from tests.stages.agglomerated_tissue import agglomerated, read


def call(*words):
    done = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout.strip().splitlines()[-1])


def write_synapses(path, named):
    """Four synapses between slabs, their partners named by `named`."""
    pairs = [(1, 3), (2, 5), (5, 6), (6, 4)]
    rows = [
        {"id": k + 1, "z_nm": -15.0, "y_nm": 5.0, "x_nm": 40.0 * a, "pre": named(a),
         "post": named(b), "size": 1.0 + k, "score": 0.5}
        for k, (a, b) in enumerate(pairs)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows, tables.SYNAPSES), path)
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_update_is_what_the_edited_volume_would_give(tmp_path, suffix):
    out = agglomerated(tmp_path)
    base = write_synapses(tmp_path / "base.parquet", int)
    call("connectome", tmp_path / "wiring", "--labels", tmp_path / "labels", "--synapses", base)
    edit.merge(out, "5", "6")
    edit.split(out, ["1"], ["3"])
    with Ledger(tmp_path / "ledger.db") as ledger:
        edit.apply(out, tmp_path / "new", ledger=ledger, block=(8, 8, 8), quiet=True)
    row = read(tmp_path / "new")
    assert row == [1, 1, 3, 4, 4, 4]
    whole = write_synapses(tmp_path / "whole.parquet", lambda k: row[k - 1])
    call("connectome", tmp_path / "wanted", "--labels", tmp_path / "new", "--synapses", whole)

    file = tmp_path / f"edits.{suffix}"
    said = call("edit", "mapping", out, file)
    assert (said["objects"], said["mapped"], said["neurons"]) == (6, 3, 3)
    for voxels in ("labels", "out", "new"):  # whatever reads a voxel now fails
        shutil.rmtree(tmp_path / voxels)
    call("connectome", tmp_path / "wiring", "--mapping", file)
    for name in ("neurons", "synapses", "edges"):
        mine, wanted = (
            pq.read_table(tmp_path / folder / f"{name}.parquet").to_pandas()
            for folder in ("wiring", "wanted")
        )
        if name == "neurons":  # how many objects a neuron is of: three slabs, one slab, two
            assert mine.pop("objects").tolist() == [2, 1, 3]
            wanted.pop("objects")
        assert mine.equals(wanted), name
    edges = pq.read_table(tmp_path / "wiring" / "edges.parquet").to_pylist()
    assert [(e["pre"], e["post"], e["count"]) for e in edges] == [(1, 3, 1), (1, 4, 1), (4, 4, 2)]


def test_taking_an_edit_back_takes_the_wiring_back(tmp_path):
    out = agglomerated(tmp_path)
    base = write_synapses(tmp_path / "base.parquet", int)
    call("edit", "mapping", out, tmp_path / "before.csv")
    call(
        "connectome", tmp_path / "wiring", "--labels", tmp_path / "labels", "--synapses", base,
        "--mapping", tmp_path / "before.csv",
    )  # fmt: skip
    before = pq.read_table(tmp_path / "wiring" / "edges.parquet")
    edit.split(out, ["1"], ["3"])
    call("edit", "mapping", out, tmp_path / "after.csv")
    call("connectome", tmp_path / "wiring", "--mapping", tmp_path / "after.csv")
    assert pq.read_table(tmp_path / "wiring" / "edges.parquet") != before
    edit.undo(out)
    call("edit", "mapping", out, tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "before.csv").read_bytes()
    call("connectome", tmp_path / "wiring", "--mapping", tmp_path / "again.csv")
    assert pq.read_table(tmp_path / "wiring" / "edges.parquet") == before
    assert np.array_equal(before["count"].to_numpy(), [1, 1, 1, 1])


def test_a_mapping_of_another_kind_of_file_is_refused(tmp_path):
    done = CliRunner().invoke(app, ["edit", "mapping", str(agglomerated(tmp_path)), "edits.txt"])
    assert done.exit_code == 2
    assert "ends in '.txt'" in done.output
