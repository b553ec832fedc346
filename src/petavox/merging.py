"""Many tables as one, read one after the other.

What it is: the order in which they are added, the same for every kind of table: n log n in all, and
memory that follows the sum. What it is not: the adding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def merged(
    parts: Iterable[T],
    empty: T,
    add: Callable[[list[T]], T],
    *,
    rows: Callable[[T], int] = len,  # type: ignore[assignment]
    least: int = 1 << 20,
) -> T:
    """The sum of all parts.

    empty: the sum of none.  add: one table from several, of which the first is a sum.  rows: of a
    table.  least: rows that are worth waiting for.
    Parts wait until they have more rows than the sum: so each row is added about as often as the
    sum doubles, not once for every part that follows.
    """
    total, waiting, n = empty, list[Any](), 0
    for part in parts:
        waiting.append(part)
        n += rows(part)
        if n > max(least, rows(total)):
            total, waiting, n = add([total, *waiting]), [], 0
    return add([total, *waiting])
