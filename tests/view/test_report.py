"""The report of a project made by hand: it stands alone, and its numbers are those of the files."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import petavox as pv
from petavox.blocks.ledger import Ledger, Row
from petavox.cli.app import app
from petavox.project import load
from petavox.project.records import StepState, write
from petavox.view import report
from petavox.view.report import effort
from petavox.view.report.reading import Results
from petavox.volume import opening

from . import projects

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser would see: links, sources, text; and whether tags close."""

    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.open, self.text, self.ids = [], [], [], [], []
        self.feed(text)
        assert self.open == [], "tags are left open"

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "href" in given:
            self.links.append(given["href"])
        if "src" in given:
            self.images.append(given["src"])
        if "id" in given:
            self.ids.append(given["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", " ".join(self.text))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project with everything but alignment."""
    place = projects.project(tmp_path_factory.mktemp("report") / "p")
    scores = {
        "objects": {"raw": {"vi": 0.8976, "vi_split": 0.625}, "conventions": {"raw.vi": "bits"}},
        "synapses": {"f1": 0.4375},
    }
    (place / "scores").mkdir()
    (place / "scores" / "scores.json").write_text(json.dumps(scores))
    (place / "scores" / "petavox.json").write_text(json.dumps({"state": "complete"}))
    text = (place / "petavox.yaml").read_text() + "truth: {labels: neurons.zarr}\n"
    (place / "petavox.yaml").write_text(text.replace("by hand", "by <hand> & eye"))
    projects.done(place, "score", {"scores": "scores"})
    write(
        place / "run" / "steps" / "segment.json",
        StepState("segment", "failed", error="the disk <is> full", started=1e9, seconds=3.25),
    )
    with Ledger(place / "run" / "ledger.db") as ledger:
        grid = [[-3, -16, 7], [5, 14, 47], [8, 15, 20], [0, 0, 0]]
        ledger.begin("segment/segment-blocks", key="k", parts={"grid": grid}, total=4)
        for number in range(3):
            ledger.record("segment/segment-blocks", Row(number, "done", seconds=1.5 + number))
        ledger.record("segment/segment-blocks", Row(3, "failed", error="the disk <is> full"))
        ledger.run_finished(
            "segment/segment-blocks", engine="inline", workers=1, seconds=3, done=3, kept=0,
            failed=1,
        )  # fmt: skip
    return place


@pytest.fixture(scope="module")
def page(folder):
    figures = report.write(load(folder))
    assert figures["not_readable"] == []
    text = Path(figures["report"]).read_text()
    assert figures["bytes"] == len(text.encode()) < 10_000_000
    return Page(text)


def test_it_needs_nothing_but_itself(page, folder):
    assert page.images
    assert all(src.startswith("data:image/png;base64,") for src in page.images)
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        elif "*" not in link:
            assert not link.startswith(("http", "/", "file"))
            assert (folder / link).exists(), link
    text = (folder / "report.html").read_text()
    assert "<script" not in text
    assert not re.search(r"url\(|@import|<link", text)
    assert str(folder) not in text


def test_it_shows_each_stage(page):
    for chapter in ("image", "segmentation", "neurons", "synapses", "scores", "work", "provenance"):
        assert chapter in page.ids


def test_numbers_are_those_of_the_files_with_their_place(page):
    words = page.words
    for value, source in (
        ("raw 0.8976 0.625", "scores/scores.json · objects.raw"),
        ("0.4375", "scores/scores.json · synapses.f1"),
        ("9,600", "image.zarr/zarr.json · shape"),
        ("40 × 10 × 10 nm", "image.zarr/zarr.json · scale"),
        ("2", "synapses/synapses.parquet · rows"),
    ):
        assert value in words
        assert source in words
    # two partners at one place, nobody after them
    assert "Synapses 1 synapses/synapses.parquet · distinct places" in words
    assert "postsynaptic object 2 synapses/synapses.parquet · rows, post = 0" in words
    # 6 x 14 x 16 voxels of 4000 nm3; a mesh through the middles of its faces cuts edges off
    volume = re.search(r"9007199254740993: ([\d.]+) µm³", words)
    assert float(volume[1]) == pytest.approx(6 * 15 * 16 * 4e-6, rel=0.05)


def test_what_is_missing_is_said(page):
    words = page.words
    assert "segment failed the disk <is> full" in words
    assert "stitch left out there is no tiles" in words
    assert "mesh" in words
    assert "by <hand> & eye" in words


def test_blocks_and_their_trouble_are_shown(page):
    assert "segment/segment-blocks" in page.words
    assert "segment/segment-blocks 3 failed the disk <is> full" in page.words


def test_another_number_in_a_file_is_another_number_in_the_report(folder):
    file = folder / "run" / "steps" / "reconcile.json"
    before = file.read_text()
    said = json.loads(before)
    said["figures"]["objects"] = 4711
    file.write_text(json.dumps(said))
    text, _, _ = report.build(load(folder))
    file.write_text(before)
    assert "4,711" in text


@pytest.mark.parametrize(
    ("workers", "each", "of_all"), [(4, "4 40.0 s", "50.0 s"), (0, "– –", "–")]
)
def test_time_of_workers_is_told_where_their_number_is_known(tmp_path, workers, each, of_all):
    """Two steps of 10 s: one of workers, one of the driver alone."""
    (tmp_path / "petavox.yaml").write_text("name: new\ninput: {image: nowhere.zarr}\n")
    for step, count in (("segment", workers), ("reconcile", 1)):
        said = StepState(step, "done", seconds=10.0, started=1e9, finished=1e9, workers=count)
        write(tmp_path / "run" / "steps" / f"{step}.json", said)
    words = Page("".join(effort.work(Results(load(tmp_path))).parts)).words
    assert f"segment done 10.0 s {each} –" in words
    assert "reconcile done 10.0 s 1 10.0 s –" in words
    assert f"all 20.0 s {of_all}" in words


def test_a_project_that_was_not_begun_has_a_report(tmp_path):
    (tmp_path / "petavox.yaml").write_text("name: new\ninput: {image: nowhere.zarr}\n")
    got = CliRunner().invoke(app, ["report", str(tmp_path), "--json"])
    assert got.exit_code == 0, got.stderr
    figures = json.loads(got.stdout)
    assert figures["pictures"] == 0
    assert any("nowhere.zarr" in t for t in figures["not_readable"])
    page = Page((tmp_path / "report.html").read_text())
    assert "0 of" in page.words
    assert "not run yet" in page.words
    assert "nowhere.zarr" in page.words


def test_an_image_that_does_not_say_its_voxel_size_is_shown_at_that_of_the_project(tmp_path):
    text, _, trouble = report.build(load(projects.unsized(tmp_path / "p")))
    assert trouble == []
    page = Page(text)
    assert page.images
    assert "40 x 10 x 10" in page.words.replace("×", "x")


@pytest.mark.parametrize("gap", [True, False], ids=["with a gap", "filled"])
def test_sizes_counted_in_the_volume_are_those_of_all_objects(tmp_path, gap):
    (tmp_path / "petavox.yaml").write_text("name: filled\ninput: {image: nowhere.zarr}\n")
    values = np.ones((4, 4, 8), np.uint64)
    values[..., 4:6], values[..., 6:] = 2, 0 if gap else 3
    labels = pv.create(
        tmp_path / "objects.zarr", box=pv.Box((0, 0, 0), (4, 4, 8)), voxel_size=(8, 8, 8),
        dtype="uint64", kind="labels",
    )  # fmt: skip
    labels.write(labels.box, values)
    opening.finish(labels, {})
    projects.done(tmp_path, "reconcile", {"objects": "objects.zarr"}, objects=3)
    text, _, _ = report.build(load(tmp_path))
    bars = re.findall(r"<title>(\d+): [^<]*</title>", text)
    assert sum(map(int, bars)) == (2 if gap else 3)


def test_a_damaged_file_costs_its_own_part_only(tmp_path):
    place = projects.project(tmp_path / "p")
    (place / "meshes" / "meshes.parquet").write_text("no table")
    (place / "synapses" / "synapses.parquet").write_text("no table")
    text, chapters, trouble = report.build(load(place))
    assert any("meshes.parquet" in t for t in trouble)
    assert "segmentation" in {c.anchor for c in chapters}
    words = Page(text).words
    assert "meshes/meshes.parquet cannot be read" in words
    assert "synapses.parquet is no table of synapses" in words


def test_the_training_curve_beside_a_model_is_drawn(tmp_path):
    from petavox.ffn.shipped import MODEL

    place = projects.project(tmp_path / "p", meshed=False)
    (place / "training").mkdir()
    (place / "training" / "best.safetensors").write_bytes(MODEL.read_bytes())
    curve = [{"step": n, "loss": 1 / n} for n in range(1, 9)]
    curve.append({"step": 8, "validation_error": 0.25, "validation_other": 3})
    text = "".join(json.dumps(x) + "\n" for x in curve)
    (place / "training" / "curve.jsonl").write_text(text + '{"step": 9, "lo')
    with open(place / "petavox.yaml", "a") as f:
        f.write("models: {segmentation: training/best.safetensors}\n")
    projects.done(place, "segment", {})
    text, _, trouble = report.build(load(place))
    assert trouble == []
    words = Page(text).words
    assert "Loss over 8 steps. training/curve.jsonl · loss, step" in words
    assert "training/best.safetensors · header: spec.fov" in words


BAD = {
    "no project": (["nowhere"], "petavox init"),
    "no html": (["P", "--out", "report.pdf"], ".html"),
    "no folder": (["P", "--out", "no/where.html"], "no folder"),
    "box": (["P", "--subset", "0:1"], "0:1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name, tmp_path, monkeypatch):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "petavox.yaml").write_text("name: new\ninput: {image: a.zarr}\n")
    monkeypatch.chdir(tmp_path)
    words, expected = BAD[name]
    got = CliRunner().invoke(app, ["report", *("p" if w == "P" else w for w in words)])
    assert got.exit_code == 2
    assert expected in got.stderr
    assert not list(tmp_path.rglob("*.html"))
