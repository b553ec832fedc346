"""The connectome in the forms of other programs: neuPrint-style CSV, CAVE-style table, SONATA.

What it is: writers to bytes; coordinates become xyz here, in nm. What it is not: a client of any
service.
"""

from __future__ import annotations

import io

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pc_csv

POPULATION = "neurons"


def neuprint(neurons: pa.Table, synapses: pa.Table, edges: pa.Table) -> dict[str, bytes]:
    """CSV files with the headers of a Neo4j import, as neuPrint's loader takes them.

    neurons, connections between them, and synapses (one node a row of the synapse table), with
    locations in nm, xyz.
    """
    soma = pc.if_else(
        pc.is_valid(neurons["soma_radius_nm"]),
        _point(neurons, "soma_"),
        pa.scalar(None, pa.string()),
    )
    bodies = pa.table(
        {
            ":ID(Body-ID)": neurons["id"],
            "bodyId:long": neurons["id"],
            "pre:int": neurons["pre_synapses"],
            "post:int": neurons["post_synapses"],
            "size:double": neurons["volume_nm3"],
            "cable:double": neurons["cable_nm"],
            "somaLocation:point{srid:9157}": soma,
            "somaRadius:double": neurons["soma_radius_nm"],
            ":LABEL": pa.array(["Segment;Neuron"] * neurons.num_rows, pa.string()),
        }
    )
    ties = pa.table(
        {
            ":START_ID(Body-ID)": edges["pre"],
            "weight:int": edges["count"],
            ":END_ID(Body-ID)": edges["post"],
            ":TYPE": pa.array(["ConnectsTo"] * edges.num_rows, pa.string()),
        }
    )
    points = pa.table(
        {
            ":ID(Syn-ID)": pa.array(np.arange(synapses.num_rows)),
            "synapseId:long": synapses["id"],
            "preBodyId:long": synapses["pre"],
            "postBodyId:long": synapses["post"],
            "confidence:double": synapses["score"],
            "size:double": synapses["size"],
            "location:point{srid:9157}": _point(synapses, ""),
            ":LABEL": pa.array(["Synapse"] * synapses.num_rows, pa.string()),
        }
    )
    return {
        "Neuprint_Neurons.csv": _csv(bodies),
        "Neuprint_Neuron_Connections.csv": _csv(ties),
        "Neuprint_Synapses.csv": _csv(points),
    }


def cave(synapses: pa.Table, base: pa.Table) -> pa.Table:
    """A synapse table with the columns of CAVE's synapse schema; positions in nm, xyz.

    synapses, base: the same rows with neurons' ids (root) and with base ids (supervoxel). One
    row a partner; the position is the cleft's.
    """
    at = {axis: synapses[f"{axis}_nm"] for axis in "xyz"}
    return pa.table(
        {
            "id": pa.array(np.arange(1, synapses.num_rows + 1, dtype=np.int64)),
            "valid": pa.array(np.ones(synapses.num_rows, bool)),
            "synapse_id": synapses["id"],
            "pre_pt_root_id": synapses["pre"],
            "pre_pt_supervoxel_id": base["pre"],
            "post_pt_root_id": synapses["post"],
            "post_pt_supervoxel_id": base["post"],
            **{f"ctr_pt_position_{axis}": at[axis] for axis in "xyz"},
            "size": synapses["size"],
            "score": synapses["score"],
        }
    )


def sonata(neurons: pa.Table, edges: pa.Table) -> dict[str, bytes]:
    """SONATA: nodes.h5, edges.h5 and their type tables; one edge a pair of neurons.

    Node ids run from 0 in the order of the neuron table; `neuron_id` of a node is the neuron's
    id. syn_count and total_size are edge attributes.
    """
    ids = neurons["id"].to_numpy()
    source = np.searchsorted(ids, edges["pre"].to_numpy()).astype(np.uint64)
    target = np.searchsorted(ids, edges["post"].to_numpy()).astype(np.uint64)
    return {
        "nodes.h5": _nodes(ids),
        "edges.h5": _edges(source, target, edges, len(ids)),
        "node_types.csv": b"node_type_id model_type\n0 virtual\n",
        "edge_types.csv": b"edge_type_id target_query source_query\n0 * *\n",
    }


def _nodes(ids: np.ndarray) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as f:
        _stamp(f)
        group = f.create_group(f"nodes/{POPULATION}")
        group["node_type_id"] = np.zeros(len(ids), np.uint64)
        group["node_id"] = np.arange(len(ids), dtype=np.uint64)
        group["node_group_id"] = np.zeros(len(ids), np.uint32)
        group["node_group_index"] = np.arange(len(ids), dtype=np.uint64)
        group["0/neuron_id"] = ids
    return out.getvalue()


def _edges(source: np.ndarray, target: np.ndarray, edges: pa.Table, nodes: int) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as f:
        _stamp(f)
        group = f.create_group(f"edges/{POPULATION}_to_{POPULATION}")
        for name, values in (("source", source), ("target", target)):
            group[f"{name}_node_id"] = values
            group[f"{name}_node_id"].attrs["node_population"] = POPULATION
        n = len(source)
        group["edge_type_id"] = np.zeros(n, np.uint64)
        group["edge_group_id"] = np.zeros(n, np.uint32)
        group["edge_group_index"] = np.arange(n, dtype=np.uint64)
        group["0/syn_count"] = edges["count"].to_numpy()
        group["0/total_size"] = edges["total_size"].to_numpy()
        for name, values in (("source_to_target", source), ("target_to_source", target)):
            ranges, lists = _index(values, nodes)
            group[f"indices/{name}/node_id_to_ranges"] = ranges
            group[f"indices/{name}/range_to_edge_id"] = lists
    return out.getvalue()


def _index(values: np.ndarray, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """node -> [begin, end) of ranges; range -> [begin, end) of edges with that node."""
    order = np.argsort(values, kind="stable")
    cut = np.flatnonzero(
        np.r_[True, (np.diff(order) != 1) | (values[order][1:] != values[order][:-1])]
    ) if len(order) else np.zeros(0, np.int64)  # fmt: skip
    last = np.r_[cut[1:], len(order)] - 1 if len(cut) else cut
    lists = np.stack([order[cut], order[last] + 1], 1).astype(np.uint64)
    owner = values[order[cut]].astype(np.int64)
    begin = np.searchsorted(owner, np.arange(nodes), "left")
    end = np.searchsorted(owner, np.arange(nodes), "right")
    return np.stack([begin, end], 1).astype(np.uint64), lists


def _stamp(file: h5py.File) -> None:
    file.attrs["magic"] = np.uint32(0x0A7A)
    file.attrs["version"] = np.array([0, 1], np.uint32)


def _point(table: pa.Table, prefix: str) -> pa.Array:
    """`{x:1.0, y:2.0, z:3.0}` of each row, nm."""
    parts = [
        f"{{x:{x}, y:{y}, z:{z}}}"
        for x, y, z in zip(
            *(table[f"{prefix}{axis}_nm"].to_pylist() for axis in "xyz"), strict=True
        )
    ]
    return pa.array(parts, pa.string())


def _csv(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pc_csv.write_csv(table, out)
    return out.getvalue()
