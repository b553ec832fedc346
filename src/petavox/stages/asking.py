"""Questions to a connectome on disk.

What it is: reading one table of a finished connectome and filtering it. It loads no library of
volumes, so that a question takes less time than a breath. What it is not: the making of the
tables (`petavox.stages.connectome`).
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from petavox.errors import BadInput, NotComplete
from petavox.neuron import query

NAMES = ("neurons", "synapses", "edges")
"""The tables that can be asked."""


def ask(out: Path, text: str, *, table: str = "edges") -> pa.Table:
    """Rows of a connectome's table for which the conditions hold, such as `pre=17, count>=3`.

    Raises BadInput for what is no connectome or no condition, NotComplete for a half-written one.
    """
    if table not in NAMES:
        raise BadInput(f"table '{table}' is not one of {', '.join(NAMES)}.")
    file = out / f"{table}.parquet"
    try:
        said = json.loads((out / "petavox.json").read_text())
    except (OSError, ValueError):
        raise BadInput(f"{out} is no connectome: it has no readable petavox.json.") from None
    if said.get("state") != "complete":
        raise NotComplete(f"{out} is not complete; let it finish, or make it again.")
    if not file.exists():
        raise BadInput(f"{out} is no connectome: it has no {file.name}.")
    # not pq.read_table: that loads pyarrow.dataset, and with it pandas where it is installed
    return query.query(pq.ParquetFile(file).read(), text)
