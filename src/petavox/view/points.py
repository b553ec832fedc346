"""Tables of places, such as errors or suspects, as a layer of points.

What it is: a reader of .csv and .parquet with columns z_nm, y_nm, x_nm. What it is not: the
tables' maker.
"""

from __future__ import annotations

import csv
import logging
import math
from pathlib import Path
from typing import Any

from petavox.errors import BadInput
from petavox.view.layers import AnnotationLayer

log = logging.getLogger("petavox")

PLACE = ("z_nm", "y_nm", "x_nm")
MOST = 2000
"""Points that one page takes; a browser holds them all in its address."""


def points_layer(path: str | Path, *, most: int = MOST) -> AnnotationLayer:
    """The first `most` rows of a table as points, named by the table; other columns are the text.

    More are left out with a warning.
    Raises BadInput for a file that is no table, or has no columns z_nm, y_nm, x_nm.
    """
    path = Path(path)
    rows = _rows(path, most + 1)
    if len(rows) > most:
        log.warning("%s has more than %d rows: the first %d are shown as points.", path, most, most)
        rows = rows[:most]
    points = []
    for number, row in enumerate(rows, 1):
        missing = [c for c in PLACE if c not in row]
        if missing:
            raise BadInput(
                f"{path} has no column {', '.join(missing)}: places are read from z_nm, y_nm, x_nm."
            )
        try:
            place = [float(row[c]) for c in PLACE]
        except (TypeError, ValueError):
            place = [math.nan]
        if not all(math.isfinite(v) for v in place):
            raise BadInput(f"{path}, row {number}: the place is not three numbers in nm.")
        text = ", ".join(
            f"{k} {v}" for k, v in row.items() if k not in PLACE and k not in ("z", "y", "x")
        )
        points.append((place, text))
    return AnnotationLayer(path.stem, points=points)


def _rows(path: Path, most: int) -> list[dict[str, Any]]:
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet"):
        raise BadInput(f"{path} ends in '{path.suffix}': points are read from .csv or .parquet.")
    try:
        if kind == ".csv":
            with open(path, newline="") as f:
                return [row for _, row in zip(range(most), csv.DictReader(f), strict=False)]
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = []
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=most):
                rows += batch.to_pylist()
                if len(rows) >= most:
                    break
        return rows[:most]
    except (OSError, ValueError, UnicodeDecodeError, csv.Error) as e:
        raise BadInput(f"cannot read the points {path}: {e}.") from None
