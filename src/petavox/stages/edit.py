"""Edit: splits and merges by hand on the agglomeration graph, without a server.

    OUT.edits.sqlite   log       number, when, action, what was asked for, undone
                       changes   edit, a, b, decision: what the edit did to pairs
                       labels    digest of the labels whose objects the edits name

The state of a pair is what its last edit that was not undone says; without one, the rule's. Voxels
change only when `apply` writes a new volume.

What it is: the log, and its application. What it is not: the cut (petavox.segment.edits).
"""

from __future__ import annotations

import datetime
import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from petavox import volume
from petavox.blocks.content import made_by
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.outcome import Limits
from petavox.errors import BadInput
from petavox.provenance import digest, write_atomically
from petavox.segment.agglomeration import ACCEPTED, REJECTED, final_of
from petavox.segment.edits import min_cut
from petavox.segment.unionfind import PartitionedUnion
from petavox.settings import ZyxSetting
from petavox.space import Box, zyx
from petavox.stages import tables
from petavox.stages.agglomerate import beside
from petavox.stages.agglomerated import Agglomerated, has_table, usable
from petavox.stages.chain import require_chain
from petavox.stages.relabel import Relabel, RelabelSettings, write_lookup
from petavox.stages.stage import run_stage
from petavox.stages.stamps import sources
from petavox.volume import state

CODE = (
    "petavox.stages.edit",
    "petavox.stages.agglomerated",
    "petavox.stages.relabel",
    "petavox.segment.unionfind",
)
"""What applies the edits to the graph."""

_SCHEMA = """
begin immediate;
create table if not exists log (
    number integer primary key, moment text not null, action text not null,
    asked text not null, undone text);
create table if not exists changes (
    edit integer not null references log(number), a text not null, b text not null,
    decision text not null);
create table if not exists labels (digest text primary key);
commit;
"""
"""In one transaction: a file of edits has all tables, or none."""


@contextmanager
def _store(known: Agglomerated) -> Iterator[sqlite3.Connection]:
    """The file of edits; all of a block is written, or nothing."""
    with usable(known.edits), closing(sqlite3.connect(known.edits)) as store:
        store.executescript(_SCHEMA)
        known.require_same_labels(store)
        with store:
            store.execute(
                "insert into labels select ? where not exists (select * from labels)",
                (known.labels_digest(),),
            )
            yield store


def object_at(known: Agglomerated, text: str) -> int:
    """The object before agglomeration that `text` names: an id, or a voxel z,y,x."""
    if "," in text:
        labels = volume.open(known.reads["labels"])
        try:
            place = zyx([int(v) for v in text.split(",")], "place")
        except ValueError:
            raise BadInput(f"'{text}' is neither an id nor a voxel z,y,x.") from None
        if not labels.box.contains_point(place):
            raise BadInput(f"voxel {text} is outside of {labels.path}, whose box is {labels.box}.")
        found = int(labels.read(Box.of_shape((1, 1, 1), place)).item())
        if found == 0:
            raise BadInput(f"there is no object at voxel {text} of {labels.path}.")
        return found
    if not (text.isascii() and text.isdigit()):
        raise BadInput(f"'{text}' is neither an id nor a voxel z,y,x.")
    number = int(text)
    if known.place_of(number) is None:
        raise BadInput(
            f"{number} is no object of {known.reads['labels']}: objects are named by their ids "
            "before agglomeration (a merged object's id is that of its smallest member)."
        )
    return number


def merge(out: str | Path, a: str, b: str) -> dict[str, Any]:
    """Join the objects that hold `a` and `b` (ids or voxels)."""
    known = Agglomerated.open(out)
    one, other = sorted((object_at(known, a), object_at(known, b)))
    edges, _ = known.edited()
    ok = edges["decision"] == ACCEPTED
    roots = final_of(np.array([one, other], np.uint64), edges["a"][ok], edges["b"][ok])
    if roots[0] == roots[1]:
        raise BadInput(f"{one} and {other} are one object already ({roots[0]}): nothing to merge.")
    number = _record(known, "merge", {"a": one, "b": other}, [(one, other, ACCEPTED)])
    return {"edit": number, "merged": [int(r) for r in roots], "into": int(min(roots))}


def split(out: str | Path, these: Sequence[str], those: Sequence[str]) -> dict[str, Any]:
    """Part `these` from `those` (ids or voxels) by the weakest set of accepted pairs."""
    known = Agglomerated.open(out)
    sides = [[object_at(known, t) for t in side] for side in (these, those)]
    edges, _ = known.edited()
    ok = np.flatnonzero(edges["decision"] == ACCEPTED)
    if any(i in sides[1] for i in sides[0]):
        raise BadInput(
            f"{sides[0]} and {sides[1]} share an object that one flood made: it cannot be split on "
            "the graph. Segment it again there with a consensus, or with other thresholds."
        )
    cut = ok[min_cut(edges["a"][ok], edges["b"][ok], edges["odds"][ok], *sides)]
    pairs = [(int(edges["a"][i]), int(edges["b"][i]), REJECTED) for i in cut]
    number = _record(known, "split", {"these": sides[0], "those": sides[1]}, pairs)
    return {
        "edit": number,
        "pairs_cut": len(pairs),
        "odds_cut": float(edges["odds"][cut].sum()),
        "cut": "; ".join(f"{a} - {b}" for a, b, _ in pairs),
    }


def _record(
    known: Agglomerated, action: str, asked: dict[str, Any], pairs: list[tuple[int, int, str]]
) -> int:
    with _store(known) as store:
        row = store.execute(
            "insert into log (moment, action, asked) values (?, ?, ?)",
            (_now(), action, json.dumps(asked)),
        )
        number = int(row.lastrowid or 0)
        # as text: SQLite's whole numbers end at 2^63
        store.executemany(
            "insert into changes values (?, ?, ?, ?)",
            [(number, str(a), str(b), decision) for a, b, decision in pairs],
        )
    return number


def undo(out: str | Path) -> dict[str, Any]:
    """Take back the last edit that was not taken back yet."""
    known = Agglomerated.open(out)
    with _store(known) as store:
        row = store.execute(
            "select number, action, asked from log where undone is null "
            "order by number desc limit 1"
        ).fetchone()
        if row is None:
            raise BadInput(f"there is no edit of {out} to undo.")
        store.execute("update log set undone = ? where number = ?", (_now(), row[0]))
    return {"undone": row[0], "action": row[1], "asked": row[2]}


def log(out: str | Path) -> list[dict[str, Any]]:
    """All edits in order."""
    known = Agglomerated.open(out)
    if not known.edits.exists():
        return []
    # of other labels too: to look up what was done
    with usable(known.edits), closing(sqlite3.connect(known.edits)) as store:
        if not has_table(store, "log"):
            return []
        rows = store.execute(
            "select number, moment, action, asked, undone, "
            "(select count(*) from changes where edit = number) from log order by number"
        ).fetchall()
    names = ("edit", "moment", "action", "asked", "undone", "pairs")
    return [dict(zip(names, row, strict=True)) for row in rows]


def mapping(out: str | Path, file: str | Path) -> dict[str, Any]:
    """Write which neuron each object before agglomeration belongs to, after all edits.

    file: .csv or .parquet with columns id, neuron, of every object whose neuron has another id.
    `petavox connectome WIRING --mapping FILE` takes it, where WIRING was made with the labels
    before agglomeration; no voxel is read.
    """
    known, file = Agglomerated.open(out), Path(file)
    edges, _ = known.edited()
    ok = edges["decision"] == ACCEPTED
    final = final_of(known.ids, edges["a"][ok], edges["b"][ok])
    moved = final != known.ids
    table = pa.table(
        {"id": pa.array(known.ids[moved], pa.uint64()),
         "neuron": pa.array(final[moved], pa.uint64())}
    )  # fmt: skip
    sink = pa.BufferOutputStream()
    if file.suffix == ".csv":
        pa_csv.write_csv(table, sink)
    elif file.suffix == ".parquet":
        pq.write_table(table, sink)
    else:
        raise BadInput(f"{file} ends in '{file.suffix}': a mapping is written as .csv or .parquet.")
    write_atomically(file, sink.getvalue().to_pybytes())
    return {"objects": len(final), "mapped": int(moved.sum()), "neurons": len(np.unique(final))}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def apply(
    out: str | Path,
    new: str | Path,
    *,
    ledger: Ledger,
    block: ZyxSetting = (128, 128, 128),
    engine: Engine | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Write the volume `new` as the graph of `out` is after all edits."""
    known = Agglomerated.open(out)
    lookup = beside(new, "lookup")
    require_chain(
        {Relabel.name: new},
        {},
        [out, known.reads["labels"]],
        ledger=ledger,
        overwrite=overwrite,
        driver=[lookup],
    )
    edges, by_hand = known.edited()
    ok = edges["decision"] == ACCEPTED
    changes = sorted((*pair, d) for pair, (d, _) in known.changes().items())
    key = digest(made_by(beside(out, "graph")), changes, sources(*CODE))
    said = (state.read(lookup) if lookup.exists() else None) or {}
    if said.get("state") != "complete" or said["provenance"].get("key") != key:
        tables.create(lookup)
        union = PartitionedUnion(lookup / "work")
        try:
            union.add(edges["a"][ok], edges["b"][ok])
            union.solve()
            write_lookup(lookup, union.lookups())
        finally:
            shutil.rmtree(lookup / "work", ignore_errors=True)
        state.finish(lookup, {"stage": "edit-lookup", "key": key, "graph": str(out)})
    relabel = Relabel(
        RelabelSettings(block=block, lookup_key=key),
        reads={"objects": known.reads["labels"], "lookup": lookup},
        writes={"labels": new},
    )
    run_stage(relabel, ledger=ledger, engine=engine, limits=limits, overwrite=overwrite, **options)
    final = final_of(known.ids, edges["a"][ok], edges["b"][ok])
    edits = [e for e in log(out) if e["undone"] is None]
    said = state.read(new) or {}
    state.finish(new, {**said.get("provenance", {}), "edits": edits, "graph": str(out)})
    return {
        "edits": len(edits),
        "pairs_by_hand": int(by_hand.sum()),
        "objects_before": len(np.unique(known.final)),
        "objects": len(np.unique(final)),
        "volume": str(new),
    }
