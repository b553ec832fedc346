"""The demonstration: a project like any other, that ends with scores and a report."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import petavox as pv
from petavox.cli.demo import app, summary
from petavox.demo import DemoSettings, prepare
from petavox.errors import AlreadyExists
from petavox.ffn.model import load_model
from petavox.ffn.shipped import MODEL
from petavox.project import ProjectSettings, load
from petavox.settings import parse


def test_its_project_has_all_stages_from_tiles_to_scores(tmp_path, monkeypatch):
    """With the tiles' table alone, and no tile: their making takes half a minute."""
    from petavox import demo

    def only_table(out, settings, **_):
        (out / "tiles").mkdir(parents=True)
        (out / "tiles.csv").write_text("file,section,x_nm,y_nm\n")

    monkeypatch.setattr(demo, "write_tiles", only_table)
    monkeypatch.setattr(demo.template.checks, "check", lambda _: None)
    project = prepare(tmp_path / "demo", DemoSettings())
    names = [s.name for s in project.steps]
    for name in ("stitch", "align", "render", "qc", "segment", "reconcile", "agglomerate", "mesh",
                 "truth", "score"):  # fmt: skip
        assert name in names
        project.stage_settings(name)
    assert load(tmp_path / "demo").settings == project.settings


def test_its_tiles_are_damaged_and_its_blocks_are_four():
    settings = DemoSettings()
    values = parse(ProjectSettings, settings.project(), "the demo")
    assert settings.tiles.folds == settings.tiles.missing_tiles == 1
    box = pv.Box.parse(values.stages["render"]["box"])
    assert len(pv.Grid(box, tuple(values.stages["segment"]["block"]))) == 4


def test_it_is_not_written_over_something_else(tmp_path):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "thesis.txt").write_text("mine")
    with pytest.raises(AlreadyExists, match="--overwrite"):
        prepare(tmp_path / "demo", DemoSettings())
    ended = CliRunner().invoke(app, [str(tmp_path / "demo")])
    assert ended.exit_code == 2
    assert (tmp_path / "demo" / "thesis.txt").exists()


def test_the_shipped_model_is_small_and_says_where_it_comes_from():
    model = load_model(MODEL)
    assert MODEL.stat().st_size < 3_000_000
    assert model.spec.provenance


@pytest.mark.slow
def test_from_nothing_to_scores(tmp_path):
    ended = CliRunner().invoke(app, [str(tmp_path / "demo"), "--json"])
    assert ended.exit_code == 0, ended.output
    figures = json.loads(ended.stdout)
    scores = json.loads((tmp_path / "demo/scores/scores.json").read_text())
    assert figures["scores"] == summary(scores)
    assert scores["adjacent_px"]["mean"] < 2
    assert scores["neurons"]["raw"]["adapted_rand_error"] < 0.5
    project = load(tmp_path / "demo")
    assert all(project.state(s.name).state == "done" for s in project.steps)
    again = json.loads(CliRunner().invoke(app, [str(tmp_path / "demo"), "--json"]).stdout)
    assert all(line.startswith("kept") for line in again["stages"].values())
