"""Landmarks: places that a person found to be the same in two sections.

What it is: the reading of their table. What it is not: what is made of them (petavox.align.stack).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from petavox.align import solve
from petavox.errors import BadInput


def read_landmarks(
    path: str | Path, pixel: float, sections: Sequence[int], corner: tuple[int, int] = (0, 0)
) -> list[solve.Matches]:
    """Matches set by hand: CSV with the columns a,ay_nm,ax_nm,b,by_nm,bx_nm.

    Places in the file are nm in the volume of sections; those returned are pixels from `corner`
    on, the volume's first pixel (y, x).  sections: those of the volume.
    Raises BadInput for a file that cannot be read, and for sections that are not there.
    """
    names = ("a", "ay_nm", "ax_nm", "b", "by_nm", "bx_nm")
    try:
        with open(path, newline="") as f:
            reader = csv.DictReader(f)
            parsed = [(reader.line_num, [float(row[n]) for n in names]) for row in reader]
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise BadInput(
            f"cannot read the landmarks {path} ({e!r}); columns: {','.join(names)}."
        ) from None
    known = set(sections)
    pairs: dict[tuple[int, int], list[list[float]]] = {}
    for line, row in parsed:
        a, b = row[0], row[3]
        if a not in known or b not in known or a == b or not np.isfinite(row).all():
            raise BadInput(
                f"line {line} of the landmarks {path} is of sections {a:g} and {b:g}: both must be "
                f"sections of the volume ({min(known)} to {max(known)}), two different ones, and "
                "the places finite."
            )
        pairs.setdefault((int(a), int(b)), []).append(row)
    out = []
    for (a, b), part in pairs.items():
        v = np.array(part) / pixel
        weight = np.full(len(v), 4.0)
        p, q = v[:, 1:3] - corner, v[:, 4:6] - corner
        out.append(solve.Matches(a, b, p, q, weight, 100.0))
    return out
