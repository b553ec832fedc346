"""`petavox data`."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from petavox.cli.app import app
from petavox.datasets import catalogue


def run(*words):
    return CliRunner().invoke(app, ["data", *map(str, words)])


def test_list_names_every_set_with_its_licence():
    listed = json.loads(run("list", "--json").stdout)
    assert {n: v["licence"] for n, v in listed.items()} == {
        n: s.licence for n, s in catalogue().items()
    }


def test_one_set_is_listed_with_addresses_and_checksums():
    listed = json.loads(run("list", "cremi-a", "--json").stdout)
    assert listed["file_1"]["url"] == "https://cremi.org/static/data/sample_A_20160501.hdf"
    assert len(listed["file_1"]["sha256"]) == 64


def test_fetch_of_an_unknown_set_is_one_sentence():
    told = run("fetch", "cremi")
    assert told.exit_code == 2
    assert "there is no data set 'cremi'" in told.stderr


def test_fetch_from_a_folder_checks_what_lies_there(tmp_path):
    (tmp_path / "isbi.h5").write_bytes(b"not it")
    told = run("fetch", "isbi2012", "--from", tmp_path, "--to", tmp_path / "data")
    assert told.exit_code == 2
    assert "is not the file of isbi2012: its sha256 is" in told.stderr
