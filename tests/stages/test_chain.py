"""Outputs of several stages, and the tables beside them, are refused before any work."""

from __future__ import annotations

import numpy as np
import pytest

from petavox import volume
from petavox.blocks import BlockTask, Costs, Ledger
from petavox.blocks.plan import require_memory
from petavox.errors import AlreadyExists, BadInput
from petavox.space import Box, Grid
from petavox.stages import edit
from petavox.stages.agglomerate import agglomerate
from petavox.stages.blockwise_segment import BlockwiseSettings, segment_blocks
from petavox.stages.consensus import consensus_of
from petavox.stages.consensus_stages import ConsensusSettings, WriteConsensus
from petavox.stages.mesh import MeshShards
from petavox.stages.pair_scores import ScorePairs
from petavox.stages.reconcile import ReconcileSettings, reconcile
from petavox.stages.relabel import Relabel
from petavox.stages.segment import segment
from petavox.volume.opening import create, finish
from tests.stages.agglomerated_tissue import agglomerated, read

BLOCK = (8, 8, 8)


def stored(path, value, dtype=np.uint64, kind="labels"):
    values = np.full((8, 8, 16), value, dtype)
    made = create(
        path, box=Box.of_shape(values.shape, (-4, 0, 0)), voxel_size=(40, 4, 4), dtype=dtype,
        kind=kind, chunk=BLOCK, shard=BLOCK,
    )  # fmt: skip
    made.write(made.box, values)
    finish(made, {})
    return path


@pytest.fixture
def here(tmp_path):
    for k in (1, 2):
        stored(tmp_path / f"labels{k}", k)
    stored(tmp_path / "image", 7, np.uint8, "image")
    return tmp_path


def made_of(here, name, out="out", **others):
    with Ledger(here / "run" / "ledger.db") as ledger:
        how = {"ledger": ledger, "quiet": True, **others}
        one, two, image = (str(here / n) for n in ("labels1", "labels2", "image"))
        if name == "reconcile":
            settings = ReconcileSettings(block=BLOCK)
            reconcile(one, here / out, settings=settings, **how)
        elif name == "consensus":
            settings = ConsensusSettings(block=BLOCK, min_size=1)
            consensus_of([one, two], here / out, settings=settings, **how)
        elif name == "agglomerate":
            agglomerate(one, image, here / out, model=here / "none.safetensors", **how)
        else:
            settings = BlockwiseSettings(block=BLOCK, context=(0, 0, 0), method="components")
            segment_blocks(image, here / out, settings=settings, **how)


BESIDE = {
    "reconcile": ("links", "lookup"),
    "consensus": ("parts", "ids"),
    "agglomerate": ("candidates", "pairs", "scores", "graph", "lookup"),
    "segment": ("origins",),
}
CASES = [(name, what) for name, beside in BESIDE.items() for what in beside]


@pytest.mark.parametrize(("name", "what"), CASES)
def test_a_folder_of_someone_else_beside_the_output_is_refused_before_any_work(here, name, what):
    note = here / f"out.{what}" / "note.txt"
    note.parent.mkdir()
    note.write_text("mine")
    before = sorted(here.glob("[!r]*/**"))
    for overwrite in (False, True):
        with pytest.raises(AlreadyExists, match=rf"out\.{what} is there already"):
            made_of(here, name, overwrite=overwrite)
    assert sorted(here.glob("[!r]*/**")) == before
    assert note.read_text() == "mine"


@pytest.mark.parametrize("name", BESIDE)
def test_an_output_that_is_there_already_is_refused_before_any_work(here, name):
    stored(here / "out", 9)
    with pytest.raises(AlreadyExists, match=r"out is there already"):
        made_of(here, name)
    assert [p.name for p in here.iterdir() if p.name.startswith("out.")] == []


@pytest.mark.parametrize("name", BESIDE)
def test_no_stage_writes_over_what_it_reads(here, name):
    what = "image" if name == "segment" else "labels1"
    with pytest.raises(BadInput, match="would overwrite"):
        made_of(here, name, what, overwrite=True)
    assert volume.open(here / what).read().any()


def test_a_flood_does_not_write_over_its_image(here):
    with pytest.raises(BadInput, match="would overwrite"):
        segment(here / "image", here / "image", here / "none.safetensors", overwrite=True)
    (here / "folder").mkdir()
    (here / "folder" / "note.txt").write_text("mine")
    with pytest.raises(BadInput, match="is a folder but not a volume"):
        segment(here / "image", here / "folder", here / "none.safetensors", overwrite=True)


COSTS = {"reconcile": Relabel, "consensus": WriteConsensus, "agglomerate": ScorePairs}


@pytest.mark.parametrize("name", COSTS)
def test_too_little_memory_for_a_later_stage_is_told_before_the_first(here, monkeypatch, name):
    monkeypatch.setattr(COSTS[name], "costs", lambda _: Costs(memory_bytes=1 << 60))
    monkeypatch.setattr(ScorePairs, "grid", lambda _: Grid(Box.of_shape(BLOCK), BLOCK))
    with pytest.raises(BadInput, match=f"task '{COSTS[name].name}' needs .* GiB a worker"):
        made_of(here, name)
    assert [p.name for p in here.iterdir() if p.name.startswith("out")] == []


def test_a_stage_that_is_finished_is_not_refused_for_memory(here, monkeypatch):
    made_of(here, "consensus")
    monkeypatch.setattr(WriteConsensus, "costs", lambda _: Costs(memory_bytes=1 << 60))
    made_of(here, "consensus")
    assert volume.open(here / "out").read().any()


def test_what_would_need_less_memory_is_named_of_each_stage():
    grid = Grid(Box.of_shape((1, 1, 1)), (1, 1, 1))
    said = {}
    for stage in (Relabel, MeshShards, ScorePairs):
        costs = Costs(memory_bytes=5 << 30)
        task = BlockTask("t", "m:f", grid, costs=costs, smaller=stage.smaller)
        with pytest.raises(BadInput) as e:
            require_memory(task, workers=2, available_bytes=6 << 30)
        said[stage] = str(e.value).partition("Use at most 1 workers, or ")[2]
    assert said[Relabel] == "smaller blocks."
    assert said[MeshShards].startswith("a smaller most_faces")
    assert said[ScorePairs].startswith("a smaller resegment.box_radius")


@pytest.mark.parametrize("name", ["labels", "out"])
def test_edits_are_not_applied_over_what_they_are_edits_of(tmp_path, name):
    out = agglomerated(tmp_path)
    before = read(tmp_path / name)
    with Ledger(tmp_path / "run" / "ledger.db") as ledger:
        for overwrite in (False, True):
            with pytest.raises(BadInput, match="would overwrite"):
                edit.apply(out, tmp_path / name, ledger=ledger, overwrite=overwrite, quiet=True)
    assert read(tmp_path / name) == before
    assert not (tmp_path / f"{name}.lookup").exists()
