"""Synapses as lines from the pre to the post side.

What it is: a reader of synapse tables, the search for a place inside each partner, and the lines.
What it is not: detection, or a writer of tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from petavox.errors import BadInput
from petavox.neuron.tables import SYNAPSES, checked
from petavox.space import Box, zyx
from petavox.stages.connectome import read_table
from petavox.view.annotations import LINE, Annotations, Property
from petavox.volume import Volume

COLUMNS = ("z_nm", "y_nm", "x_nm", "pre", "post")
PLACES = pa.schema([SYNAPSES.field(c) for c in COLUMNS])
REACH_NM = 150.0
"""How far from the cleft a side is looked for."""


@dataclass(frozen=True)
class Synapses:
    """One row a synapse and partner.

    place: (n, 3) nm, zyx, of the cleft.  pre, post: (n,) uint64, 0 = nobody.
    size, score: (n,) float32; NaN where the table does not say.
    """

    place: np.ndarray
    pre: np.ndarray
    post: np.ndarray
    size: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.place)


def read(path: str | Path) -> Synapses:
    """The table of `petavox synapses`, or any with its columns (Parquet or .csv).

    Raises BadInput for a file that is no such table.
    """
    try:
        table = read_table(Path(path))
    except BadInput as e:
        raise BadInput(f"{path} is no table of synapses: {e}") from None
    missing = [c for c in COLUMNS if c not in table.column_names]
    if missing:
        raise BadInput(f"{path} has no column {', '.join(missing)}: it is no table of synapses.")
    checked(table, PLACES, str(path))

    def column(name: str, kind: type) -> np.ndarray:
        if name not in table.column_names:
            return np.full(table.num_rows, np.nan, kind)
        values = table[name].fill_null(0) if kind is np.uint64 else table[name]
        return np.asarray(values.to_numpy(), kind)

    return Synapses(
        np.stack([column(c, np.float64) for c in COLUMNS[:3]], axis=1),
        column("pre", np.uint64),
        column("post", np.uint64),
        column("size", np.float32),
        column("score", np.float32),
    )


def sides(synapses: Synapses, labels: Volume, reach_nm: float = REACH_NM) -> np.ndarray:
    """A place in each partner beside the cleft, (n, 2, 3) nm, zyx: pre, post.

    It is the voxel of the partner, within `reach_nm` of the cleft, that lies nearest to the middle
    of the partner's voxels there: inside, and not far. Where a partner is nobody, or not there,
    it is the cleft itself.
    """
    size = np.array(tuple(labels.voxel_size))
    out = np.repeat(synapses.place[:, None], 2, axis=1)
    reach = zyx(np.ceil(reach_nm / size).astype(int).tolist())
    for row, place in enumerate(synapses.place):
        at = zyx(np.floor(place / size).astype(int).tolist())
        box = Box.of_shape((1, 1, 1), at).grown(reach).intersection(labels.box)
        if box.is_empty:
            continue
        values = labels.read(box)
        for side, partner in enumerate((synapses.pre[row], synapses.post[row])):
            if not partner:
                continue
            centres = (np.argwhere(values == partner) + np.array(box.start) + 0.5) * size
            centres = centres[np.linalg.norm(centres - place, axis=1) <= reach_nm]
            if len(centres):
                off = np.linalg.norm(centres - centres.mean(0), axis=1)
                out[row, side] = centres[off.argmin()]
    return out


def lines(synapses: Synapses, ends: np.ndarray) -> Annotations:
    """The synapses as lines between `ends` (see `sides`), with size and score, by partner."""
    properties = {
        name: Property(values.astype(np.float32))
        for name, values in (("score", synapses.score), ("size", synapses.size))
        if np.isfinite(values).any()
    }
    return Annotations(LINE, ends, properties, {"pre": synapses.pre, "post": synapses.post})
