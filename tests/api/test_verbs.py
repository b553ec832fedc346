"""The verbs do what the commands of the same names do."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

import petavox as pv
from petavox.errors import BadInput
from petavox.neuron.mesh import measure
from petavox.stages.segment import SegmentSettings
from petavox.stages.segment import segment as stage_segment

SIZE = (10.0, 10.0, 10.0)


@pytest.fixture(scope="module")
def tissue():
    return pv.phantom(shape=(24, 40, 40), voxel_size=SIZE, seed=1)


@pytest.fixture(scope="module")
def flooded(tissue, tmp_path_factory):
    """The command's own result on the same voxels."""
    folder = tmp_path_factory.mktemp("flooded")
    pv.write(tissue.image, folder / "image.zarr", kind="image", voxel_size=SIZE)
    out = folder / "objects.zarr"
    settings = SegmentSettings(precision="f32")
    stage_segment(folder / "image.zarr", out, pv.shipped_model(), settings, quiet=True)
    return pv.open(out).read()


def test_phantom_in_memory_is_phantom_on_disk(tmp_path):
    made = pv.phantom(shape=(8, 16, 16), seed=1)
    pv.phantom(tmp_path / "tissue", shape=(8, 16, 16), seed=1)
    assert np.array_equal(pv.open(tmp_path / "tissue" / "image.zarr").read(), made.image)
    assert np.array_equal(pv.open(tmp_path / "tissue" / "labels.zarr").read(), made.labels)


def test_segment_of_an_array_is_the_command_s_result(tissue, flooded):
    labels = pv.segment(tissue.image, pv.shipped_model(), voxel_size=SIZE, precision="f32")
    assert np.array_equal(labels, flooded)
    assert labels.max() > 0


def test_segment_of_a_data_array_gives_one_at_its_place(tissue, flooded):
    box = pv.Box.of_shape(tissue.image.shape, (-5, 100, 3))
    image = pv.to_xarray(tissue.image, box, SIZE)
    labels = pv.segment(image, pv.shipped_model(), precision="f32")
    assert labels.dims == ("z", "y", "x")
    assert labels.z.values[0] == -50
    assert np.array_equal(labels, flooded)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speed": 9}, "unknown key 'speed' in the arguments of pv.segment"),
        ({"blocks": (16, 16, 16)}, "give `out`"),
        ({"workers": 2}, "need blocks"),
        ({"box": "0:8,0:8,0:8"}, "field of view"),
    ],
)
def test_segment_tells_what_cannot_be_asked(tissue, options, words):
    with pytest.raises(BadInput, match=words):
        pv.segment(tissue.image, pv.shipped_model(), voxel_size=SIZE, **options)


def test_score_is_perfect_for_other_names_of_the_same_objects(tissue):
    figures = pv.score(tissue.labels * np.uint64(3), tissue.labels, voxel_size=SIZE)
    assert figures["raw"]["vi"] == pytest.approx(0, abs=1e-9)
    assert "bits" in figures.notes["raw.vi"]


def test_score_of_a_data_array_that_lies_elsewhere_is_refused(tissue):
    a = pv.to_xarray(tissue.labels, voxel_size=SIZE)
    b = pv.to_xarray(tissue.labels, pv.Box.of_shape(tissue.labels.shape, (1, 0, 0)), SIZE)
    with pytest.raises(BadInput, match="intersect"):
        pv.score(a, b)


def test_meshes_in_memory_enclose_what_those_on_disk_enclose(tissue, tmp_path):
    meshes = pv.mesh(tissue.labels, voxel_size=SIZE)
    pv.mesh(tissue.labels, tmp_path / "meshes", voxel_size=SIZE)
    table = pq.ParquetFile(tmp_path / "meshes" / "meshes.parquet").read().to_pydict()
    assert sorted(meshes) == table["id"]
    for label, volume in zip(table["id"], table["volume_nm3"], strict=True):
        assert measure(meshes[label]).volume == pytest.approx(volume, rel=1e-6)


def test_a_mesh_lies_where_its_voxels_lie():
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1:3, 1:3, 1:3] = 1
    box = pv.Box.of_shape((4, 4, 4), (10, 0, -4))  # the middle of voxels 11 and 12, 1 and 2, ...
    found = pv.mesh(pv.to_xarray(labels, box, (40, 4, 4)), only=(1,))[1].vertices
    centre = (found.min(axis=0) + found.max(axis=0)) / 2
    assert centre.tolist() == pytest.approx([12 * 40, 2 * 4, -2 * 4], abs=1.0)


def test_skeletons_in_memory_are_as_long_as_those_on_disk(tissue, tmp_path):
    pytest.importorskip("kimimaro")
    options = {"voxel_size": SIZE, "dust_nm3": 1e6, "teasar": {"const_nm": 50.0}}
    skeletons = pv.skeletonize(tissue.labels, **options)
    pv.skeletonize(tissue.labels, tmp_path / "skeletons", **options)
    table = pq.ParquetFile(tmp_path / "skeletons" / "skeletons.parquet").read().to_pydict()
    assert sorted(skeletons) == table["id"]
    for label, cable in zip(table["id"], table["cable_nm"], strict=True):
        ends = skeletons[label].vertices[skeletons[label].edges]
        assert np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1).sum() == pytest.approx(cable)


ROW = {"id": 1, "z_nm": 4.0, "y_nm": 16.0, "x_nm": 16.0, "pre": 1, "post": 2, "size": 9.0,
       "score": 1.0}  # fmt: skip


@pytest.mark.parametrize("form", ["rows", "columns", "arrow", "pandas"])
def test_synapses_are_taken_in_any_tabular_form(form):
    import pandas
    import pyarrow

    rows = [ROW, ROW | {"id": 2}]
    columns = {k: [r[k] for r in rows] for k in ROW}
    given = {
        "rows": rows,
        "columns": columns,
        "arrow": pyarrow.table(columns),
        "pandas": pandas.DataFrame(columns),
    }[form]
    labels = np.repeat(np.array([[[1, 1, 2, 2]]], np.uint64), 4, axis=1)
    edges = pv.connectome(labels, given, voxel_size=(8, 8, 8))["edges"]
    assert edges.to_pylist() == [{"pre": 1, "post": 2, "count": 2, "total_size": 18.0}]


def test_what_is_no_table_of_synapses_is_told():
    labels = np.ones((2, 2, 2), np.uint64)
    with pytest.raises(BadInput, match="'id' of the synapses is no uint64"):
        pv.connectome(labels, {"id": ["one"]}, voxel_size=(8, 8, 8))
    with pytest.raises(BadInput, match="no table of id, z_nm"):
        pv.connectome(labels, [1, 2], voxel_size=(8, 8, 8))


def test_consensus_keeps_apart_what_one_of_both_keeps_apart():
    a = pv.to_xarray(np.ones((2, 2, 4), np.uint64), voxel_size=(8, 8, 8))
    b = np.array([[[5, 5, 7, 0]] * 2] * 2)
    agreed = pv.consensus(a, pv.to_xarray(b, voxel_size=(8, 8, 8)), min_size=1)
    # the largest part keeps the id; nothing in b is a partner too, and the smallest
    assert np.array_equal(agreed, np.broadcast_to([1, 1, 3, 2], (2, 2, 4)))


def test_blocks_are_flooded_and_reconciled(tissue, tmp_path):
    image = pv.write(tissue.image, tmp_path / "image.zarr", kind="image", voxel_size=SIZE)
    blocks = tmp_path / "objects.blocks"
    pv.segment(
        image, None, blocks, blocks=(24, 40, 40), context=(0, 0, 0),
        method="components", threshold=150.0,
    )  # fmt: skip
    pv.reconcile(blocks, tmp_path / "objects.zarr")
    made = pv.open(tmp_path / "objects.zarr").read()
    assert np.array_equal(made > 0, tissue.image >= 150)


def test_synapses_of_arrays_come_with_clefts_in_place(tissue):
    box = pv.Box.of_shape(tissue.image.shape, (2, 3, 5))
    image = pv.to_xarray(tissue.image, box, SIZE)
    found = pv.synapses(image, pv.to_xarray(tissue.labels, box, SIZE))
    assert found["synapses"].column_names[:2] == ["id", "z_nm"]
    assert found["clefts"].z.values.tolist() == image.z.values.tolist()
    assert set(np.unique(found["clefts"])) - {0} == set(found["synapses"]["id"].to_pylist())


def test_a_project_is_run_and_reported(tissue, tmp_path):
    from typer.testing import CliRunner

    from petavox.cli.app import app

    image = pv.write(tissue.image, tmp_path / "image.zarr", kind="image", voxel_size=SIZE)
    words = ["init", str(tmp_path / "block"), "--image", image.path]
    assert CliRunner().invoke(app, words).exit_code == 0
    planned = pv.run(tmp_path / "block", dry_run=True)
    assert "segment" in planned
    assert pv.report(tmp_path / "block")["report"].endswith("report.html")
    with pytest.raises(BadInput):
        pv.run(tmp_path / "block", only="nonsense")


def test_train_refuses_unknown_keys_before_any_work(tmp_path):
    with pytest.raises(BadInput, match=r"the settings of pv\.train"):
        pv.train({"volumes": [], "depth": 3}, tmp_path / "t")


def test_train_reads_changes_of_a_file(tmp_path):
    (tmp_path / "t.yaml").write_text("volumes: []\n")
    with pytest.raises(BadInput, match=r"trainer\.steps"):
        pv.train(tmp_path / "t.yaml", tmp_path / "t", trainer__steps=-1)
    with pytest.raises(BadInput, match="these are no file"):
        pv.train({"volumes": []}, tmp_path / "t", trainer__steps=5)
