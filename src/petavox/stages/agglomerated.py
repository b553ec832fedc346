"""What lies beside an agglomerated volume: its graph, objects, rule, and edits by hand.

What it is: reading of OUT.graph and OUT.edits.sqlite, and the state of every pair after the edits.
What it is not: the making of either (petavox.stages.agglomerate, petavox.stages.edit).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from petavox import volume
from petavox.errors import BadInput
from petavox.provenance import digest
from petavox.segment.agglomeration import ACCEPTED, REJECTED
from petavox.segment.rule import Rule
from petavox.settings import parse, read_yaml_mapping
from petavox.stages import tables
from petavox.stages.agglomerate import EDGES, OBJECTS, RULE, beside
from petavox.volume import state

BY_HAND = 1000.0
"""Odds of a pair that a person merged."""


@dataclass(frozen=True)
class Agglomerated:
    """An agglomerated volume.

    edges: the graph's columns.  ids, voxels, final: of all objects before agglomeration, ids
    ascending, as the rule left them.  reads: paths of image, labels and model.
    provenance: of the graph.
    """

    out: Path
    edges: Mapping[str, np.ndarray]
    ids: np.ndarray
    voxels: np.ndarray
    final: np.ndarray
    rule: Rule
    reads: Mapping[str, str]
    provenance: Mapping[str, Any]
    voxel_size: tuple[float, float, float]

    @classmethod
    def open(cls, out: str | Path) -> Agglomerated:
        """Raises BadInput if there is no graph beside `out`, NotComplete if it is unfinished."""
        graph = beside(out, "graph")
        if not (graph / EDGES).exists():
            raise BadInput(
                f"there is no agglomeration graph at {graph}: give the OUT of `petavox "
                "agglomerate`."
            )
        state.require_complete(graph)
        said = (state.read(graph) or {})["provenance"]
        objects = tables.read(graph / OBJECTS)
        size = tuple(volume.open(out).voxel_size)
        return cls(
            Path(out),
            tables.read(graph / EDGES),
            objects["id"],
            objects["voxels"],
            objects["final"],
            parse(Rule, read_yaml_mapping(graph / RULE), str(graph / RULE)),
            said["reads"],
            said,
            (size[0], size[1], size[2]),
        )

    @property
    def edits(self) -> Path:
        """The file of edits, there or not."""
        return beside(self.out, "edits.sqlite")

    def place_of(self, number: int) -> int | None:
        """Where an object before agglomeration stands in `ids`; None if there is none."""
        if not 0 <= number < 1 << 64:
            return None
        at = int(np.searchsorted(self.ids, np.uint64(number)))
        return at if at < len(self.ids) and int(self.ids[at]) == number else None

    def changes(self) -> dict[tuple[int, int], tuple[str, int]]:
        """Pair -> (decision, number of the edit), for all edits that were not undone."""
        if not self.edits.exists():
            return {}
        with usable(self.edits), closing(sqlite3.connect(self.edits)) as store:
            self.require_same_labels(store)
            if not has_table(store, "changes"):
                return {}  # whoever made the file was stopped before the first edit
            rows = store.execute(
                "select a, b, decision, edit from changes join log on log.number = changes.edit "
                "where log.undone is null order by edit"
            ).fetchall()
        return {(int(a), int(b)): (str(d), int(n)) for a, b, d, n in rows}

    def labels_digest(self) -> str:
        """Of the labels before agglomeration: the ids and voxels of all objects."""
        return digest(self.ids.tobytes(), self.voxels.tobytes())

    def require_same_labels(self, store: sqlite3.Connection) -> None:
        """Raise BadInput if the edits were made on other labels, whose ids meant other objects."""
        told = has_table(store, "labels")
        row = store.execute("select digest from labels").fetchone() if told else None
        # a file of an earlier version does not say
        if row is not None and row[0] != self.labels_digest():
            raise BadInput(
                f"the edits in {self.edits} were made on other labels than those that "
                f"{beside(self.out, 'graph')} was made of now, and the same ids may be other "
                "objects: move the file away to start anew (`petavox edit log` shows the edits)."
            )

    def edited(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The edges after all edits, and which of them a person decided on, (n,) bool.

        Pairs that a person merged and that were no candidates are added at the end, without
        scores; their place is unknown (-1, NaN).
        """
        edges = {k: np.array(v) for k, v in self.edges.items()}
        changes = self.changes()
        # of millions of edges only those are looked at one by one that may have been changed
        maybe = np.flatnonzero(np.isin(edges["a"], np.array([a for a, _ in changes], np.uint64)))
        at = {(int(edges["a"][i]), int(edges["b"][i])): int(i) for i in maybe}
        new = [pair for pair in changes if pair not in at]
        for k, v in edges.items():
            fill = _filler(k, v, new)
            edges[k] = np.concatenate([v, fill]) if len(new) else v
        at |= {pair: len(self.edges["a"]) + i for i, pair in enumerate(new)}
        by_hand = np.zeros(len(edges["a"]), bool)
        for pair, (decision, _) in changes.items():
            i = at[pair]
            by_hand[i] = True
            edges["decision"][i] = decision
            edges["odds"][i] = BY_HAND if decision == ACCEPTED else 0.0
        return edges, by_hand


@contextmanager
def usable(edits: Path) -> Iterator[None]:
    """Turns what SQLite says of a file in use, or of a damaged one, into a sentence."""
    try:
        yield
    except sqlite3.OperationalError as e:
        if getattr(e, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise BadInput(
                f"another process is writing into the file of edits {edits}; try again when it is "
                "done."
            ) from None
        if getattr(e, "sqlite_errorcode", None) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL):
            raise BadInput(f"cannot write into the file of edits {edits}: {e}.") from None
        raise _damaged(edits, e) from None
    except sqlite3.DatabaseError as e:
        raise _damaged(edits, e) from None


def _damaged(edits: Path, error: sqlite3.Error) -> BadInput:
    return BadInput(
        f"the file of edits {edits} cannot be used ({error}); put back a copy of it, or move it "
        "away to start anew."
    )


def has_table(store: sqlite3.Connection, name: str) -> bool:
    """True if the file of edits holds a table."""
    told = store.execute("select 1 from sqlite_master where type = 'table' and name = ?", (name,))
    return told.fetchone() is not None


def _filler(name: str, column: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Values of a column for pairs that were no candidates."""
    if name in "ab":
        return np.array([p["ab".index(name)] for p in pairs], np.uint64)
    if column.dtype == object:
        return np.array([REJECTED if name == "decision" else "by hand"] * len(pairs), object)
    if column.dtype.kind == "f":
        return np.full(len(pairs), 1.0 if name == "odds_asked" else np.nan)
    return np.full(len(pairs), -1, column.dtype)
