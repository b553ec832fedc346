"""Further places: where else to ask about a pair of objects that meet in several.

A flood that was cut in two by a poor section says nothing at the widest contact if that is where
the section is; two large objects meet elsewhere too. The contacts of a pair are taken cell by cell
of a lattice; each cell has its own widest face, and of those the widest ones that lie apart are
asked about, each on its own.

What it is: the choice of places from contacts by cells, and one row of scores for a pair from
those of its places. What it is not: contacts (petavox.segment.candidates), or scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from petavox.segment.candidates import Contacts
from petavox.segment.rule import Rule, odds


def further(
    cells: Contacts,
    *,
    most: int,
    apart: float,
    voxel_size: Sequence[float],
    min_faces: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `cells` at which to ask, and the number of each among the places of its pair.

    cells: a row for each pair and cell, sorted by (a, b), as of `contacts(..., cell=...)`.
    most: places of a pair.  apart: nm between any two of them.  min_faces: of a cell's contact.
    The first place of a pair is that of `joined(cells)`: the widest, then the nearest to both,
    then the one with most such faces. Of the others the widest, then those with most faces.
    """
    first = np.lexsort(
        (np.arange(len(cells)), -cells.tied, cells.distance, -cells.width, cells.b, cells.a)
    )
    start = np.flatnonzero(_new(cells.a[first], cells.b[first]))
    stop = np.append(start[1:], len(first))
    place = np.stack([cells.z, cells.y, cells.x], 1) * np.asarray(voxel_size, np.float64)
    rows: list[int] = []
    numbers: list[int] = []
    for i, k in zip(start.tolist(), stop.tolist(), strict=True):
        chosen = [int(first[i])]
        rest = first[i + 1 : k]
        rest = rest[cells.faces[rest] >= min_faces] if most > 1 else rest[:0]
        rest = rest[np.lexsort((rest, -cells.faces[rest], -cells.width[rest]))]
        for row in rest.tolist():
            if len(chosen) == most:
                break
            gaps = np.linalg.norm(place[chosen] - place[row], axis=1)
            if gaps.min() >= apart:
                chosen.append(row)
        rows += chosen
        numbers += range(len(chosen))
    return np.array(rows, np.int64), np.array(numbers, np.int64)


def with_places(
    columns: Mapping[str, np.ndarray],
    cells: Contacts,
    *,
    most: int,
    apart: float,
    faces: int,
    voxel_size: Sequence[float],
) -> dict[str, np.ndarray]:
    """The pairs with a row for each place at which they are asked about; `place` numbers those.

    columns: of pairs, as of petavox.segment.prior.known_of, with `ask`; place 0 is where each
    lies.  cells, most, apart, faces, voxel_size: as for `further`. The rows of further places have
    their own voxel, width and distance, and all else from their pair; they stand at the end.
    """
    out = dict(columns) | {"place": np.zeros(len(columns["a"]), np.int64)}
    if most == 1:
        return out
    rows, numbers = further(cells, most=most, apart=apart, voxel_size=voxel_size, min_faces=faces)
    rows, numbers = rows[numbers > 0], numbers[numbers > 0]
    at = {
        (a, b): i
        for i, (a, b, ask) in enumerate(
            zip(*(columns[k].tolist() for k in ("a", "b", "ask")), strict=True)
        )
        if ask
    }
    pairs = zip(cells.a[rows].tolist(), cells.b[rows].tolist(), strict=True)
    of = np.array([at.get(p, -1) for p in pairs], np.int64)
    rows, numbers, of = rows[of >= 0], numbers[of >= 0], of[of >= 0]
    more = {k: np.asarray(v)[of] for k, v in columns.items()} | {"place": numbers}
    for axis, size in zip("zyx", voxel_size, strict=True):
        more[axis] = getattr(cells, axis)[rows]
        more[f"{axis}_nm"] = (more[axis] + 0.5) * size
    more["width_nm"], more["distance_nm"] = cells.width[rows], cells.distance[rows]
    return {k: np.concatenate([v, more[k]]) for k, v in out.items()}


def best_places(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """One row for each pair, sorted by (a, b), from rows for each of its places.

    scores: columns of rows with the scores and `place`. The place with the largest odds by the
    published rule speaks for its pair, whatever rule decides later; of equal ones, and of those
    without scores, the first. `places` is how many were asked about; fovs add up.
    """
    order = np.lexsort((scores["place"], -odds(Rule(), scores), scores["b"], scores["a"]))
    rows = {k: np.asarray(v)[order] for k, v in scores.items()}
    first = np.flatnonzero(_new(rows["a"], rows["b"]))
    out = {k: v[first] for k, v in rows.items()}
    if len(first):
        out["fovs"] = np.add.reduceat(rows["fovs"], first)
    out["places"] = np.diff(np.append(first, len(order)))
    return out


def _new(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """True for the first row of each pair, of sorted rows."""
    new = np.ones(len(a), bool)
    new[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
    return new
