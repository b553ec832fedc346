"""Edits by hand: what they do to the graph and to voxels, undone and applied; what `why` says."""

from __future__ import annotations

import functools
import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from typer.testing import CliRunner

from petavox import volume
from petavox.blocks import Ledger
from petavox.cli.app import app
from petavox.errors import BadInput, NotComplete
from petavox.stages import edit, tables
from petavox.stages.agglomerated import Agglomerated
from petavox.stages.origins import origins
from petavox.stages.why import why
from petavox.volume import state
from tests.stages.agglomerated_tissue import agglomerated, read, slabs, stored
from tests.stages.changed_code import requires_again


@pytest.fixture
def out(tmp_path):
    return agglomerated(tmp_path)


def applied(out, name="new"):
    new = out.with_name(name)
    with Ledger(out.with_name(f"{name}.run") / "ledger.db") as ledger:
        figures = edit.apply(out, new, ledger=ledger, block=(8, 8, 8), quiet=True)
    return figures, read(new)


def test_without_edits_the_volume_is_what_the_rule_made(out):
    assert read(out) == [1, 1, 1, 4, 4, 6]
    assert applied(out)[1] == [1, 1, 1, 4, 4, 6]


def test_a_merge_joins_two_objects(out):
    assert edit.merge(out, "5", "6")["into"] == 4
    figures, row = applied(out)
    assert row == [1, 1, 1, 4, 4, 4]
    assert (figures["objects_before"], figures["objects"], figures["edits"]) == (3, 2, 1)


def test_objects_that_were_no_candidates_can_be_merged(out):
    edit.merge(out, "1", "6")
    assert applied(out)[1] == [1, 1, 1, 4, 4, 1]
    edges, by_hand = Agglomerated.open(out).edited()
    assert by_hand.tolist() == [False] * 5 + [True]
    assert (edges["a"][-1], edges["b"][-1], edges["x"][-1]) == (1, 6, -1)


def test_a_split_cuts_the_weakest_pair(out):
    figures = edit.split(out, ["1"], ["3"])
    assert (figures["cut"], figures["odds_cut"]) == ("2 - 3", 1.2)
    assert applied(out)[1] == [1, 1, 3, 4, 4, 6]


def test_objects_are_named_by_voxels_too(out):
    edit.split(out, ["-2,0,5"], ["1,3,9"])
    assert applied(out)[1] == [1, 1, 3, 4, 4, 6]


def test_undo_takes_back_the_last_edit_and_the_log_keeps_all(out):
    edit.merge(out, "5", "6")
    edit.split(out, ["1"], ["3"])
    assert edit.undo(out)["action"] == "split"
    assert applied(out)[1] == [1, 1, 1, 4, 4, 4]
    assert edit.undo(out)["action"] == "merge"
    edit.merge(out, "3", "4")
    assert applied(out, "again")[1] == [1, 1, 1, 1, 1, 6]
    assert [(e["action"], e["undone"] is None, e["pairs"]) for e in edit.log(out)] == [
        ("merge", False, 1),
        ("split", False, 1),
        ("merge", True, 1),
    ]
    edit.undo(out)
    with pytest.raises(BadInput, match="no edit"):
        edit.undo(out)


def test_a_merge_by_hand_is_cut_last(out):
    edit.merge(out, "3", "4")
    edit.split(out, ["2"], ["5"])
    # 2-3 has odds 1.2, 4-5 2, and 3-4 what a person gave it
    assert applied(out)[1] == [1, 1, 3, 3, 3, 6]


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda o: edit.merge(o, "1", "3"), "one object already"),
        (lambda o: edit.merge(o, "1", "99"), "no object"),
        (lambda o: edit.merge(o, "1", "-2,0,99"), "outside"),
        (lambda o: edit.merge(o, "1", "one"), "neither an id nor a voxel"),
        (lambda o: edit.split(o, ["1"], ["6"]), "nothing to split"),
        (lambda o: edit.split(o, ["1"], ["-2,0,0"]), "one flood made"),
    ],
)
def test_edits_that_mean_nothing_are_refused_and_not_logged(out, call, match):
    with pytest.raises(BadInput, match=match):
        call(out)
    assert edit.log(out) == []


def test_a_volume_without_graph_and_damaged_edits_are_refused(out, tmp_path):
    with pytest.raises(BadInput, match="no agglomeration graph"):
        edit.merge(tmp_path / "labels", "1", "2")
    out.with_name("out.edits.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(BadInput, match="cannot be used"):
        edit.merge(out, "5", "6")
    out.with_name("out.graph").joinpath("petavox.json").write_text('{"state": "writing"}')
    with pytest.raises(NotComplete):
        edit.log(out)


def test_why_tells_members_pairs_seeds_and_edits(out):
    edit.merge(out, "3", "4")
    said = why(out, 5)
    assert said["object"] == 1
    assert said["voxels"] == 5 * 64
    assert said["volume_um3"] == pytest.approx(5 * 64 * 1e-6)
    assert list(said["members"]) == ["1", "2", "3", "4", "5"]
    assert said["members"]["3"] == {"voxels": 64, "seed": [0, 2, 10], "fovs": 30}
    assert list(said["joined_by"]) == ["1 - 2", "2 - 3", "3 - 4", "4 - 5"]
    assert said["joined_by"]["3 - 4"] == {"decision": "accepted", "by": "edit 1"}
    assert said["joined_by"]["2 - 3"]["odds"] == 1.2
    assert said["joined_by"]["2 - 3"]["at"] == "0,0,7"
    assert list(said["kept_apart_from"]) == ["5 - 6"]
    with pytest.raises(BadInput, match="no object 77"):
        why(out, 77)


def test_why_finds_the_seeds_of_blocks(tmp_path):
    from petavox.segment.links import pack
    from petavox.stages.relabel import write_lookup

    one, other = (int(pack(b, np.array([n]))[0]) for b, n in ((0, 2), (3, 1)))
    (tmp_path / "objects").mkdir()
    state.finish(tmp_path / "objects", {"key": "of these blocks"})
    tables.create(tmp_path / "objects.origins")
    write_lookup(
        tmp_path / "labels.lookup", [(np.array([other], np.uint64), np.array([one], np.uint64))]
    )
    for block, n in ((0, 2), (3, 1)):
        locals_ = np.array([1, 2], np.uint32)
        columns = {f"seed_{k}": locals_.astype(np.int64) + block for k in "zyx"}
        columns |= {"local": locals_, "fovs": np.array([5, 7]) * n}
        tables.write(tables.part(tmp_path / "objects.origins", block), columns)
    made = {"objects": {"path": "objects", "key": "of these blocks"}}
    state.finish(tmp_path / "labels.lookup", made)
    (tmp_path / "labels").mkdir()
    found = origins(str(tmp_path / "labels"), np.array([one], np.uint64))
    assert found[one] == {
        "seed": "2,2,2 (block 0); 4,4,4 (block 3)",
        "fovs": 14 + 5,
        "objects_of_blocks": 2,
    }
    # other blocks lie there now: their seeds made nothing of this
    state.finish(tmp_path / "objects", {"key": "of others"})
    found = origins(str(tmp_path / "labels"), np.array([one], np.uint64))
    assert found[one]["seed"].endswith("objects was segmented again since")


def test_why_finds_the_blocks_of_a_run_by_whatever_name(tmp_path):
    from petavox.stages.blockwise_segment import BlockwiseSettings, segment_blocks
    from petavox.stages.reconcile import reconcile

    stored(tmp_path / "image", slabs(), kind="image")
    settings = BlockwiseSettings(block=(8, 8, 8), context=(2, 2, 2), method="components")
    with Ledger(tmp_path / "run" / "ledger.db") as ledger:
        how = {"ledger": ledger, "quiet": True}
        segment_blocks(tmp_path / "image", tmp_path / "any.blocks", settings=settings, **how)
        reconcile(tmp_path / "any.blocks", tmp_path / "other.zarr", **how)
    ids = np.unique(volume.open(tmp_path / "other.zarr").read())
    found = origins(str(tmp_path / "other.zarr"), ids[ids > 0])
    # slabs 2 to 5 lie in the context of a second block too
    assert [f["objects_of_blocks"] for f in found.values()] == [1, 2, 2, 2, 2, 1]
    # an earlier version did not say in the lookup where the blocks are
    said = state.read(tmp_path / "other.zarr.lookup")["provenance"]
    del said["objects"]
    state.finish(tmp_path / "other.zarr.lookup", said)
    assert origins(str(tmp_path / "other.zarr"), ids[ids > 0]) == found
    blocks = state.read(tmp_path / "any.blocks")["provenance"]
    state.finish(tmp_path / "any.blocks", blocks | {"key": "of others"})
    assert origins(str(tmp_path / "other.zarr"), ids[ids > 0]) == {}


@pytest.mark.parametrize("number", [-1, 7, 1 << 63, 1 << 64])
def test_ids_that_no_object_can_have_are_refused_in_a_sentence(out, number):
    with pytest.raises(BadInput, match=f"no object {number} in"):
        why(out, number)
    with pytest.raises(BadInput, match=r"is no object of|neither an id nor a voxel"):
        edit.merge(out, str(number), "1")
    with pytest.raises(BadInput, match="neither an id nor a voxel"):
        edit.merge(out, "²", "1")


def test_a_file_of_edits_that_was_begun_and_not_written_holds_no_edits(out):
    """Its maker was stopped after SQLite made the file, and before the tables were there."""
    out.with_name("out.edits.sqlite").touch()
    assert edit.log(out) == []
    assert why(out, 1)["voxels"] == 3 * 64
    assert edit.merge(out, "5", "6")["edit"] == 1


def test_edits_wait_for_one_another_and_are_not_called_damaged(out, monkeypatch):
    edit.merge(out, "5", "6")
    impatient = functools.partial(sqlite3.connect, timeout=0.01)
    monkeypatch.setattr(edit.sqlite3, "connect", impatient)
    with closing(sqlite3.Connection(out.with_name("out.edits.sqlite"))) as other:
        other.execute("begin immediate")
        with pytest.raises(BadInput, match=r"another process is writing into .*; try again"):
            edit.merge(out, "3", "4")
    assert len(edit.log(out)) == 1


@pytest.mark.parametrize(
    "module",
    ["stages.edit", "stages.agglomerated", "stages.relabel", "segment.unionfind"],
)
def test_other_code_applies_the_edits_again(out, monkeypatch, module):
    edit.merge(out, "5", "6")
    run = functools.partial(applied, out)
    requires_again(monkeypatch, f"petavox.{module}", edit, "write_lookup", run)


def test_the_commands(out):
    def run(*words):
        done = CliRunner().invoke(app, [*map(str, words), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout.strip().splitlines()[-1])

    assert run("edit", "merge", out, "5", "6")["edit"] == 1
    assert run("edit", "split", out, "1+2", "3")["pairs_cut"] == 1
    assert run("edit", "log", out)["2"]["action"] == "split"
    new = out.with_name("new")
    assert run("edit", "apply", out, new, "--block", 8, 8, 8)["objects"] == 3
    assert read(new) == [1, 1, 3, 4, 4, 4]
    assert run("edit", "undo", out)["undone"] == 2
    assert run("why", out, "2")["object"] == 1
    assert CliRunner().invoke(app, ["why", str(out), "77"]).exit_code == 2


def test_edits_of_other_labels_are_refused_but_shown(out):
    """The labels are made anew, and every object has the next id now."""
    edit.merge(out, "3", "4")
    graph = out.with_name("out.graph")
    for name, ids in (("objects", ("id", "final")), ("edges", ("a", "b"))):
        columns = tables.read(graph / f"{name}.parquet")
        moved = {k: columns[k] + np.uint64(1) for k in ids}
        tables.write(graph / f"{name}.parquet", columns | moved)
    for use in (
        lambda: Agglomerated.open(out).edited(),
        lambda: edit.merge(out, "4", "5"),
        lambda: edit.undo(out),
    ):
        with pytest.raises(BadInput, match="made on other labels"):
            use()
    assert [e["asked"] for e in edit.log(out)] == ['{"a": 3, "b": 4}']


def test_edits_hold_on_with_another_rule_over_the_same_labels(out):
    edit.merge(out, "5", "6")
    graph = out.with_name("out.graph")
    columns = tables.read(graph / "edges.parquet")
    tables.write(graph / "edges.parquet", columns | {"odds": columns["odds"] * 2})
    assert Agglomerated.open(out).edited()[1].tolist() == [False] * 4 + [True]
