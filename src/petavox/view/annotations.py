"""Many points, lines or boxes as a Neuroglancer annotation source ("neuroglancer_annotations_v1").

What it is: the source's files, made on demand from arrays: `info`, cells of a spatial index in
levels of detail, each annotation by its number, and those of one object. What it is not: a layer
(petavox.view.layers), or the maker of places. A few notes that fit into an address need none of it.

Coarse levels hold a sample, so that a million synapses draw as fast as a thousand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

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

    @property
    def many(self) -> str:
        """Why there are so many files, and what to do."""
        return (
            f"each of {len(self):,} annotations, such as synapses, and each object that has some "
            "is a file of its own; look at them without --static, which needs no files"
        )

    def info(self) -> dict[str, object]:
        """The `info` of the source."""
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
                    "limit": self.limit if level + 1 < len(self._shapes) else len(self) or 1,
                }
                for level, shape in enumerate(self._shapes)
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

    def names(self) -> Iterator[str]:
        """Names of all files, for writing them down."""
        yield "info"
        for level, shape in enumerate(self._shapes):
            for x, y, z in np.ndindex(*shape):
                yield f"level{level}/{x}_{y}_{z}"
        yield from (f"by_id/{row}" for row in range(len(self)))
        for name, ids in self.objects.items():
            yield from (f"of_{name}/{i}" for i in np.unique(ids[ids > 0]).tolist())

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
        # an order without pattern that is always the same
        rest = np.random.default_rng(0).permutation(len(self))
        middle = self.places.mean(1) - self._low
        for level in range(LEVELS):
            side = self._side / 2**level
            shape = np.ceil((self._high - self._low) / side).astype(int)
            self._shapes.append(shape)
            at = np.minimum(middle[rest] // side, shape - 1).astype(np.int64)
            cell = (at[:, 0] * shape[1] + at[:, 1]) * shape[2] + at[:, 2]
            # cell by cell, in each by the order without pattern
            by_cell = np.argsort(cell, kind="stable")
            rest, at = rest[by_cell], at[by_cell]
            starts = np.flatnonzero(np.diff(cell[by_cell], prepend=-1))
            lengths = np.diff(starts, append=len(rest))
            taken = lengths if level + 1 == LEVELS else np.minimum(lengths, self.limit)
            for (x, y, z), a, n in zip(
                at[starts].tolist(), starts.tolist(), taken.tolist(), strict=True
            ):
                self._cells[level, x, y, z] = np.sort(rest[a : a + n])
            place = np.arange(len(rest)) - np.repeat(starts, lengths)
            rest = rest[place >= np.repeat(taken, lengths)]
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


_NONE = np.zeros(0, np.int64)
