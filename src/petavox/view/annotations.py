"""Many points, lines or boxes as a Neuroglancer annotation source ("neuroglancer_annotations_v1").

What it is: the source's files, made on demand from arrays, or written down as shards: `info`,
cells of a spatial index in levels of detail, each annotation by its number, and those of one
object. What it is not: a layer (petavox.view.layers), or the maker of places. A few notes that fit
into an address need none of it.

Coarse levels hold a sample, so that a million synapses draw as fast as a thousand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from petavox.neuron.sharding import Sharding, ShardWriter
from petavox.progress import Progress

POINT, LINE, BOX = "POINT", "LINE", "AXIS_ALIGNED_BOUNDING_BOX"
LIMIT = 5000
"""Annotations in one cell of the index."""
LEVELS = 12

_BINARY = "application/octet-stream"


@dataclass(frozen=True)
class Property:
    """A value of each annotation.

    values: (n,) float32, uint32, uint8, or (n, 3) uint8 for a colour.  names: of a uint8's values.
    """

    values: np.ndarray
    names: Sequence[str] = ()
    description: str = ""

    @property
    def kind(self) -> str:
        """Neuroglancer's name of the type."""
        return "rgb" if self.values.ndim == 2 else self.values.dtype.name

    def info(self, name: str) -> dict[str, object]:
        """Its entry in `info`."""
        out: dict[str, object] = {"id": name, "type": self.kind}
        if self.description:
            out["description"] = self.description
        if self.names:
            out |= {"enum_values": list(range(len(self.names))), "enum_labels": list(self.names)}
        return out


@dataclass(frozen=True)
class Index:
    """A part of a source: values by id. size: bytes of all.  value: of the nth id."""

    key: str
    ids: np.ndarray
    size: int
    value: Callable[[int], bytes]


class Annotations:
    """Places with properties and the objects they belong to.

    kind: POINT, LINE or BOX.  places: (n, 1 or 2, 3) float64, nm, zyx.
    properties: name -> Property.  objects: relation -> (n,) uint64 ids; 0 = none.
    """

    def __init__(
        self,
        kind: str,
        places: np.ndarray,
        properties: Mapping[str, Property] | None = None,
        objects: Mapping[str, np.ndarray] | None = None,
        *,
        limit: int = LIMIT,
    ) -> None:
        self.kind, self.limit = kind, limit
        # wide values first, as the format wants them
        order = sorted((properties or {}).items(), key=lambda p: -p[1].values.dtype.itemsize)
        self.properties = dict(order)
        self.objects = {k: np.asarray(v, np.uint64) for k, v in (objects or {}).items()}
        self.places = np.asarray(places, np.float64)[..., ::-1]  # xyz from here on
        self._rows = self._encoded()
        self._by_object: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name, ids in self.objects.items():
            by_id = np.argsort(ids, kind="stable")
            self._by_object[name] = by_id, ids[by_id]
        self._index()

    def __len__(self) -> int:
        return len(self.places)

    def info(self) -> dict[str, Any]:
        """The `info` of the source, as files made on demand."""
        return {
            "@type": "neuroglancer_annotations_v1",
            "dimensions": {axis: [1e-9, "m"] for axis in "xyz"},
            "lower_bound": self._low.tolist(),
            "upper_bound": self._high.tolist(),
            "annotation_type": self.kind,
            "properties": [p.info(name) for name, p in self.properties.items()],
            "relationships": [{"id": name, "key": f"of_{name}"} for name in self.objects],
            "by_id": {"key": "by_id"},
            "spatial": [
                {
                    "key": f"level{level}",
                    "grid_shape": shape.tolist(),
                    "chunk_size": [self._side / 2**level] * 3,
                    "limit": limit,
                }
                for level, (shape, limit) in enumerate(zip(self._shapes, self._most, strict=True))
            ],
        }

    def get(self, name: str) -> tuple[bytes, str] | None:
        """A file of the source by its name; None if there is no such file."""
        if name == "info":
            return json.dumps(self.info()).encode(), "application/json"
        if found := re.fullmatch(r"level(\d+)/(\d+)_(\d+)_(\d+)", name):
            level, x, y, z = map(int, found.groups())
            if level >= len(self._shapes) or any(np.array((x, y, z)) >= self._shapes[level]):
                return None
            return self._several(self._cells.get((level, x, y, z), _NONE)), _BINARY
        if found := re.fullmatch(r"by_id/(\d+)", name):
            row = int(found[1])
            return (self._one(row), _BINARY) if row < len(self) else None
        if (found := re.fullmatch(r"of_(\w+)/(\d+)", name)) and found[1] in self.objects:
            return self._several(self._of(found[1], int(found[2]))), _BINARY
        return None

    def indices(self) -> Iterator[Index]:
        """The source as what its format calls indices: what is not in them is empty."""
        one = self._rows.itemsize
        for level, shape in enumerate(self._shapes):
            cells = [c for c in self._cells if c[0] == level]
            rows = [self._cells[c] for c in cells]
            yield Index(
                f"level{level}",
                morton(np.array(cells, np.int64).reshape(-1, 4)[:, 1:], shape),
                8 * len(rows) + (one + 8) * sum(map(len, rows)),
                lambda i, rows=rows: self._several(rows[i]),  # type: ignore[misc]
            )
        each = one + 12 * len(self.objects)
        yield Index("by_id", np.arange(len(self), dtype=np.uint64), each * len(self), self._one)
        for name, ids in self.objects.items():
            known = np.unique(ids[ids > 0])
            yield Index(
                f"of_{name}",
                known,
                8 * len(known) + (one + 8) * int(np.count_nonzero(ids)),
                lambda i, name=name, known=known: self._several(self._of(name, int(known[i]))),  # type: ignore[misc]
            )

    def write(self, out: Path) -> None:
        """Write the source into a folder, a few files whatever the number of annotations."""
        info = self.info()
        indices = list(self.indices())
        told = {part["key"]: part for part in (*info["spatial"], *info["relationships"])}
        told["by_id"] = info["by_id"]
        total = sum(len(i.ids) for i in indices)
        with Progress(f"view {out.name}", total=total, unit="part") as progress:
            for index in indices:
                sharding = Sharding.of(ids=len(index.ids), size=index.size)
                told[index.key]["sharding"] = sharding.spec()
                folder = out / index.key
                folder.mkdir(parents=True)
                shards = sharding.places(index.ids)[0]
                order = np.argsort(shards, kind="stable")
                for some in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1):
                    if not len(some):
                        continue
                    with ShardWriter(folder, sharding, int(shards[some[0]])) as shard:
                        for i in some.tolist():
                            shard.add(int(index.ids[i]), index.value(i))
                            progress.advance(1)
        (out / "info").write_text(json.dumps(info))

    def _encoded(self) -> np.ndarray:
        """Place and properties of each, padded to 4 bytes."""
        fields: list[tuple[str, str, tuple[int, ...]]] = [("place", "<f4", self.places.shape[1:])]
        for name, p in self.properties.items():
            fields.append((name, p.values.dtype.newbyteorder("<").str, p.values.shape[1:]))
        size = np.dtype(fields).itemsize
        out = np.zeros(len(self), np.dtype([*fields, ("pad", "u1", (-size % 4,))]))
        out["place"] = self.places
        for name, p in self.properties.items():
            out[name] = p.values
        return out

    def _index(self) -> None:
        """Deal the annotations out to cells, coarse levels first."""
        some = self.places if len(self) else np.zeros((1, 1, 3))
        # a little room: nothing lies on the upper face
        self._low = np.floor(some.min((0, 1)))
        self._high = np.floor(some.max((0, 1))) + 1
        self._side = float((self._high - self._low).max())
        self._shapes: list[np.ndarray] = []
        self._cells: dict[tuple[int, int, int, int], np.ndarray] = {}
        self._most: list[int] = []
        # an order without pattern that is always the same; so are those of a cell, of which the
        # client draws the first ones where all would be too dense
        rest = np.random.default_rng(0).permutation(len(self))
        first, last = self.places.min(1) - self._low, self.places.max(1) - self._low
        at = np.zeros((len(rest), 3), np.int64)
        for level in range(LEVELS):
            side = self._side / 2**level
            shape = np.ceil((self._high - self._low) / side).astype(int)
            self._shapes.append(shape)
            if level:
                span = [(p // side).astype(int) for p in (first, last)]
                rest, at = _children(rest, at, span, shape)
            cell = (at[:, 0] * shape[1] + at[:, 1]) * shape[2] + at[:, 2]
            # cell by cell, in each by the order without pattern
            by_cell = np.argsort(cell, kind="stable")
            rest, at = rest[by_cell], at[by_cell]
            starts = np.flatnonzero(np.diff(cell[by_cell], prepend=-1))
            lengths = np.diff(starts, append=len(rest))
            taken = lengths if level + 1 == LEVELS else np.minimum(lengths, self.limit)
            self._most.append(int(taken.max(initial=1)))
            for (x, y, z), a, n in zip(
                at[starts].tolist(), starts.tolist(), taken.tolist(), strict=True
            ):
                self._cells[level, x, y, z] = rest[a : a + n]
            place = np.arange(len(rest)) - np.repeat(starts, lengths)
            left = place >= np.repeat(taken, lengths)
            rest, at = rest[left], at[left]
            if not len(rest):
                break

    def _of(self, relation: str, object_id: int) -> np.ndarray:
        """The annotations of one object, in their order."""
        if object_id >= 2**64:
            return _NONE
        order, ids = self._by_object[relation]
        one = np.uint64(object_id)
        return order[np.searchsorted(ids, one) : np.searchsorted(ids, one, "right")]

    def _several(self, rows: np.ndarray) -> bytes:
        count = len(rows).to_bytes(8, "little")
        return count + self._rows[rows].tobytes() + rows.astype("<u8").tobytes()

    def _one(self, row: int) -> bytes:
        out = self._rows[row].tobytes()
        for ids in self.objects.values():
            mine = ids[row : row + 1]
            mine = mine[mine > 0]
            out += len(mine).to_bytes(4, "little") + mine.astype("<u8").tobytes()
        return out


def _children(
    rows: np.ndarray, cells: np.ndarray, span: Sequence[np.ndarray], shape: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows, again for each of the eight cells in theirs that they reach into, and these cells.

    span: the first and the last cell (n, 3) of every annotation.  shape: of the finer grid.
    """
    low, high = (np.minimum(s[rows], shape - 1) for s in span)
    found = []
    for eighth in np.ndindex(2, 2, 2):
        finer = 2 * cells + np.array(eighth)
        here = ((finer >= low) & (finer <= high)).all(1)
        found.append((rows[here], finer[here]))
    return np.concatenate([r for r, _ in found]), np.concatenate([c for _, c in found])


def morton(cells: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """The compressed Morton code (n,) uint64 of cells (n, 3) of a grid, as precomputed has it."""
    out = np.zeros(len(cells), np.uint64)
    place = 0
    for bit in range(int(shape.max()).bit_length()):
        for axis in range(3):
            if int(shape[axis]) > 1 << bit:
                value = (cells[:, axis].astype(np.uint64) >> np.uint64(bit)) & np.uint64(1)
                out |= value << np.uint64(place)
                place += 1
    return out


_NONE = np.zeros(0, np.int64)
