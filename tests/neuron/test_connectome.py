"""Tables of neurons, synapses and edges; updates; queries; files of other programs."""

from __future__ import annotations

import io
import time

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from petavox.errors import BadInput
from petavox.neuron import connectome, exports, graph, plots, query, tables
from petavox.space import Box, Grid, VoxelSize
from petavox.stages.connectome import read_table

A, B, C = 2**40 + 1, 7, 9


def synapse_rows() -> pa.Table:
    """A -> B twice (one synapse with two rows to B and C), B -> C once, one orphan post."""
    return pa.Table.from_pylist(
        [
            dict(id=1, z_nm=1.0, y_nm=2.0, x_nm=3.0, pre=A, post=B, size=10.0, score=0.9),
            dict(id=1, z_nm=1.0, y_nm=2.0, x_nm=3.0, pre=A, post=C, size=10.0, score=0.9),
            dict(id=2, z_nm=4.0, y_nm=5.0, x_nm=6.0, pre=A, post=B, size=30.0, score=0.8),
            dict(id=3, z_nm=7.0, y_nm=8.0, x_nm=9.0, pre=B, post=C, size=5.0, score=0.7),
            dict(id=4, z_nm=7.0, y_nm=8.0, x_nm=9.0, pre=0, post=C, size=5.0, score=0.1),
        ],
        tables.SYNAPSES,
    )


def object_rows() -> pa.Table:
    labels = np.zeros((4, 6, 8), np.uint64)
    labels[0:2, 0:3, 0:4] = A
    labels[2, 4:6, 2:8] = B
    labels[3, 5, 7] = C
    counts = tables.count_voxels(labels, (10, 20, -30))
    return connectome.objects_table(counts, VoxelSize(40, 4, 4), None, 1000)


def by_id(table: pa.Table) -> dict[int, dict]:
    return {row["id"]: row for row in table.to_pylist()}


def test_volumes_and_boxes_are_in_nm():
    rows = by_id(object_rows())
    assert rows[A]["volume_nm3"] == 24 * 640
    assert [rows[A][f"{a}0_nm"] for a in "zyx"] == [400, 80, -120]
    assert [rows[A][f"{a}1_nm"] for a in "zyx"] == [480, 92, -104]
    assert rows[A]["cable_nm"] is None
    assert list(rows) == [B, C, A]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 8)] * 3),
    block=st.tuples(*[st.integers(1, 5)] * 3),
    start=st.tuples(*[st.integers(-40, 40)] * 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_counts_of_blocks_are_those_of_the_whole_and_of_numpy(shape, block, start, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 2, 2**63, 5], np.uint64), shape)
    parts = [
        tables.count_voxels(np.ascontiguousarray(labels[b.write.slices(start)]), b.write.start)
        for b in Grid(Box.of_shape(shape, start), block)
    ]
    whole = tables.count_voxels(labels, start)
    assert np.array_equal(tables.add_counts(parts[::-1]), whole)
    assert np.array_equal(tables.sum_counts(iter(parts)), whole)
    ids, n = np.unique(labels[labels > 0], return_counts=True)
    assert whole["id"].tolist() == ids.tolist()
    assert whole["voxels"].tolist() == n.tolist()
    for row in whole:
        at = np.argwhere(labels == row["id"]) + start
        assert row["low"].tolist() == at.min(0).tolist()
        assert row["high"].tolist() == (at.max(0) + 1).tolist()


def test_the_sum_of_many_blocks_does_not_sort_all_objects_at_each(monkeypatch):
    add, rows = tables.add_counts, []

    def counting(parts):
        rows.append(sum(map(len, parts)))
        return add(parts)

    monkeypatch.setattr(tables, "add_counts", counting)
    parts = np.zeros((500, 2), tables.COUNTS)
    parts["id"] = np.arange(1000).reshape(500, 2)
    parts["voxels"] = 1
    assert tables.sum_counts(parts)["id"].tolist() == list(range(1000))
    assert sum(rows) < 5 * 1000  # one sort at each block would be 250 times as many


def test_edges_and_counts_are_those_worked_out_by_hand():
    made = connectome.assemble(object_rows(), synapse_rows())
    assert made.edges.to_pylist() == [
        dict(pre=B, post=C, count=1, total_size=5.0),
        dict(pre=A, post=B, count=2, total_size=40.0),
        dict(pre=A, post=C, count=1, total_size=10.0),
    ]
    rows = by_id(made.neurons)
    made_by = {k: (v["pre_synapses"], v["post_synapses"], v["objects"]) for k, v in rows.items()}
    assert made_by == {A: (2, 0, 1), B: (1, 2, 1), C: (0, 3, 1)}


def test_ids_from_2_63_on_go_through_all_tables_and_files():
    low, high = 2**63, 2**64 - 3
    counts = np.zeros(2, tables.COUNTS)
    counts["id"], counts["voxels"] = (low, high), (3, 4)
    things = connectome.objects_table(counts, VoxelSize(1, 1, 1), None, 1500)
    row = dict(id=high, z_nm=0.0, y_nm=0.0, x_nm=0.0, size=2.0, score=1.0)
    rows = [row | dict(pre=high, post=low), row | dict(pre=0, post=high)]
    made = connectome.assemble(things, pa.Table.from_pylist(rows, tables.SYNAPSES))
    assert made.edges.to_pylist() == [dict(pre=high, post=low, count=1, total_size=2.0)]
    of = {k: (v["pre_synapses"], v["post_synapses"]) for k, v in by_id(made.neurons).items()}
    assert of == {low: (0, 1), high: (1, 1)}
    assert f"{high},{low},1," in graph.edge_list(made.edges)
    found = query.query(made.edges, f"pre={high}, post!={low - 1}")
    assert found.num_rows == 1
    with h5py.File(io.BytesIO(exports.sonata(made.neurons, made.edges)["nodes.h5"])) as f:
        assert f["nodes/neurons/0/neuron_id"][:].tolist() == [low, high]


def test_a_partner_without_voxels_is_a_neuron_with_nulls():
    synapses = synapse_rows().slice(0, 1)
    synapses = synapses.set_column(5, tables.SYNAPSES.field("post"), pa.array([77], pa.uint64()))
    rows = by_id(connectome.assemble(object_rows(), synapses).neurons)
    assert rows[77]["volume_nm3"] is None
    assert rows[77]["post_synapses"] == 1
    assert rows[77]["objects"] == 0


def test_a_merge_after_proofreading_adds_up_and_a_split_takes_apart():
    merge = pa.table({"id": [A, B], "neuron": [B, B]}, schema=connectome.MAPPING)
    made = connectome.assemble(object_rows(), synapse_rows(), merge)
    rows = by_id(made.neurons)
    assert set(rows) == {B, C}
    assert rows[B]["volume_nm3"] == (24 + 12) * 640
    assert [rows[B][f"{a}1_nm"] for a in "zyx"] == [13 * 40, 26 * 4, -22 * 4]
    assert rows[B]["objects"] == 2
    assert rows[B]["pre_synapses"] == 3
    assert made.edges.to_pylist() == [
        dict(pre=B, post=B, count=2, total_size=40.0),
        dict(pre=B, post=C, count=2, total_size=15.0),
    ]
    # the split is the old mapping again: base tables never changed
    assert connectome.assemble(object_rows(), synapse_rows()).edges.num_rows == 3


def test_an_object_mapped_to_nothing_leaves():
    drop = pa.table({"id": [B], "neuron": [0]}, schema=connectome.MAPPING)
    made = connectome.assemble(object_rows(), synapse_rows(), drop)
    assert set(by_id(made.neurons)) == {A, C}
    assert made.edges.to_pylist() == [dict(pre=A, post=C, count=1, total_size=10.0)]
    assert made.synapses.num_rows == 5


def test_cable_and_soma_come_from_skeletons():
    skeletons = pa.table(
        {
            "id": pa.array([C, B], pa.uint64()),
            "cable_nm": [100.0, 50.0],
            "max_radius_nm": [20.0, 2000.0],
            "z_nm": [1.0, 2.0],
            "y_nm": [3.0, 4.0],
            "x_nm": [5.0, 6.0],
        }
    )
    labels = np.array([[[B, C, A]]], np.uint64)
    counts = tables.count_voxels(labels, (0, 0, 0))
    things = connectome.objects_table(counts, VoxelSize(1, 1, 1), skeletons, 1500)
    both = pa.table({"id": [C, B], "neuron": [B, B]}, schema=connectome.MAPPING)
    rows = by_id(connectome.assemble(things, synapse_rows(), both).neurons)
    assert rows[B]["cable_nm"] == 150
    assert (rows[B]["soma_radius_nm"], rows[B]["soma_x_nm"]) == (2000, 6)
    assert rows[A]["cable_nm"] is None
    assert rows[A]["soma_radius_nm"] is None


def test_nothing_makes_an_empty_connectome():
    none = tables.count_voxels(np.zeros((2, 2, 2), np.uint64), (0, 0, 0))
    things = connectome.objects_table(none, VoxelSize(1, 1, 1), None, 1)
    made = connectome.assemble(things, tables.SYNAPSES.empty_table())
    assert (made.neurons.num_rows, made.edges.num_rows) == (0, 0)
    assert b"magic" not in exports.sonata(made.neurons, made.edges)["node_types.csv"]
    graph.graphml(made.neurons, made.edges)
    plots.pictures(made.neurons, made.synapses, made.edges)


def test_wrong_tables_are_errors_that_name_the_column():
    with pytest.raises(BadInput, match="no column 'score'"):
        tables.checked(synapse_rows().drop_columns(["score"]), tables.SYNAPSES, "s.parquet")
    bad = synapse_rows().set_column(4, "pre", pa.array(["x"] * 5))
    with pytest.raises(BadInput, match=r"'pre' of .* is no uint64"):
        tables.checked(bad, tables.SYNAPSES, "s.csv")
    twice = pa.table({"id": [B, B], "neuron": [A, C]}, schema=connectome.MAPPING)
    with pytest.raises(BadInput, match="names id 7 twice"):
        connectome.assemble(object_rows(), synapse_rows(), twice)


def test_ids_of_a_csv_are_read_whole_and_an_empty_partner_is_nobody(tmp_path):
    """2^63 + 1 and 2^63 + 3 are the same decimal number of 64 bits."""
    big = 2**63
    file = tmp_path / "s.csv"
    head = "id,z_nm,y_nm,x_nm,pre,post,size,score\n"
    file.write_text(head + f"{big + 1},1,2,3,{big + 3},7,1,1\n{big + 3},1,2,3,{big + 1},,1,1\n")
    rows = tables.checked(read_table(file), tables.SYNAPSES, str(file))
    assert rows["id"].to_pylist() == [big + 1, big + 3]
    assert rows["pre"].to_pylist() == [big + 3, big + 1]
    assert rows["post"].to_pylist() == [7, 0]
    file.write_text(f"id,neuron\n{big + 1},{big + 3}\n5,\n")
    with pytest.raises(BadInput, match=r"column 'neuron' of .* is empty in row 2"):
        tables.checked(read_table(file), connectome.MAPPING, str(file))
    file.write_text("id,neuron\n5.0,6\n")
    with pytest.raises(BadInput, match=r"neuron, pre, post as uint64.*'5\.0'"):
        read_table(file)


def test_a_place_that_is_no_number_is_refused():
    rows = synapse_rows()
    at = pa.array([float("nan")] * rows.num_rows)
    with pytest.raises(BadInput, match=r"'x_nm' of s holds nan in row 1"):
        tables.checked(rows.set_column(3, "x_nm", at), tables.SYNAPSES, "s")


def test_ids_that_went_through_decimal_numbers_are_refused():
    rows = pa.table({"id": [1.0, 2.0**53], "neuron": [1, 2]})
    with pytest.raises(BadInput, match=r"'id' of m holds 9007199254740992 as double"):
        tables.checked(rows, connectome.MAPPING, "m")
    assert tables.checked(rows.slice(0, 1), connectome.MAPPING, "m")["id"].to_pylist() == [1]


def test_what_skeletons_tell_may_be_unknown():
    assert tables.checked(object_rows(), tables.OBJECTS, "o")["cable_nm"].null_count == 3


def test_queries_filter_and_wrong_ones_say_why():
    edges = connectome.assemble(object_rows(), synapse_rows()).edges
    assert query.query(edges, f"pre={A}, count>=2")["post"].to_pylist() == [B]
    assert query.query(edges, f"pre != {A} and total_size<5.5")["pre"].to_pylist() == [B]
    assert query.query(edges, "pre==12345").num_rows == 0
    for text, why in (
        ("weight>1", "no column 'weight'"),
        ("pre~3", "no condition"),
        ("pre=x", "no value of 'pre'"),
        ("", "no condition"),
    ):
        with pytest.raises(BadInput, match=why):
            query.query(edges, text)


def test_graphml_opens_in_networkx_with_counts_and_volumes():
    networkx = pytest.importorskip("networkx")
    made = connectome.assemble(object_rows(), synapse_rows())
    g = networkx.parse_graphml(graph.graphml(made.neurons, made.edges))
    assert g.is_directed()
    assert g[str(A)][str(B)] == {"count": 2, "total_size": 40.0}
    assert g.nodes[str(A)]["volume_nm3"] == 24 * 640
    assert "cable_nm" not in g.nodes[str(A)]
    lines = graph.edge_list(made.edges).splitlines()
    assert lines[0] == "pre,post,count,total_size"
    assert len(lines) == 4


def test_tables_open_in_pandas_polars_and_duckdb(tmp_path):
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    duckdb = pytest.importorskip("duckdb")
    made = connectome.assemble(object_rows(), synapse_rows())
    for name in ("neurons", "synapses", "edges"):
        pq.write_table(getattr(made, name), tmp_path / f"{name}.parquet")
        file = str(tmp_path / f"{name}.parquet")
        n = getattr(made, name).num_rows
        assert len(pandas.read_parquet(file)) == n
        assert polars.read_parquet(file).height == n
        assert duckdb.sql(f"select count(*) from '{file}'").fetchall() == [(n,)]
    found = duckdb.sql(
        f"select sum(count) from '{tmp_path}/edges.parquet' where pre = {A}"
    ).fetchall()
    assert found == [(3,)]


def test_sonata_indices_lead_from_every_node_to_its_edges():
    rng = np.random.default_rng(3)
    n = 300
    pre, post = rng.integers(1, 30, n), rng.integers(1, 30, n)
    rows = pa.table(
        {
            "id": np.arange(n),
            "z_nm": np.zeros(n), "y_nm": np.zeros(n), "x_nm": np.zeros(n),
            "pre": pre, "post": post, "size": np.ones(n), "score": np.ones(n),
        }
    )  # fmt: skip
    synapses = tables.checked(rows, tables.SYNAPSES, "rows")
    made = connectome.assemble(tables_objects_none(), synapses)
    files = exports.sonata(made.neurons, made.edges)
    with h5py.File(io.BytesIO(files["nodes.h5"])) as f:
        ids = f["nodes/neurons/0/neuron_id"][:]
    with h5py.File(io.BytesIO(files["edges.h5"])) as f:
        g = f["edges/neurons_to_neurons"]
        assert g["source_node_id"].attrs["node_population"] == "neurons"
        ends = {
            "source_to_target": g["source_node_id"][:],
            "target_to_source": g["target_node_id"][:],
        }
        for name, node in ends.items():
            ranges = g[f"indices/{name}/node_id_to_ranges"][:]
            lists = g[f"indices/{name}/range_to_edge_id"][:]
            assert len(ranges) == len(ids)
            for k, (a, b) in enumerate(ranges):
                mine = [e for low, high in lists[a:b] for e in range(low, high)]
                assert sorted(mine) == np.flatnonzero(node == k).tolist()
        counted = g["0/syn_count"][:]
        for s, t, c in zip(*ends.values(), counted, strict=True):
            assert c == ((pre == ids[s]) & (post == ids[t])).sum()


def tables_objects_none() -> pa.Table:
    none = tables.count_voxels(np.zeros((1, 1, 1), np.uint64), (0, 0, 0))
    return connectome.objects_table(none, VoxelSize(1, 1, 1), None, 1)


def test_neuprint_and_cave_tables_hold_the_same_rows():
    merge = pa.table({"id": [A], "neuron": [B]}, schema=connectome.MAPPING)
    made = connectome.assemble(object_rows(), synapse_rows(), merge)
    files = exports.neuprint(made.neurons, made.synapses, made.edges)
    ties = pa_csv.read_csv(io.BytesIO(files["Neuprint_Neuron_Connections.csv"]))
    assert ties["weight:int"].to_pylist() == made.edges["count"].to_pylist()
    points = files["Neuprint_Synapses.csv"].decode()
    assert "{x:3.0, y:2.0, z:1.0}" in points
    cave = exports.cave(made.synapses, synapse_rows())
    assert cave["pre_pt_root_id"].to_pylist()[0] == B
    assert cave["pre_pt_supervoxel_id"].to_pylist()[0] == A
    assert cave["ctr_pt_position_x"].to_pylist()[0] == 3.0


def test_plots_are_pngs_and_the_order_is_a_permutation():
    made = connectome.assemble(object_rows(), synapse_rows())
    for data in plots.pictures(made.neurons, made.synapses, made.edges).values():
        assert data.startswith(b"\x89PNG")
    ids, matrix = plots.ordered(made.edges)
    assert sorted(ids.tolist()) == [B, C, A]
    assert matrix.sum() == 4


def test_a_query_of_a_graph_of_the_size_of_c_elegans_takes_well_under_a_second():
    rng = np.random.default_rng(0)
    n = 10_000  # the worm has 302 neurons and some 7000 chemical synapses
    edges = pa.table(
        {
            "pre": rng.integers(1, 303, n).astype(np.uint64),
            "post": rng.integers(1, 303, n).astype(np.uint64),
            "count": rng.integers(1, 40, n).astype(np.uint64),
            "total_size": rng.random(n),
        },
        schema=tables.EDGES,
    )
    began = time.perf_counter()
    found = query.query(edges, "pre=17, count>=20")
    assert time.perf_counter() - began < 0.5
    assert set(found["pre"].to_pylist()) == {17}
