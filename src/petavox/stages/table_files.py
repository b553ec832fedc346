"""A table as one file, .csv or .parquet by its name: what people and notebooks open.

What it is: the writing of columns, all of them or nothing. What it is not: the tables of blocks
(petavox.stages.tables).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.provenance import write_atomically


def table_format(path: Path) -> str:
    """ "parquet" or "csv" by the suffix. Raises BadInput for another."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("parquet", "csv"):
        raise BadInput(f"{path} ends in '{path.suffix}': name the table .parquet or .csv.")
    return kind


def write_table(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write a table as Parquet or CSV, by the suffix, all of it or none."""
    if table_format(path) == "csv":
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(columns)
        values: Iterable[Any] = zip(*(c.tolist() for c in columns.values()), strict=True)
        rows.writerows(values)
        write_atomically(path, text.getvalue())
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(
        pa.table(
            {k: pa.array(v.tolist() if v.dtype.kind == "U" else v) for k, v in columns.items()}
        ),
        buffer,
    )
    write_atomically(path, buffer.getvalue())
