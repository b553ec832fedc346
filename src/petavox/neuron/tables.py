"""The connectome's tables: their schemas, and the counting of voxels block by block.

What it is: Arrow schemas, checks against them, and `count_voxels` / `sum_counts`, which give the
same volumes and boxes whatever the blocks. What it is not: graphs or files of other programs.

    objects    one row a base object:  id, voxels, box
    synapses   one row a synapse and partner: a synapse with three posts has three rows of one id
    neurons    one row a neuron:       id, volume, cable, soma, synapse counts, box
    edges      one row a pair:         pre, post, count, total size

All positions are nm, zyx; boxes are half-open, nm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from petavox.errors import BadInput
from petavox.merging import merged
from petavox.space import Zyx

_POSITION = [("z_nm", pa.float64()), ("y_nm", pa.float64()), ("x_nm", pa.float64())]
_PLACE = tuple(pa.schema(_POSITION))
_BOX = [(f"{axis}{end}_nm", pa.float64()) for end in (0, 1) for axis in "zyx"]

SYNAPSES = pa.schema(
    [
        ("id", pa.uint64()),
        *_POSITION,
        ("pre", pa.uint64()),
        ("post", pa.uint64()),
        ("size", pa.float64()),
        ("score", pa.float64()),
    ]
)
"""size: voxels or nm^3 of the cleft, as the maker says.  score: 0 to 1.  pre, post: 0 = nobody."""

SITES = pa.schema([SYNAPSES.field(n) for n in ("id", "z_nm", "y_nm", "x_nm", "pre", "post")])
"""Synapses of which only the places and partners count."""

_SKELETON = [
    ("cable_nm", pa.float64()),
    ("soma_radius_nm", pa.float64()),
    ("soma_z_nm", pa.float64()),
    ("soma_y_nm", pa.float64()),
    ("soma_x_nm", pa.float64()),
]

OBJECTS = pa.schema([("id", pa.uint64()), ("volume_nm3", pa.float64()), *_BOX, *_SKELETON])
"""Of base objects, before any proofreading. Cable and soma are null where unknown."""

NEURONS = pa.schema([*OBJECTS, pa.field("pre_synapses", pa.uint64()),
                     pa.field("post_synapses", pa.uint64()),
                     pa.field("objects", pa.uint64())])  # fmt: skip
"""pre_synapses: synapses it makes, by id.  post_synapses: rows it receives.  objects: how many
base objects it is made of."""

EDGES = pa.schema(
    [
        ("pre", pa.uint64()),
        ("post", pa.uint64()),
        ("count", pa.uint64()),
        ("total_size", pa.float64()),
    ]
)

COUNTS = np.dtype([("id", "<u8"), ("voxels", "<i8"), ("low", "<i8", 3), ("high", "<i8", 3)])
"""Voxels of objects and their boxes (voxels, zyx, half-open), in ascending order of id."""


def checked(table: pa.Table, schema: pa.Schema, what: str) -> pa.Table:
    """The columns of a schema, cast to its types; columns it does not know are dropped.

    An empty pre or post is 0, nobody. Raises BadInput naming the column that is missing, cannot be
    cast, has an empty cell (but for what skeletons tell, which may be unknown), or says of a place
    what is no number.
    """
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            raise BadInput(
                f"{what} has no column '{field.name}'. It needs {', '.join(schema.names)}; it has "
                f"{', '.join(table.column_names)}."
            )
        _require_exact(table[field.name], field, what)
        try:
            column = table[field.name].cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as e:
            raise BadInput(f"column '{field.name}' of {what} is no {field.type}: {e}.") from None
        columns.append(_without_nulls(column, field.name, what))
        if field in _PLACE:
            _require_finite(columns[-1], field.name, what)
    return pa.table(columns, schema=schema)


def _require_exact(column: pa.ChunkedArray, field: pa.Field, what: str) -> None:
    """Ids must not have gone through floating point numbers that cannot hold them."""
    if pa.types.is_integer(field.type) and pa.types.is_floating(column.type):
        largest = pc.max(column).as_py()
        if largest is not None and largest >= 2**53:
            raise BadInput(
                f"column '{field.name}' of {what} holds {largest:.0f} as {column.type}, which is "
                f"not exact from 2^53 on: ids may have been rounded. Write them as {field.type}."
            )


def _without_nulls(column: pa.ChunkedArray, name: str, what: str) -> pa.ChunkedArray:
    if not column.null_count or name in dict(_SKELETON):
        return column
    if name in ("pre", "post"):
        return pc.fill_null(column, 0)
    row = pc.index(column.is_null(), True).as_py()
    raise BadInput(
        f"column '{name}' of {what} is empty in row {row + 1}: fill it, or drop the row."
    )


def _require_finite(column: pa.ChunkedArray, name: str, what: str) -> None:
    row = pc.index(pc.is_finite(column), False).as_py()
    if row >= 0:
        raise BadInput(
            f"column '{name}' of {what} holds {column[row].as_py()} in row {row + 1}: a place is a "
            "number of nm; correct it, or drop the row."
        )


def count_voxels(labels: np.ndarray, start: Zyx) -> np.ndarray:
    """Voxels and box of every object in an array, as COUNTS.

    labels: (z, y, x) unsigned, 0 = nothing.  start: voxel coordinates of labels[0, 0, 0].
    Works on runs of equal voxels along x, of which tissue has far fewer than voxels.
    """
    if labels.size == 0:
        return np.zeros(0, COUNTS)
    new = np.empty(labels.shape, bool)
    new[..., 0] = True
    np.not_equal(labels[..., 1:], labels[..., :-1], out=new[..., 1:])
    begin = np.flatnonzero(new)
    length = np.diff(begin, append=labels.size)
    label = labels.reshape(-1)[begin]
    some = label != 0
    begin, length, label = begin[some], length[some], label[some].astype(np.uint64)
    z, y, x = np.unravel_index(begin, labels.shape)
    order = np.argsort(label, kind="stable")
    label = label[order]
    first = np.flatnonzero(np.r_[True, label[1:] != label[:-1]]) if len(label) else begin
    out = np.zeros(len(first), COUNTS)
    if len(first):
        out["id"] = label[first]
        out["voxels"] = np.add.reduceat(length[order], first)
        for axis, low, high in ((0, z, z + 1), (1, y, y + 1), (2, x, x + length)):
            out["low"][:, axis] = np.minimum.reduceat(low[order], first) + start[axis]
            out["high"][:, axis] = np.maximum.reduceat(high[order], first) + start[axis]
    return out


def add_counts(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The COUNTS of several blocks together."""
    whole = np.concatenate([np.zeros(0, COUNTS), *parts])
    if not len(whole):
        return whole
    whole = whole[np.argsort(whole["id"], kind="stable")]
    first = np.flatnonzero(np.r_[True, whole["id"][1:] != whole["id"][:-1]])
    out = np.zeros(len(first), COUNTS)
    out["id"] = whole["id"][first]
    out["voxels"] = np.add.reduceat(whole["voxels"], first)
    out["low"] = np.minimum.reduceat(whole["low"], first, axis=0)
    out["high"] = np.maximum.reduceat(whole["high"], first, axis=0)
    return out


def sum_counts(parts: Iterable[np.ndarray]) -> np.ndarray:
    """The COUNTS of many blocks together, read one after the other; no more than twice is held."""
    return merged(parts, np.zeros(0, COUNTS), add_counts, least=0)
