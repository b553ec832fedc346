"""SWC: skeletons as text, one node a line.

What it is: a reader of `id type x y z radius parent` into zyx nm. What it is not: a writer, or a
reader of radii and types.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from petavox.errors import BadInput
from petavox.score.runs import Skeleton


def read_swc(path: str | Path, *, id: int = 0, nm_per_unit: float = 1.0) -> Skeleton:
    """One skeleton from an SWC file.

    id: the skeleton's own.  nm_per_unit: 1 for files in nm, 1000 for files in micrometres; SWC
    does not say its unit.
    Raises BadInput naming the file and line for a line that is no node, a node twice, or a
    parent that is not there.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise BadInput(f"cannot read the skeleton {path}: {e}.") from None
    rows: dict[int, int] = {}
    nodes: list[tuple[float, float, float]] = []
    parents: list[tuple[int, int, int]] = []
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            node, _, x, y, z, _, parent = words
            name, above = int(node), int(parent)
            place = (float(z) * nm_per_unit, float(y) * nm_per_unit, float(x) * nm_per_unit)
        except ValueError:
            raise BadInput(
                f"{path}, line {number}: '{line.strip()}' is no SWC node "
                "(id type x y z radius parent)."
            ) from None
        if name in rows:
            raise BadInput(f"{path}, line {number}: node {name} is there twice.")
        rows[name] = len(nodes)
        if above >= 0:
            parents.append((number, len(nodes), above))
        nodes.append(place)
    if not nodes:
        raise BadInput(f"{path} holds no node.")
    edges = []
    for number, row, above in parents:
        if above not in rows:
            raise BadInput(f"{path}, line {number}: parent {above} is not in the file.")
        edges.append((row, rows[above]))
    return Skeleton(id, np.array(nodes), np.array(edges, np.int64).reshape(-1, 2))
