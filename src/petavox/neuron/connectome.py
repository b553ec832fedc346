"""Neurons and edges from base objects, synapses and a mapping of ids.

What it is: the arithmetic of the connectome on tables in memory, zyx and nm. The base tables keep
the ids of the segmentation; a mapping (base id -> neuron) is applied on the way to neurons and
edges, so edits by proofreading need only a new mapping: no image is read again.
What it is not: files, or graphs of other programs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from petavox.errors import BadInput
from petavox.neuron.tables import EDGES, NEURONS, OBJECTS, SYNAPSES
from petavox.space import VoxelSize

MAPPING = pa.schema([("id", pa.uint64()), ("neuron", pa.uint64())])
"""base id -> neuron; ids that are not in it stand for themselves; neuron 0 drops the object."""

_NOBODY = pa.scalar(0, pa.uint64())
"""A plain 0 would be signed, and ids from 2^63 on no numbers to compare it with."""


@dataclass(frozen=True)
class Connectome:
    """The tables of one state of proofreading."""

    neurons: pa.Table
    synapses: pa.Table
    edges: pa.Table


def objects_table(
    counts: np.ndarray, voxel_size: VoxelSize, skeletons: pa.Table | None, soma_radius: float
) -> pa.Table:
    """The OBJECTS table from voxel counts, and from a table of skeletons where there is one.

    soma_radius: nm; where the thickest vertex of a skeleton is at least so thick it is a soma.
    """
    size = np.array(tuple(voxel_size))
    columns: dict[str, pa.Array] = {
        "id": pa.array(counts["id"]),
        "volume_nm3": pa.array(counts["voxels"] * voxel_size.volume),
    }
    for end, name in ((0, "low"), (1, "high")):
        for k, axis in enumerate("zyx"):
            columns[f"{axis}{end}_nm"] = pa.array(counts[name][:, k] * size[k])
    known = _from_skeletons(counts["id"], skeletons, soma_radius)
    return pa.table({**columns, **known}, schema=OBJECTS)


def _from_skeletons(
    ids: np.ndarray, skeletons: pa.Table | None, soma_radius: float
) -> dict[str, pa.Array]:
    names = ["cable_nm", "soma_radius_nm", "soma_z_nm", "soma_y_nm", "soma_x_nm"]
    if skeletons is None:
        return {name: pa.nulls(len(ids), pa.float64()) for name in names}
    skeletons = skeletons.sort_by("id")
    has = skeletons["id"].to_numpy()
    row = np.minimum(np.searchsorted(has, ids), max(0, len(has) - 1))
    found = (has[row] == ids) if len(has) else np.zeros(len(ids), bool)
    thick = found.copy()
    if len(has):
        thick &= skeletons["max_radius_nm"].to_numpy()[row] >= soma_radius
    out = {}
    sources = ["cable_nm", "max_radius_nm", "z_nm", "y_nm", "x_nm"]
    for name, source in zip(names, sources, strict=True):
        values = skeletons[source].to_numpy()[row] if len(has) else np.zeros(len(ids))
        out[name] = pa.array(values, mask=~(found if name == "cable_nm" else thick))
    return out


def mapped(ids: pa.ChunkedArray, mapping: pa.Table | None) -> pa.Array:
    """The neurons of base ids. Raises BadInput if the mapping names an id twice."""
    values = ids.to_numpy()
    if mapping is None or not mapping.num_rows:
        return pa.array(values)
    old, new = mapping["id"].to_numpy(), mapping["neuron"].to_numpy()
    order = np.argsort(old, kind="stable")
    old, new = old[order], new[order]
    twice = np.flatnonzero(old[1:] == old[:-1])
    if len(twice):
        raise BadInput(
            f"the mapping names id {old[twice[0]]} twice; each id belongs to one neuron."
        )
    at = np.minimum(np.searchsorted(old, values), len(old) - 1)
    return pa.array(np.where(old[at] == values, new[at], values))


def assemble(objects: pa.Table, synapses: pa.Table, mapping: pa.Table | None = None) -> Connectome:
    """Neurons, synapses and edges after a mapping.

    objects: OBJECTS.  synapses: SYNAPSES with base ids.  mapping: MAPPING or None.
    Rows without a pre or post partner (0) stay in the synapse table and make no edge. Partners
    that are no object of the table get a row in neurons, with nulls, so no edge dangles.
    """
    synapses = synapses.set_column(4, SYNAPSES.field("pre"), mapped(synapses["pre"], mapping))
    synapses = synapses.set_column(5, SYNAPSES.field("post"), mapped(synapses["post"], mapping))
    return Connectome(neurons_table(objects, synapses, mapping), synapses, edges_table(synapses))


def edges_table(synapses: pa.Table) -> pa.Table:
    """One row a pair of partners, ordered by pre and post.

    count: rows, so a synapse that reaches one post twice counts twice.
    """
    both = synapses.filter(
        pc.and_(pc.not_equal(synapses["pre"], _NOBODY), pc.not_equal(synapses["post"], _NOBODY))
    )
    grouped = both.group_by(["pre", "post"]).aggregate([("id", "count"), ("size", "sum")])
    grouped = grouped.sort_by([("pre", "ascending"), ("post", "ascending")])
    return pa.table(
        [
            grouped["pre"],
            grouped["post"],
            grouped["id_count"].cast(pa.uint64()),
            grouped["size_sum"],
        ],
        schema=EDGES,
    )


def neurons_table(objects: pa.Table, synapses: pa.Table, mapping: pa.Table | None) -> pa.Table:
    """NEURONS from base objects and synapses that are mapped already, ordered by id."""
    owner = mapped(objects["id"], mapping)
    table = objects.append_column("neuron", owner)
    table = table.filter(pc.not_equal(table["neuron"], _NOBODY))
    low = [(f"{a}0_nm", "min") for a in "zyx"]
    high = [(f"{a}1_nm", "max") for a in "zyx"]
    sums = table.group_by("neuron").aggregate(
        [("id", "count"), ("volume_nm3", "sum"), ("cable_nm", "sum"), *low, *high]
    )
    # the thickest soma of a neuron's objects
    soma = table.filter(pc.is_valid(table["soma_radius_nm"]))
    soma = soma.sort_by(
        [("neuron", "ascending"), ("soma_radius_nm", "descending"), ("id", "ascending")]
    )
    names = soma["neuron"].to_numpy()
    first = np.r_[True, names[1:] != names[:-1]] if len(names) else np.zeros(0, bool)
    soma = soma.filter(pa.array(first))
    soma = soma.select(["neuron", "soma_radius_nm", "soma_z_nm", "soma_y_nm", "soma_x_nm"])
    makes = (
        synapses.filter(pc.not_equal(synapses["pre"], _NOBODY))
        .group_by(["pre", "id"])
        .aggregate([])
    )
    makes = makes.group_by("pre").aggregate([("id", "count")]).rename_columns(["neuron", "pre_n"])
    gets = synapses.filter(pc.not_equal(synapses["post"], _NOBODY)).group_by("post")
    gets = gets.aggregate([("id", "count")]).rename_columns(["neuron", "post_n"])
    whole = sums.join(soma, "neuron", join_type="left outer")
    whole = whole.join(makes, "neuron", join_type="full outer")
    whole = whole.join(gets, "neuron", join_type="full outer").sort_by("neuron")
    source = {
        "id": "neuron", "volume_nm3": "volume_nm3_sum", "cable_nm": "cable_nm_sum",
        "pre_synapses": "pre_n", "post_synapses": "post_n", "objects": "id_count",
        **{f"{a}0_nm": f"{a}0_nm_min" for a in "zyx"},
        **{f"{a}1_nm": f"{a}1_nm_max" for a in "zyx"},
    }  # fmt: skip
    columns = []
    for field in NEURONS:
        column = whole[source.get(field.name, field.name)]
        if field.name in ("pre_synapses", "post_synapses", "objects"):
            column = pc.fill_null(column, 0)
        columns.append(column.cast(field.type))
    return pa.table(columns, schema=NEURONS)
