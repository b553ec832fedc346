"""Suspects: a table of the places where an agglomeration is most likely wrong.

What it is: the join of petavox.segment.suspects to the graph beside an agglomerated volume, with
places, volumes and a command that shows each. What it is not: the ranking.
"""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import AlreadyExists
from petavox.segment.suspects import By, suspects
from petavox.stages.agglomerated import Agglomerated
from petavox.stages.table_files import table_format, write_table


def suspects_table(out: str | Path, *, by: By = "bits") -> dict[str, np.ndarray]:
    """All suspects of the agglomerated volume at `out`, the worst first; columns of one length.

    Edits by hand count: what a person decided is no suspect.
    """
    known = Agglomerated.open(out)
    edges, by_hand = known.edited()
    found = suspects(edges, known.ids, known.voxels, by=by, decided=by_hand)
    total = max(int(known.voxels.sum()), 1)
    rows = found["edge"]
    um3 = math.prod(known.voxel_size) / 1e9
    place = {k: edges[k][rows] for k in ("z", "y", "x", "z_nm", "y_nm", "x_nm")}
    return {
        "rank": np.arange(1, len(rows) + 1),
        "kind": found["kind"],
        "a": edges["a"][rows],
        "b": edges["b"][rows],
        "object_a": found["object_a"],
        "object_b": found["object_b"],
        **place,
        "odds": edges["odds"][rows],
        "chance": found["chance"],
        "at_stake_um3": found["voxels"] * um3,
        "bits": found["bits"] / total,
        "pairs": found["pairs"],
        "show": np.array(
            [
                _show(known, [edges[k][i] for k in "zyx"], edges["a"][i], edges["b"][i])
                for i in rows
            ],
            dtype=str,
        ),
    }


def _show(known: Agglomerated, place: list[Any], a: Any, b: Any) -> str:
    """The command that opens one place, with both objects selected."""
    words = ["petavox", "view", known.reads["image"], "--labels", known.reads["labels"]]
    words += [
        "--at",
        *(str(int(p)) for p in place),
        "--select",
        str(int(a)),
        "--select",
        str(int(b)),
    ]
    return shlex.join(words)


def write_suspects(
    out: str | Path,
    table: str | Path,
    *,
    top: int | None = None,
    by: By = "bits",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the first `top` suspects (None: all) as .csv or .parquet; gives the figures."""
    path = Path(table)
    table_format(path)
    if path.exists() and not overwrite:
        raise AlreadyExists(f"{path} is there already; choose another name, or pass --overwrite.")
    columns = suspects_table(out, by=by)
    every = len(columns["rank"])
    columns = {k: v[:top] for k, v in columns.items()}
    write_table(path, columns)
    kinds = columns["kind"]
    return {
        "suspects": every,
        "written": len(kinds),
        "splits": int((kinds == "split").sum()),
        "mergers": int((kinds == "merger").sum()),
        "errors_expected": round(float(columns["chance"].sum()), 2),
        "bits_expected": float(columns["bits"].sum()),
        "first": str(columns["show"][0]) if len(kinds) else "-",
        "table": str(path),
    }
