"""One command from data to a connectome: kept, gone on with, made again, and the same result."""

from __future__ import annotations

import json
import shutil

import pytest

from petavox.errors import BadInput, WorkFailed
from petavox.project import STEPS, driver, keys, load
from petavox.project.driver import run
from petavox.project.plan import plan
from petavox.settings import Settings
from tests.project import small

LATE = ["mesh", "skeletonize", "connectome", "score"]


def copied(done, tmp_path, **stages):
    """The finished project, moved elsewhere, with other settings of some stages."""
    project, made = done
    shutil.copytree(project.folder, tmp_path / "p")
    return changed(tmp_path / "p", **stages), made


def changed(folder, **stages):
    import yaml

    values = yaml.safe_load((folder / "petavox.yaml").read_text())
    for name, more in stages.items():
        given = values["stages"].get(name) or {}
        values["stages"][name] = {**given, **more} if isinstance(more, dict) else more
    return small.project(folder, values)


def worked(figures):
    """The steps that did work."""
    return [name for name, line in figures.items() if not line.startswith("kept")]


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_the_table_of_steps_names_what_there_is(step):
    assert callable(step.call())
    if not step.lacking():
        assert issubclass(step.settings_class, Settings)
        assert step.code in keys.modules(step.code)
        assert keys.source_digest(step.code) != "none"


def test_the_code_of_a_step_is_its_stage_and_the_science_below_it():
    found = keys.modules("petavox.stages.blockwise_segment")
    assert {"petavox.ffn.growth", "petavox.ffn.network", "petavox.stages.block_labels"} <= {*found}
    assert not any(m.startswith(("petavox.blocks", "petavox.align", "petavox.cli")) for m in found)


def test_every_step_is_done_and_recorded(done):
    project, made = done
    assert [s.name for s in project.steps] == ["segment", "reconcile", "agglomerate", *LATE]
    for step in project.steps:
        said = project.state(step.name)
        assert said.state == "done"
        assert said.key
        assert said.figures
        assert said.finished >= said.started
    assert project.find("neurons|objects") == str(project.folder / "neurons.zarr")
    assert project.find("sections") is None
    assert all(made.values())


def test_what_is_done_is_kept_also_after_the_project_was_moved(done, tmp_path):
    project, _ = copied(done, tmp_path)
    assert worked(run(project)) == []


def test_stage_by_stage_gives_the_same_as_one_command(done, tissue, tmp_path):
    project = small.project(tmp_path / "p", small.described(tissue))
    for step in project.steps:
        figures = run(project, only=step.name)
        assert list(figures) == [step.name]
    assert small.made(project) == done[1]


def test_until_stops_after_a_stage_and_only_needs_what_comes_before(tissue, tmp_path):
    project = small.project(tmp_path / "p", small.described(tissue))
    assert list(run(project, until="reconcile")) == ["segment", "reconcile"]
    assert not (project.folder / "neurons.zarr").exists()
    with pytest.raises(BadInput, match=r"agglomerate must make first.*--until mesh"):
        run(project, only="mesh")


def test_a_late_setting_changed_runs_that_stage_and_those_that_read_it(done, tmp_path):
    project, made = copied(done, tmp_path, skeletonize={"tick_nm": 30.0})
    figures = run(project)
    assert worked(figures) == ["skeletonize", "connectome"]
    assert "settings: tick_nm 0.0 -> 30.0" in figures["skeletonize"]
    assert "skeletons changed" in figures["connectome"]
    now = small.made(project)
    assert {k for k in made if made[k] != now[k]} <= {
        "skeletonize.skeletons",
        "connectome.connectome",
    }


def test_a_setting_of_the_flood_changed_runs_all_from_there(done, tmp_path):
    project, _ = copied(done, tmp_path, segment={"min_size": 400})
    figures = {c.step.name: (c.action, c.why) for c in plan(project)}
    assert {a for a, _ in figures.values()} == {"again"}
    assert figures["segment"][1] == "settings: min_size 300 -> 400"
    assert figures["reconcile"][1] == "blocks changed"


def test_settings_of_how_and_not_of_what_change_nothing(tiles, tmp_path):
    project = small.project(tmp_path / "p", small.described_tiles(tiles))
    keys = {c.step.name: c.key for c in plan(project)}
    project = changed(tmp_path / "p", stitch={"threads": 1, "memory_mb": 64})
    assert {c.step.name: c.key for c in plan(project)} == keys
    project = changed(tmp_path / "p", stitch={"coarse_px": 16})
    assert {c.step.name: c.key for c in plan(project)} != keys


def test_another_model_runs_what_floods_and_all_that_follows(done, tissue, tmp_path):
    from petavox.ffn.shipped import MODEL

    project, _ = copied(done, tmp_path)
    other = tmp_path / "other.safetensors"
    # one weight differs
    data = bytearray(MODEL.read_bytes())
    data[-1] ^= 1
    other.write_bytes(bytes(data))
    values = small.described(tissue, models={"segmentation": str(other)})
    project = small.project(project.folder, values)
    figures = {c.step.name: c.why for c in plan(project)}
    assert figures["segment"] == "model changed"
    assert figures["agglomerate"] == "objects changed; model changed"
    assert all(c.action == "again" for c in plan(project))


def test_code_that_changed_is_named_and_done_again_from_nothing(done, tmp_path, monkeypatch):
    project, made = copied(done, tmp_path)
    honest = keys.source_digest
    monkeypatch.setattr(
        keys, "source_digest", lambda m: "new" if m == "petavox.ffn.growth" else honest(m)
    )
    figures = run(project, until="reconcile")
    assert "code changed: ffn.growth" in figures["segment"]
    # the stage alone would have kept its blocks: growth is not among its own modules
    assert project.state("segment").figures["kept"] == 0
    assert small.made(load(project.folder))["segment.blocks"] == made["segment.blocks"]


def test_an_output_that_is_gone_or_not_ours_any_more_is_made_again(done, tmp_path):
    project, made = copied(done, tmp_path)
    shutil.rmtree(project.folder / "meshes")
    table = project.folder / "connectome" / "petavox.json"
    table.write_text(table.read_text().replace("complete", "complete "))
    figures = run(project)
    assert worked(figures) == ["mesh", "connectome"]
    assert "meshes is gone" in figures["mesh"]
    assert "was replaced by something else" in figures["connectome"]
    assert small.made(project) == made


def test_a_replaced_tile_runs_all_from_stitching_on(tiles, tmp_path):
    project = small.project(tmp_path / "p", small.described_tiles(tiles))
    run(project)
    assert worked(run(project)) == []
    before = small.made(project)
    one, two = tiles / "tiles/s0001/t0000.png", tiles / "tiles/s0003/t0000.png"
    one.write_bytes(two.read_bytes())
    figures = run(project)
    assert worked(figures) == ["stitch", "align", "render"]
    assert "tiles changed" in figures["stitch"]
    assert small.made(project) != before
    # the same bytes, written again later, are the same tile
    two.write_bytes(two.read_bytes())
    assert worked(run(project)) == []


def test_a_failed_step_says_so_and_the_next_run_goes_on(tissue, tmp_path, monkeypatch):
    from petavox.stages import reconcile

    project = small.project(tmp_path / "p", small.described(tissue))
    honest = reconcile.merge
    monkeypatch.setattr(reconcile, "merge", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(project)
    assert project.state("reconcile").state == "failed"
    assert "ZeroDivisionError" in project.state("reconcile").error
    monkeypatch.setattr(reconcile, "merge", honest)
    figures = run(project, until="reconcile")
    assert worked(figures) == ["reconcile"]
    assert "it failed the last time" in figures["reconcile"]


def test_losses_stop_a_run_until_the_project_says_to_go_on(tiles, tmp_path):
    # a tile whose header is whole and whose pixels are not
    broken = tiles / "tiles/s0001/t0001.png"
    broken.write_bytes(broken.read_bytes()[:-3000])
    values = small.described_tiles(tiles)
    project = small.project(tmp_path / "p", values)
    for _ in range(2):
        with pytest.raises(WorkFailed, match=r"1 of 8 tiles were left out.*go_on_with_losses"):
            run(project)
    assert project.state("stitch").state == "done"
    project = small.project(tmp_path / "p", values | {"go_on_with_losses": True})
    figures = run(project)
    assert figures["stitch"].startswith("kept")
    assert "LOST: 1 of 8 tiles" in figures["stitch"]
    assert worked(figures) == ["align", "render"]
    assert "left out" in project.state("stitch").warning


def test_a_dry_run_says_what_would_be_done_and_touches_nothing(done, tmp_path):
    project, _ = copied(done, tmp_path, mesh={"levels": 2})
    before = sorted(p.stat().st_mtime_ns for p in project.folder.rglob("*"))
    figures = run(project, dry_run=True)
    assert figures["mesh"] == "made again (settings: levels 4 -> 2)"
    assert worked(figures) == ["mesh"]
    assert sorted(p.stat().st_mtime_ns for p in project.folder.rglob("*")) == before


def test_a_subset_lies_beside_the_rest_and_is_the_same_as_that_box_alone(done, tissue, tmp_path):
    from petavox.space import Box

    box = Box((0, 0, 0), (24, 24, 48))
    project, made = copied(done, tmp_path)
    part = load(project.folder, subset=box)
    run(part, until="reconcile")
    assert small.made(load(project.folder))["reconcile.objects"] == made["reconcile.objects"]
    values = small.described(tissue)
    values["stages"]["segment"]["box"] = str(box)
    alone = small.project(tmp_path / "alone", values)
    run(alone, until="reconcile")
    assert small._content(part.outputs("reconcile")["objects"]) == small._content(
        alone.outputs("reconcile")["objects"]
    )


def test_two_runs_do_not_share_a_project(done, tmp_path):
    project, _ = copied(done, tmp_path)
    with (
        driver.locked(project),
        pytest.raises(BadInput, match="another petavox runs the project"),
    ):
        run(load(project.folder))
    assert not driver.is_running(project)


def test_tasks_of_one_name_are_kept_apart_in_the_one_ledger(done):
    from petavox.blocks.ledger import Ledger

    project, _ = done
    with Ledger(project.ledger_file, readonly=True) as ledger:
        names = {t["name"] for t in ledger.tasks()}
    assert {"reconcile/relabel", "agglomerate/relabel", "segment/segment-blocks"} <= names


def test_scores_of_a_run_are_those_of_the_score_command(done):
    import petavox as pv
    from petavox.stages import score

    project, _ = done
    said = json.loads((project.folder / "scores" / "scores.json").read_text())
    truth = pv.open(project.path(project.settings.truth.labels))
    own = score.tables(pv.open(project.folder / "neurons.zarr"), truth, quiet=True).report()
    assert said["neurons"]["raw"] == dict(own["raw"])
    assert said["neurons"]["fill"] == own["fill"]


def test_synapses_are_found_and_wired_where_there_is_a_model(done, tissue, tmp_path):
    project, made = copied(done, tmp_path)
    values = small.described(tissue, models={"synapses": "shipped"})
    values["input"] = {"image": values["input"]["image"]}
    values["truth"]["synapses"] = str(tissue / "synapses.csv")
    project = small.project(project.folder, values)
    figures = run(project)
    assert worked(figures) == ["synapses", "connectome", "score"]
    assert (project.folder / "synapses" / "synapses.parquet").is_file()
    scores = json.loads((project.folder / "scores" / "scores.json").read_text())
    assert {"objects", "neurons", "synapses", "edges"} <= set(scores)
    assert {k: v for k, v in small.made(project).items() if k in made} != {}
    assert worked(run(project)) == []
