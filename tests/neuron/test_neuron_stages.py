"""petavox mesh, skeletonize and connectome as commands, on a small volume."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from petavox.cli.app import app
from petavox.neuron import tables
from petavox.space import Box
from petavox.volume.opening import create, finish
from tests.neuron import precomputed

BIG = 2**36 + 3


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Ids BIG (a ball), 5 (a bar through two faces), 6 (one voxel); the box starts at -8."""
    values = np.zeros((24, 40, 40), np.uint64)
    z, y, x = np.mgrid[:24, :40, :40]
    values[((z - 12) * 2.5) ** 2 + (y - 20.0) ** 2 + (x - 20.0) ** 2 <= 15**2] = BIG
    values[2:6, 30:35, :] = 5
    values[22, 3, 3] = 6
    path = tmp_path_factory.mktemp("labels") / "labels.zarr"
    volume = create(
        path,
        box=Box.of_shape(values.shape, (-8, 100, 0)),
        voxel_size=(40, 16, 16),
        dtype="uint64",
        kind="labels",
        chunk=(8, 8, 8),
        shard=(8, 8, 8),
    )
    volume.write(volume.box, values)
    finish(volume, {})
    return path, values


def call(*arguments) -> dict:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def refused(*arguments) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code != 0
    return " ".join(result.output.split())


def test_meshes_are_closed_lie_in_place_and_do_not_depend_on_blocks(labels, tmp_path):
    path, _ = labels
    said = call("mesh", path, tmp_path / "a", "--block", 8, 16, 16, "--export", "ply")
    call("mesh", path, tmp_path / "b", "--block", 100, 100, 100)
    assert said["objects"] == 3
    assert said["watertight_share"] == 1.0
    assert (tmp_path / "a" / "0.shard").read_bytes() == (tmp_path / "b" / "0.shard").read_bytes()
    assert not (tmp_path / "a.work").exists()
    assert (tmp_path / "a" / "export" / f"{BIG}.ply").exists()
    rows = {r["id"]: r for r in pq.read_table(tmp_path / "a" / "meshes.parquet").to_pylist()}
    assert [rows[i]["touches_border"] for i in (5, 6, BIG)] == [True, False, False]
    assert rows[BIG]["euler"] == 2
    assert rows[BIG]["volume_nm3"] == pytest.approx(4 / 3 * np.pi * (15 * 16) ** 3, rel=0.08)
    v, _, _ = precomputed.mesh(tmp_path / "a", BIG)
    middle = (v.min(0) + v.max(0)) / 2
    # voxel 12, 20, 20 of the array is voxel 4, 120, 20 of space; its centre is half a voxel on
    assert middle == pytest.approx([20.5 * 16, 120.5 * 16, 4.5 * 40], abs=10)


def test_one_object_can_be_asked_for_and_results_are_not_overwritten_unasked(labels, tmp_path):
    path, _ = labels
    assert call("mesh", path, tmp_path / "m", "--only", BIG)["objects"] == 1
    assert "there already" in refused("mesh", path, tmp_path / "m")
    assert call("mesh", path, tmp_path / "m", "--overwrite", "--open-border")["objects"] == 3


@pytest.mark.parametrize("stage", ["mesh", "skeletonize"])
def test_an_old_result_is_there_until_the_new_one_can_be_made(labels, tmp_path, monkeypatch, stage):
    from petavox.blocks import runner

    path, _ = labels
    old = tmp_path / "old"
    old.mkdir()
    (old / "info").write_text("{}")
    with monkeypatch.context() as m:
        m.setattr(runner, "memory_available", lambda: 1 << 20)
        assert "GiB free" in refused(stage, path, old, "--overwrite")
    assert (old / "info").read_text() == "{}"
    assert not (tmp_path / "old.work").exists()


def test_what_is_read_is_not_taken_for_the_old_result(labels, tmp_path):
    path, _ = labels
    for out in (path, path.parent):
        assert "would overwrite" in refused("mesh", path, out, "--overwrite")
    synapses = tmp_path / "wiring" / "synapses.csv"
    synapses.parent.mkdir()
    (synapses.parent / "info").write_text("{}")
    row = dict.fromkeys(tables.SYNAPSES.names, 1)
    synapses.write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    said = refused("connectome", synapses.parent, "--labels", path, "--synapses", synapses,
                   "--overwrite")  # fmt: skip
    assert "would overwrite" in said
    assert synapses.exists()
    assert path.exists()


def test_a_stopped_run_goes_on_and_its_output_is_no_result(labels, tmp_path, monkeypatch):
    from petavox.stages import mesh as stage

    path, _ = labels
    with monkeypatch.context() as m:
        m.setattr(stage, "encoded", lambda *a, **k: 1 / 0)
        assert "division" in refused("mesh", path, tmp_path / "m", "--block", 12, 20, 20)
    assert json.loads((tmp_path / "m" / "petavox.json").read_text())["state"] == "writing"
    assert (tmp_path / "m.work").exists()
    assert call("mesh", path, tmp_path / "m", "--block", 12, 20, 20)["objects"] == 3
    assert not (tmp_path / "m.work").exists()


def test_what_came_to_lie_at_the_output_of_a_stopped_run_is_not_replaced_unasked(
    labels, tmp_path, monkeypatch
):
    from petavox.stages import fragment_index

    path, _ = labels
    with monkeypatch.context() as m:
        m.setattr(fragment_index, "make", lambda *a, **k: 1 / 0)
        refused("mesh", path, tmp_path / "m")
    assert (tmp_path / "m.work").exists()
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "info").write_text("of another program")
    assert "there already" in refused("mesh", path, tmp_path / "m")
    assert (tmp_path / "m" / "info").read_text() == "of another program"
    assert call("mesh", path, tmp_path / "m", "--overwrite")["objects"] == 3


def test_a_run_stopped_just_after_its_output_was_made_goes_on(labels, tmp_path, monkeypatch):
    from petavox.stages.objects import ShardStage

    path, _ = labels
    made = ShardStage.create

    def stopped(stage):
        made(stage)
        raise ZeroDivisionError

    with monkeypatch.context() as m:
        m.setattr(ShardStage, "create", stopped)
        refused("mesh", path, tmp_path / "m")
    assert (tmp_path / "m/.rows").exists()
    assert call("mesh", path, tmp_path / "m")["objects"] == 3


def test_ids_that_are_not_there_are_named(labels, tmp_path, caplog):
    path, _ = labels
    assert call("mesh", path, tmp_path / "m", "--only", 6, "--only", 2**63 + 9)["objects"] == 1
    assert f"only names 1 ids that the labels do not hold there: {2**63 + 9}" in caplog.text
    said = refused("mesh", path, tmp_path / "n", "--only", 2**64)
    assert f"only names id {2**64}, which no object can have" in said
    assert not (tmp_path / "n").exists()


@pytest.mark.parametrize("at", ["table", "finish"])
def test_a_run_stopped_after_its_table_makes_the_same_table_again(
    labels, tmp_path, monkeypatch, at
):
    from petavox.stages import mesh as stage
    from petavox.volume import state

    path, _ = labels
    call("mesh", path, tmp_path / "whole", "--block", 12, 20, 20)
    wanted = pq.read_table(tmp_path / "whole" / "meshes.parquet")
    finish = state.finish

    def stopped(folder, said):
        if str(folder) == str(tmp_path / "m"):
            raise KeyboardInterrupt
        finish(folder, said)

    with monkeypatch.context() as m:
        if at == "finish":
            m.setattr(state, "finish", stopped)
        else:
            m.setattr(stage.provenance, "write_json", lambda *a: 1 / 0)
        refused("mesh", path, tmp_path / "m", "--block", 12, 20, 20)
    assert json.loads((tmp_path / "m" / "petavox.json").read_text())["state"] == "writing"
    assert call("mesh", path, tmp_path / "m", "--block", 12, 20, 20)["objects"] == 3
    assert pq.read_table(tmp_path / "m" / "meshes.parquet").equals(wanted)
    assert not (tmp_path / "m" / ".rows").exists()


def test_a_table_is_not_made_of_the_rows_that_happen_to_be_left(labels, tmp_path, monkeypatch):
    from petavox.stages import mesh as stage

    path, _ = labels
    with monkeypatch.context() as m:
        m.setattr(stage.provenance, "write_json", lambda *a: 1 / 0)
        refused("mesh", path, tmp_path / "m")
    for file in (tmp_path / "m" / ".rows").iterdir():
        file.unlink()
    assert "lacks the rows of 1 of 1 shards" in refused("mesh", path, tmp_path / "m")


def test_an_empty_volume_gives_an_empty_folder_of_meshes(tmp_path):
    with h5py.File(tmp_path / "none.h5", "w") as f:
        f["labels"] = np.zeros((5, 6, 7), np.uint32)
        f.attrs["voxel_size_nm"] = [40.0, 4.0, 4.0]
    assert call("mesh", tmp_path / "none.h5/labels", tmp_path / "m")["objects"] == 0
    assert precomputed.ids(tmp_path / "m") == []


def test_wrong_inputs_are_refused_before_anything_is_written(tmp_path):
    with h5py.File(tmp_path / "image.h5", "w") as f:
        f["raw"] = np.zeros((5, 6, 7), np.float32)
        f.attrs["voxel_size_nm"] = [40.0, 4.0, 4.0]
    assert "labels are unsigned" in refused("mesh", tmp_path / "image.h5/raw", tmp_path / "m")
    assert "there is no" in refused("mesh", tmp_path / "nothing.zarr", tmp_path / "m")
    assert not (tmp_path / "m").exists()
    assert "say what to do" in refused("connectome", tmp_path / "c")
    said = refused("mesh", tmp_path / "image.h5/raw", tmp_path / "m", "--most-faces", 9)
    assert "most_faces" in said
    assert "9" in said


def test_the_index_of_each_block_is_read_once_whatever_the_number_of_shards(tmp_path, monkeypatch):
    from petavox.neuron import packing
    from petavox.stages import mesh as stage

    values = np.arange(1, 513, dtype=np.uint64).reshape(8, 8, 8) + np.uint64(2**63)
    with h5py.File(tmp_path / "many.h5", "w") as f:
        f["labels"] = values.repeat(3, 0).repeat(3, 1).repeat(3, 2)
        f.attrs["voxel_size_nm"] = [8.0, 8.0, 8.0]
    asked = []
    index = packing.index
    monkeypatch.setattr(packing, "index", lambda file: asked.append(file.name) or index(file))
    labels, how = tmp_path / "many.h5/labels", ("--block", 12, 12, 12)
    with monkeypatch.context() as m:
        m.setattr(stage, "encoded", lambda *a, **k: 1 / 0)
        refused("mesh", labels, tmp_path / "m", *how)
    assert sorted(asked, key=int) == [str(n) for n in range(8)]
    asked.clear()
    assert call("mesh", labels, tmp_path / "m", *how)["objects"] == 512
    assert len(list((tmp_path / "m").glob("*.shard"))) == 8
    assert asked == []  # the index was whole when the first run ended


def test_pieces_of_a_skeleton_come_back_as_they_were_in_their_order(tmp_path):
    from petavox.neuron import packing
    from petavox.neuron.skeleton import Piece

    given = [
        Piece(2**63 + label, n, np.arange(3 * n).reshape(n, 3) - 2**40,
              np.arange(2 * n - 2).reshape(n - 1, 2), np.arange(n) / 3)
        for label, n in ((2, 4), (1, 1), (2, 3))
    ]  # fmt: skip
    packing.write(tmp_path / "0", ((p.label, packing.packed_piece(p), p.voxels) for p in given))
    rows = packing.index(tmp_path / "0").tolist()
    assert [(i, n) for i, _, _, n in rows] == [(2**63 + 1, 1), (2**63 + 2, 4), (2**63 + 2, 3)]
    for (label, offset, size, _), p in zip(rows, [given[1], given[0], given[2]], strict=True):
        q = packing.unpacked_piece(label, packing.read(tmp_path / "0", offset, size))
        assert (q.label, q.voxels) == (p.label, p.voxels)
        for name in ("vertices", "edges", "radii"):
            assert getattr(q, name).tolist() == getattr(p, name).tolist()
            assert getattr(q, name).shape == getattr(p, name).shape


@pytest.mark.parametrize("rows", [1, 7, 10**6])
def test_each_shard_finds_the_fragments_of_its_objects_in_the_order_of_blocks(
    tmp_path, monkeypatch, rows
):
    from petavox.neuron import packing
    from petavox.neuron.sharding import Sharding
    from petavox.stages import fragment_index, objects

    monkeypatch.setattr(fragment_index, "ROWS", rows)
    rng = np.random.default_rng(rows)
    wanted: dict[int, list[bytes]] = {}
    for number in range(12):
        found = [
            (2**64 - i, bytes([number, k]), (2**64 - i) % 5)
            for k, i in enumerate(rng.integers(1, 400, 100).tolist())
        ]
        packing.write(objects.file_of(tmp_path / "f", number), found)
        for label, value, _ in sorted(found, key=lambda r: r[0]):
            wanted.setdefault(label, []).append(value)
    values = fragment_index.make(tmp_path / "i", tmp_path / "f", 12, bytes_each=1.0)
    sharding = Sharding(values["shard_bits"], values["minishard_bits"])
    assert len(values["order"]) == 8
    for shard in values["order"]:
        for label, places in fragment_index.of_shard(tmp_path / "i", shard):
            assert sharding.places(np.array([label], np.uint64))[0] == shard
            assert (places["weight"] == label % 5).all()
            assert list(fragment_index.values(tmp_path / "f", places)) == wanted.pop(label)
    assert wanted == {}


@pytest.mark.parametrize("label", [0, -1, 256])
def test_an_id_that_the_labels_cannot_hold_is_refused_in_a_sentence(tmp_path, label):
    pytest.importorskip("kimimaro", reason="extra petavox[skeletons] is not installed")
    with h5py.File(tmp_path / "few.h5", "w") as f:
        f["labels"] = np.ones((5, 6, 7), np.uint8)
        f.attrs["voxel_size_nm"] = [40.0, 4.0, 4.0]
    said = refused("skeletonize", tmp_path / "few.h5/labels", tmp_path / "s", "--only", label)
    assert f"only names id {label}" in said
    assert "uint8, so ids go from 1 to 255" in said
    assert not (tmp_path / "s").exists()


def test_skeletons_and_connectome_of_a_volume_and_an_update_without_it(labels, tmp_path):
    pytest.importorskip("kimimaro", reason="extra petavox[skeletons] is not installed")
    path, values = labels
    said = call("skeletonize", path, tmp_path / "s", "--block", 12, 20, 20, "--swc",
                "--dust-nm3", 1e5)  # fmt: skip
    assert said["objects"] == 2
    assert precomputed.ids(tmp_path / "s") == [5, BIG]
    rows = precomputed.swc(tmp_path / "s" / "swc" / "5.swc")
    v, e, _ = precomputed.skeleton(tmp_path / "s", 5)
    length = np.linalg.norm(v[e[:, 0]] - v[e[:, 1]], axis=1).sum()
    assert len(rows) == len(v)
    assert length == pytest.approx(39 * 16, rel=0.15)

    synapses = pa.Table.from_pylist(
        [dict(id=1, z_nm=0.0, y_nm=0.0, x_nm=0.0, pre=BIG, post=5, size=9.0, score=1.0)] * 3,
        tables.SYNAPSES,
    )
    pq.write_table(synapses, tmp_path / "s.parquet")
    said = call("connectome", tmp_path / "c", "--labels", path, "--synapses",
                tmp_path / "s.parquet", "--skeletons", tmp_path / "s", "--block", 8, 16, 40,
                "--plots")  # fmt: skip
    assert (said["neurons"], said["synapses"], said["edges"]) == (3, 1, 1)
    neurons = {r["id"]: r for r in pq.read_table(tmp_path / "c" / "neurons.parquet").to_pylist()}
    assert neurons[BIG]["volume_nm3"] == (values == BIG).sum() * 40 * 16 * 16
    assert neurons[5]["cable_nm"] == pytest.approx(length, rel=1e-4)
    asked = CliRunner().invoke(app, ["connectome", str(tmp_path / "c"), "--query", "count>=3"])
    assert asked.stdout.splitlines() == ['"pre","post","count","total_size"', f"{BIG},5,3,27"]

    (tmp_path / "edits.csv").write_text("id,neuron\n5,6\n")
    assert call("connectome", tmp_path / "c", "--mapping", tmp_path / "edits.csv")["neurons"] == 2
    assert pq.read_table(tmp_path / "c" / "edges.parquet")["post"].to_pylist() == [6]
    (tmp_path / "edits.csv").write_text("id,neuron\n")
    assert call("connectome", tmp_path / "c", "--mapping", tmp_path / "edits.csv")["neurons"] == 3


@pytest.mark.slow
def test_real_cortex_meshes_are_closed(real_data, tmp_path):
    path = f"{real_data('cloudvolume_seg/seg_16_16_40.h5')}/labels"
    said = call("mesh", path, tmp_path / "m", "--box", "400:432,300:428,300:428")
    assert said["objects"] > 30
    assert said["watertight_share"] == 1.0
