"""status, clean, plan, doctor, run: what they say of a project."""

from __future__ import annotations

import json
import shutil
import sqlite3
import time

import pytest
from typer.testing import CliRunner

from petavox.blocks import sites
from petavox.blocks.engines import InlineEngine
from petavox.blocks.ledger import Row
from petavox.cli import clean, doctor, plan, run, status
from petavox.errors import WorkFailed
from petavox.project import checks, driver, load, records
from petavox.project.ledger import StepLedger
from petavox.project.plan import Choice
from tests.project import small


def call(command, *words, given=None):
    return CliRunner().invoke(command.app, [str(w) for w in words], input=given)


def said(command, *words):
    ended = call(command, *words, "--json")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


@pytest.fixture
def copy(done, tmp_path):
    shutil.copytree(done[0].folder, tmp_path / "p")
    return load(tmp_path / "p")


def test_run_says_what_it_kept_and_where_to_look(copy):
    figures = said(run, copy.folder)
    assert all(v.startswith("kept") for v in figures["stages"].values())
    assert figures["look_at_it"] == f"petavox view {copy.folder}"
    assert "look_at_it" not in said(run, copy.folder, "--dry-run")


def test_status_of_a_finished_project(copy):
    figures = said(status, copy.folder)
    assert list(figures) == [s.name for s in copy.steps]
    assert {f["state"] for f in figures.values()} == {"done"}
    assert figures["segment"]["blocks"] == 2
    assert said(status, copy.file) == figures


def test_status_shows_the_first_errors_of_blocks(tissue, tmp_path, monkeypatch):
    from petavox.stages import block_floods

    project = small.project(tmp_path / "p", small.described(tissue))
    honest, calls = block_floods.components, []

    def broken(*args):
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("a bit has fallen over")
        return honest(*args)

    monkeypatch.setattr(block_floods, "components", broken)
    with pytest.raises(WorkFailed, match="a bit has fallen over"):
        driver.run(project)
    figures = said(status, project.folder)
    assert figures["segment"]["state"] == "failed"
    assert figures["segment"]["blocks"] == "1 of 2"
    trouble = figures["segment"]["trouble"]["segment-blocks block 1"]
    assert "ValueError: a bit has fallen over" in trouble
    assert "Traceback" in trouble
    assert figures["reconcile"] == {"state": "to do"}


def test_a_run_takes_a_limit_for_its_blocks_and_tries_quarantined_ones_again(
    tissue, tmp_path, monkeypatch
):
    from petavox.stages import block_floods

    project = small.project(tmp_path / "p", small.described(tissue))
    honest = block_floods.components

    def hanging(*_):
        time.sleep(60)

    monkeypatch.setattr(block_floods, "components", hanging)
    with pytest.raises(WorkFailed, match=r"longer than its limit of 0\.2 s"):
        driver.run(project, until="segment", block_timeout=0.2)
    monkeypatch.setattr(block_floods, "components", honest)
    with StepLedger(project.ledger_file, "segment") as ledger:
        for number in range(2):
            ledger.record("segment-blocks", Row(number, "quarantined", error="WorkerLost"))
    with pytest.raises(WorkFailed, match="2 quarantined"):
        driver.run(project, until="segment")
    assert "segment" in driver.run(project, until="segment", retry_quarantined=True)
    assert project.state("segment").state == "done"


@pytest.mark.parametrize(("asks", "workers"), [(True, 7), (False, 1)])
def test_workers_are_recorded_of_a_step_that_asked_for_them(
    tissue, tmp_path, monkeypatch, asks, workers
):
    project = small.project(tmp_path / "p", small.described(tissue))
    step = project.step("segment")
    monkeypatch.setattr(
        type(step), "call", lambda _: lambda call: {"engine": asks and call.open_engine().name}
    )
    driver._one(project, Choice(step, "make", "not made yet", "k", {}), InlineEngine, 7)
    assert project.state("segment").workers == workers


def test_how_many_workers_a_cluster_gives_is_not_known(tissue, tmp_path):
    project = small.project(tmp_path / "p", small.described(tissue))
    assert checks.crew(project, None, "polaris")["count"] == 0
    assert checks.crew(project, None, "laptop")["count"] == sites.load("laptop").workers
    assert checks.crew(project, 3, None)["count"] == 3


def test_status_of_a_run_under_way_gives_rate_and_time_left(copy):
    step = copy.step("segment")
    known = copy.state("segment")
    records.write(
        copy.record_file(step),
        records.StepState("segment", "running", key=known.key, started=known.started),
    )
    with sqlite3.connect(copy.ledger_file) as db:
        db.execute("DELETE FROM blocks WHERE task = 'segment/segment-blocks' AND number = 1")
        db.execute("UPDATE tasks SET complete = 0 WHERE name = 'segment/segment-blocks'")
    assert said(status, copy.folder)["segment"]["state"] == "stopped; run again to go on"
    with driver.locked(copy):
        figures = said(status, copy.folder)["segment"]
    assert figures["state"] == "running"
    assert figures["blocks"] == "1 of 2"
    assert figures["seconds_left"] > 0


def test_clean_takes_a_stage_and_what_follows_and_nothing_else(copy, done):
    (copy.folder / "notes.txt").write_text("mine")
    figures = said(clean, "agglomerate", copy.folder, "--yes")
    assert figures["stages"] == ["agglomerate", "mesh", "skeletonize", "connectome", "score"]
    left = {p.name for p in copy.folder.iterdir()}
    assert {"objects.zarr", "objects.zarr.links", "notes.txt", "petavox.yaml"} <= left
    assert not any(
        name.startswith(("neurons", "mesh", "skel", "connect", "scores")) for name in left
    )
    assert said(clean, "mesh", copy.folder)["removed"].startswith("nothing")
    driver.run(load(copy.folder))
    assert small.made(copy) == done[1]


def test_clean_asks(copy):
    ended = call(clean, "mesh", copy.folder, given="n\n")
    assert ended.exit_code == 2
    assert (copy.folder / "meshes").exists()
    assert call(clean, "mesh", copy.folder, given="y\n").exit_code == 0
    assert not (copy.folder / "meshes").exists()


def test_plan_says_what_would_be_done_and_what_it_costs(copy, tissue, tmp_path):
    shutil.rmtree(copy.folder / "meshes")
    figures = said(plan, copy.folder, "--site", "laptop")
    assert figures["next_run"]["segment"].startswith("keep")
    assert figures["next_run"]["mesh"] == "again (meshes is gone)"
    assert "segment/segment-blocks" in str(figures["stages"])
    fresh = small.project(tmp_path / "fresh", small.described(tissue))
    assert "no block was measured" in said(plan, fresh.folder)["cost"]


def test_plan_projects_from_a_subset_what_was_not_run_as_a_whole(copy):
    own = copy.folder / "run" / "ledger.db"
    of_box = copy.folder / "run" / "subset" / "0-8_0-16_0-16" / "ledger.db"
    of_box.parent.mkdir(parents=True)
    shutil.copy(own, of_box)
    with sqlite3.connect(own) as db:
        db.execute("DELETE FROM blocks WHERE task LIKE 'segment/%'")
        db.execute("DELETE FROM tasks WHERE name LIKE 'segment/%'")
    figures = said(plan, copy.folder)
    assert {"segment/segment-blocks", "reconcile/relabel"} <= set(figures["stages"])
    hours = [row["node_hours"] for row in figures["stages"].values()]
    assert figures["node_hours"] == pytest.approx(sum(hours))
    own.unlink()
    assert "segment/segment-blocks" in said(plan, copy.folder, "--scan")


def test_plan_of_a_project_without_measured_blocks_still_says_what_would_be_done(copy):
    with sqlite3.connect(copy.folder / "run" / "ledger.db") as db:
        db.execute("DELETE FROM blocks")
    figures = said(plan, copy.file)
    assert figures["next_run"]["segment"].startswith("keep")
    assert "no block was measured" in figures["cost"]


def test_doctor_looks_at_the_machine_and_at_the_project(copy):
    figures = said(doctor, copy.folder)
    assert figures["machine"]["cores"] >= 1
    assert figures["versions"]["petavox"]
    assert "local" in figures["sites"]["laptop"]
    assert figures["project"].startswith("small: can run segment, reconcile")
    values = small.described(copy.folder, input={"image": "nowhere.zarr"})
    small.project(copy.folder, values)
    assert "cannot run:" in said(doctor, copy.folder)["project"]
