"""The commands: reconcile, status and plan, as a user calls them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from petavox.cli.app import app
from petavox.space import Box
from petavox.volume.opening import create, finish


@pytest.fixture(scope="module")
def reconciled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    values = np.zeros((4, 4, 12), np.uint64)
    values[:, :, :6], values[:, :, 6:] = 7, 30
    made = create(
        folder / "cut",
        box=Box.of_shape(values.shape),
        voxel_size=(8, 8, 8),
        dtype=np.uint64,
        kind="labels",
    )
    made.write(made.box, values)
    finish(made, {})
    said = call("reconcile", folder / "cut", folder / "out", "--block", 4, 4, 6, "--json")
    assert said.exit_code == 0, said.output
    return folder, json.loads(said.stdout)


def call(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_reconcile_prints_its_proof(reconciled):
    _, proof = reconciled
    assert proof["faces_decided"] == 1
    assert proof["objects_final"] == 1
    assert proof["connected_through_links"] == "every object, by a second merging"


def test_status_counts_blocks(reconciled):
    folder, _ = reconciled
    said = call("status", folder / "out", "--json")
    figures = json.loads(said.stdout)
    assert figures["reconcile-votes"]["done"] == figures["reconcile-votes"]["blocks"] == 2
    assert figures["relabel"]["state"] == "complete"


def test_status_without_a_run_says_so(tmp_path):
    said = call("status", tmp_path)
    assert said.exit_code == 2
    assert "there is no ledger" in said.stderr


def test_plan_projects_to_another_volume(reconciled):
    folder, _ = reconciled
    said = call(
        "plan",
        folder / "out",
        "--site",
        "aurora",
        "--nodes",
        16,
        "--volume",
        400,
        400,
        600,
        "--json",
    )
    figures = json.loads(said.stdout)
    assert figures["stages"]["reconcile-votes"]["blocks"] == 100 * 100 * 100
    assert figures["node_hours"] > 0


def test_plan_scans_counts_of_nodes(reconciled):
    folder, _ = reconciled
    said = call("plan", folder / "out", "--volume", 40, 40, 60, "--scan", "--json")
    rows = json.loads(said.stdout)["reconcile-votes"]
    assert [r["nodes"] for r in rows.values()] == [1, 10, 100, 1000]


def test_plan_shows_what_a_site_would_start():
    said = call("plan", "--site", "polaris", "--json")
    script = json.loads(said.stdout)["config"]["script"]
    assert "#PBS -l select=10:ncpus=64:ngpus=4" in script


@pytest.mark.parametrize("url", ["s3://bucket/out", "gs://bucket/out", "file:///nowhere/out"])
@pytest.mark.parametrize(
    "words",
    [
        ("reconcile", "cut", "OUT", "--block", 4, 4, 6),
        ("segment", "cut", "OUT", "--model", "m"),
        ("mesh", "cut", "OUT"),
        ("phantom", "OUT"),
        ("status", "OUT"),
    ],
)
def test_a_url_where_a_path_is_asked_for_is_refused_and_no_folder_is_made_of_it(
    reconciled, tmp_path, monkeypatch, url, words
):
    monkeypatch.chdir(tmp_path)
    cut = reconciled[0] / "cut"
    said = call(*({"OUT": url, "cut": cut}.get(w, w) for w in words))
    assert said.exit_code == 2
    assert url in said.stderr
    assert "path" in said.stderr
    assert list(tmp_path.iterdir()) == []
