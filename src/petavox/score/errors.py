"""Which objects are wrong, by how much, and where: tables of objects, splits and mergers.

What it is: two tables from pair tables and spots. `objects_table` has a row for every result
object and truth body; `errors_table` has a row for every split and merger with a place to look
at. What it is not: proofreading; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from petavox.score import overlap
from petavox.score.pairs import PairTable, sums_by
from petavox.score.spots import Spots

Columns = dict[str, np.ndarray]
"""A table: column name -> (n,) array."""


def objects_table(table: PairTable) -> Columns:
    """A row for each result object and each truth body of the table, ids above 0.

    side: "result" or "truth".  id: uint64.  voxels: all of it.  voxels_matched: of it on the
    other side's objects (above 0).  parts: objects of the other side it meets.  main: the one
    it shares most with (0 if none).  main_share: that share of voxels_matched (0 if none).
    bits: what it adds to VI, over voxels with t > 0 and a > 0: to merge for a result object, to
    split for a body; the columns add up to VI.
    """
    both = table.labelled()
    split, merge = overlap.bits(both)
    sides = [
        _side("result", table.result, table.voxels, both.result, both.truth, both.voxels, merge),
        _side("truth", table.truth, table.voxels, both.truth, both.result, both.voxels, split),
    ]
    return {name: np.concatenate([s[name] for s in sides]) for name in sides[0]}


def _side(
    name: str,
    every: np.ndarray,
    every_voxels: np.ndarray,
    own: np.ndarray,
    other: np.ndarray,
    voxels: np.ndarray,
    bits: np.ndarray,
) -> Columns:
    ids, sizes, _ = sums_by(every, every_voxels)
    ids, sizes = ids[ids > 0], sizes[ids > 0]
    at = np.searchsorted(ids, own)
    matched, parts, cost = np.zeros(len(ids), np.int64), np.zeros(len(ids), np.int64), None
    np.add.at(matched, at, voxels)
    np.add.at(parts, at, 1)
    cost = np.bincount(at, weights=bits, minlength=len(ids))
    main, share = np.zeros(len(ids), np.uint64), np.zeros(len(ids), np.float64)
    order = np.lexsort((other, -voxels, at))
    met, first = np.unique(at[order], return_index=True)
    main[met] = other[order][first]
    share[met] = voxels[order][first] / matched[met]
    return {
        "side": np.full(len(ids), name),
        "id": ids,
        "voxels": sizes,
        "voxels_matched": matched,
        "parts": parts,
        "main": main,
        "main_share": share,
        "bits": cost,
    }


def errors_table(
    table: PairTable,
    *,
    least: int,
    overlaps: Spots,
    mergers: Spots,
    splits: Spots,
    voxel_size: tuple[float, float, float],
) -> Columns:
    """A row for every split and merger, the largest first.

    table: the voxels that count; take the table with the boundary tolerance, or every object
    that is one voxel too wide is a merger. An object has a part where it shares at least
    `least` voxels with an object of the other side; k parts are k - 1 errors, each named by the
    part that is not the largest.
    kind: "merger" (a result object over two bodies) or "split" (a body in two result objects).
    object: the result object of a merger, the body of a split.  main, part: of the other side;
    part is the smaller.  voxels: shared by object and part.  faces: voxel faces where part and
    main touch inside the object; 0 if they do not touch within the volume.
    z, y, x: voxel to look at: the contact with main, else that with another part, else a place
    within the part.  z_nm, y_nm, x_nm: its centre.
    """
    both = table.labelled()
    rows: list[dict[str, Any]] = []
    for kind, own, other, touch in (
        ("merger", both.result, both.truth, mergers),
        ("split", both.truth, both.result, splits),
    ):
        rows += _errors(kind, own, other, both.voxels, least, overlaps, touch)
    rows.sort(key=lambda r: (-r["voxels"], r["kind"], r["object"], r["part"]))
    return _columns(rows, voxel_size)


def count_errors(table: PairTable, least: int) -> tuple[int, int]:
    """(splits, mergers): parts of at least `least` voxels beyond the first of each object."""
    both = table.labelled()
    big = both.where(both.voxels >= least)
    return (
        len(big) - len(np.unique(big.truth)),
        len(big) - len(np.unique(big.result)),
    )


def _errors(
    kind: str,
    own: np.ndarray,
    other: np.ndarray,
    voxels: np.ndarray,
    least: int,
    overlaps: Spots,
    touch: Spots,
) -> list[dict[str, Any]]:
    big = voxels >= least
    own, other, voxels = own[big], other[big], voxels[big]
    order = np.lexsort((other, -voxels, own))
    own, other, voxels = own[order], other[order], voxels[order]
    places = {tuple(k): i for i, k in enumerate(touch.keys.tolist())}
    inside = {tuple(k): i for i, k in enumerate(overlaps.keys.tolist())}
    rows = []
    ids, first, size = np.unique(own, return_index=True, return_counts=True)
    for this, begin, count in zip(ids.tolist(), first.tolist(), size.tolist(), strict=True):
        parts = other[begin : begin + count].tolist()
        for rank, part in enumerate(parts[1:], 1):
            near = [q for q in parts if q != part]  # main first, then by size
            at = next((places[k] for q in near if (k := _key(this, part, q)) in places), None)
            main_contact = places.get(_key(this, part, parts[0]))
            if at is None:
                pair = (this, part) if kind == "merger" else (part, this)
                place = overlaps.place[inside[pair]]
            else:
                place = touch.place[at]
            rows.append(
                {
                    "kind": kind,
                    "object": this,
                    "main": parts[0],
                    "part": part,
                    "voxels": int(voxels[begin + rank]),
                    "faces": 0 if main_contact is None else int(touch.weight[main_contact]),
                    "place": place,
                }
            )
    return rows


def _key(outer: int, one: int, other: int) -> tuple[int, int, int]:
    return (outer, min(one, other), max(one, other))


def _columns(rows: list[dict[str, Any]], voxel_size: tuple[float, float, float]) -> Columns:
    types: Mapping[str, Any] = {
        "object": np.uint64,
        "main": np.uint64,
        "part": np.uint64,
        "voxels": np.int64,
        "faces": np.int64,
    }
    out: Columns = {"kind": np.array([r["kind"] for r in rows], dtype="<U6")}
    out |= {name: np.array([r[name] for r in rows], dtype) for name, dtype in types.items()}
    place = np.array([r["place"] for r in rows], np.int64).reshape(-1, 3)
    for i, axis in enumerate("zyx"):
        out[axis] = place[:, i]
        out[f"{axis}_nm"] = (place[:, i] + 0.5) * voxel_size[i]
    return out
