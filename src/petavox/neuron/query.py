"""Questions to a table: `pre=17, count>=3`.

What it is: a small language of conditions, all of which must hold, on the columns of one Arrow
table. What it is not: SQL; the Parquet files open in DuckDB, polars and pandas for that.

>>> parse("pre=17, count >= 3")
[('pre', '=', '17'), ('count', '>=', '3')]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from petavox.errors import BadInput

_COMPARE: dict[str, Callable[..., Any]] = {
    "=": pc.equal,
    "!=": pc.not_equal,
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    ">": pc.greater,
    "<": pc.less,
}
_TERM = re.compile(r"\s*([A-Za-z_][A-Za-z_0-9]*)\s*(!=|>=|<=|==|=|>|<)\s*(\S+)\s*")


def parse(text: str) -> list[tuple[str, str, str]]:
    """Conditions (column, comparison, value), separated by commas or `and`."""
    out = []
    for part in re.split(r",|\band\b", text):
        found = _TERM.fullmatch(part)
        if found is None:
            raise BadInput(
                f"'{part.strip()}' in the query is no condition such as pre=17 or count>=3; "
                "separate several by commas."
            )
        column, compare, value = found.groups()
        out.append((column, "=" if compare == "==" else compare, value))
    return out


def query(table: pa.Table, text: str) -> pa.Table:
    """The rows for which all conditions hold. Raises BadInput for an unknown column or value."""
    for column, compare, value in parse(text):
        if column not in table.column_names:
            raise BadInput(
                f"there is no column '{column}' here; there are {', '.join(table.column_names)}."
            )
        kind = table.schema.field(column).type
        try:
            number = pa.scalar(value).cast(kind)
        except pa.ArrowInvalid:
            raise BadInput(f"'{value}' in the query is no value of '{column}' ({kind}).") from None
        table = table.filter(_COMPARE[compare](table[column], number))
    return table
