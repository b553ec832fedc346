"""A connectome on disk: what is kept, repeated and recorded when it is updated."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from petavox.errors import BadInput, NotComplete
from petavox.neuron import exports, plots, tables
from petavox.settings import parse
from petavox.space import Box
from petavox.stages import connectome as stage
from petavox.stages.asking import ask
from petavox.volume.opening import create, finish


@pytest.fixture
def wiring(tmp_path):
    """A connectome of the objects 1, 2, 3, each a voxel wide, in which 1 is before 2 and 3."""
    values = np.broadcast_to(np.array([1, 2, 3], np.uint64), (4, 4, 3))
    made = create(
        tmp_path / "labels", box=Box.of_shape(values.shape), voxel_size=(40, 8, 8),
        dtype=np.uint64, kind="labels", chunk=(4, 4, 4), shard=(4, 4, 4),
    )  # fmt: skip
    made.write(made.box, values)
    finish(made, {})
    rows = [
        dict(id=1, z_nm=1.0, y_nm=1.0, x_nm=8.0, pre=1, post=p, size=1.0, score=1.0) for p in (2, 3)
    ]
    pq.write_table(pa.Table.from_pylist(rows, tables.SYNAPSES), tmp_path / "synapses.parquet")
    settings = stage.ConnectomeSettings(soma_radius_nm=77, block=(2, 2, 2), plots=True)
    # pictures take long, and are not what is asked here
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "pictures", lambda *tables: {"matrix.png": b"of the run"})
        stage.run(str(tmp_path / "labels"), tmp_path / "synapses.parquet", tmp_path / "w", settings)
    (tmp_path / "edits.csv").write_text("id,neuron\n3,2\n")
    return tmp_path / "w"


def record(out) -> dict:
    return json.loads((out / "petavox.json").read_text())["provenance"]


def test_an_update_that_was_stopped_can_be_repeated(wiring, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(exports, "sonata", lambda *tables: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            stage.update(wiring, wiring.parent / "edits.csv")
    with pytest.raises(NotComplete):
        ask(wiring, "pre=1")
    stage.update(wiring, wiring.parent / "edits.csv")
    assert ask(wiring, "pre=1").to_pylist() == [dict(pre=1, post=2, count=2, total_size=2.0)]
    assert record(wiring)["settings"]["soma_radius_nm"] == 77


def test_an_update_keeps_what_the_connectome_was_made_from(wiring):
    stage.update(wiring, wiring.parent / "edits.csv")
    said = record(wiring)
    assert said["settings"]["soma_radius_nm"] == 77
    assert said["settings"]["block"] == [2, 2, 2]
    assert said["settings"]["plots"] is False
    assert said["inputs"]["labels"].endswith("labels")
    assert said["inputs"]["mapping"].endswith("edits.csv")


def test_pictures_of_an_earlier_state_do_not_stay(wiring):
    assert (wiring / "plots" / "matrix.png").read_bytes() == b"of the run"
    stage.update(wiring, wiring.parent / "edits.csv")
    assert not (wiring / "plots").exists()


def test_an_update_that_is_refused_leaves_the_connectome_as_it_was(wiring):
    (wiring.parent / "edits.csv").write_text("id,neuron\n3,2\n3,1\n")
    with pytest.raises(BadInput, match="twice"):
        stage.update(wiring, wiring.parent / "edits.csv")
    assert ask(wiring, "pre=1").num_rows == 2
    assert (wiring / "plots").exists()


def test_a_base_that_was_not_written_to_its_end_is_told(wiring):
    file = wiring / "base" / "synapses.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(BadInput, match="is damaged"):
        stage.update(wiring, wiring.parent / "edits.csv")


def test_what_a_connectome_cannot_do_is_no_setting():
    """`only` is of meshes and skeletons; a connectome took it and counted all objects."""
    with pytest.raises(BadInput, match="unknown key 'only'"):
        parse(stage.ConnectomeSettings, {"only": [1]}, "the settings")
