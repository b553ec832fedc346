"""The proof of a reconciliation: what must hold of its result, checked on the tables it left.

What it is: counts, ends of every link compared, and a second, independent merging. What it is not:
the merging itself (petavox.stages.reconcile).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import WorkFailed
from petavox.merging import merged
from petavox.segment.unionfind import PartitionedUnion, components, distinct, look_up
from petavox.space import Grid
from petavox.stages import tables
from petavox.stages.relabel import final_ids


def proof_of(
    links: str,
    grid: Grid,
    lookup: Path,
    union: PartitionedUnion,
    sums: Mapping[str, Any],
    *,
    proof_links: int,
    packed: bool,
) -> dict[str, Any]:
    """What must hold of the result, checked; raises WorkFailed where it does not.

    links: the table of votes.  grid: of the blocks.  sums: counters of the votes.  proof_links: up
    to so many accepted links are merged a second time.  packed: ids hold their block's number.
    Memory: the ids that reach faces, and up to `proof_links` links.
    """
    n = grid.shape
    expected = sum((n[a] - 1) * (len(grid) // n[a]) for a in range(3))
    _require(int(sums["faces"]) == expected, f"{sums['faces']} faces decided, not {expected}")
    all_ids, cut, ending = [], [], []
    for columns in tables.parts(links, len(grid), "contacts"):
        ids, partner = columns["id"], columns["partner"]
        all_ids.append(np.unique(ids))
        final_id, final_partner = final_ids(lookup, ids), final_ids(lookup, partner)
        cut.append(np.unique(final_id[(partner > 0) & (final_id != final_partner)]))
        ending.append(np.unique(final_id[partner == 0]))
    reach = np.unique(np.concatenate(all_ids))
    cut_final = np.unique(np.concatenate(cut))
    ends = np.setdiff1d(np.concatenate(ending), cut_final)
    for a, b in union.accepted():
        _require(
            bool(np.array_equal(final_ids(lookup, a), final_ids(lookup, b))),
            "two linked objects have different final ids",
        )
    second = union.links <= proof_links
    if second:
        _second_opinion(union, lookup)
    fragments = int(sums["objects"])
    final = _count_final(links, len(grid), lookup)
    return {
        "blocks": len(grid),
        "ids_unique": "yes: block number and local id in one number"
        if packed
        else "as in the input volume",
        "faces_decided": expected,
        "faces_decided_once": True,
        "pairs": int(sums["pairs"]),
        "links_accepted": union.links,
        "objects_of_blocks": fragments,
        "objects_final": final,
        "connected_through_links": "every object, by a second merging" if second else "ends only",
        "order_independent": "same result from shuffled links" if second else "not checked",
        "largest_range_links": union.most,
        "cut_before": len(reach),
        "cut_after": len(cut_final),
        "share_cut_before": len(reach) / max(1, fragments),
        "share_cut_after": len(cut_final) / max(1, final),
        "end_at_a_face": len(ends),
    }


def _count_final(links: str, blocks: int, lookup: Path) -> int:
    """Distinct final ids in the write boxes; holds one number for each merged object."""

    def blockwise() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for columns in tables.parts(links, blocks, "objects"):
            yield columns["id"], final_ids(lookup, columns["id"])

    joined = merged(
        (final[final != ids] for ids, final in blockwise()),
        np.zeros(0, np.uint64),
        lambda some: distinct(np.concatenate(some)),
    )
    # the smallest member may lie in the context of its block only: then it is in no table
    unchanged, there = 0, 0
    for ids, final in blockwise():
        mine = ids[final == ids]
        unchanged += len(mine)
        # the table is sorted: a search for each id, not a sort of the table for each block
        there += int((look_up(mine, joined, np.zeros_like(joined)) == 0).sum())
    return unchanged + len(joined) - there


def _second_opinion(union: PartitionedUnion, lookup: Path) -> None:
    """Merge all links again, shuffled and at once, and compare."""
    pieces = list(union.accepted())
    if not pieces:
        return
    a = np.concatenate([p[0] for p in pieces])
    b = np.concatenate([p[1] for p in pieces])
    order = np.random.default_rng(0).permutation(len(a))
    ids, roots = components(b[order], a[order])
    _require(
        bool(np.array_equal(final_ids(lookup, ids), roots)),
        "a second merging of the same links, shuffled, gives other objects",
    )
    changed = [ids for ids, _ in union.lookups()]
    known = np.concatenate(changed) if changed else np.zeros(0, np.uint64)
    _require(bool(np.isin(known, ids).all()), "an object was merged without a link")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise WorkFailed(
            f"the proof of reconciliation does not hold: {what}. This is a defect of petavox, or "
            "the tables were damaged; the volume is not marked complete."
        )
