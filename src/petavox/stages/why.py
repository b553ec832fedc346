"""Why: what made one object of an agglomerated volume.

What it is: the members of an object, the pairs that join them with their scores, the network and
the rule, where they came from (petavox.stages.origins), and edits by hand; gathered from the files
beside the volumes. What it is not: a computation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.segment.agglomeration import ACCEPTED, final_of, members
from petavox.stages.agglomerated import Agglomerated
from petavox.stages.origins import origins

SCORES = ("iou", "aa", "ab", "ba", "bb", "deleted_a", "deleted_b", "odds", "odds_asked")


def why(out: str | Path, wanted: int) -> dict[str, Any]:
    """All that is known of the object that holds `wanted`, an id before or after agglomeration.

    Raises BadInput if there is no such object.
    """
    known = Agglomerated.open(out)
    edges, by_hand = known.edited()
    ok = edges["decision"] == ACCEPTED
    final = final_of(known.ids, edges["a"][ok], edges["b"][ok])
    at = known.place_of(wanted)
    if at is None:
        raise BadInput(
            f"there is no object {wanted} in {out}: ids are those of {known.reads['labels']}, and "
            "a merged object has the id of its smallest member."
        )
    number = int(final[at])
    parts = members(final, known.ids, number)
    inside = np.isin(edges["a"], parts) & np.isin(edges["b"], parts)
    touching = np.isin(edges["a"], parts) != np.isin(edges["b"], parts)
    voxels = known.voxels[np.isin(known.ids, parts)]
    um3 = float(np.prod(known.voxel_size)) / 1e9
    nothing = "not found beside the labels"
    seeds = origins(known.reads["labels"], parts)
    return {
        "object": number,
        "voxels": int(voxels.sum()),
        "volume_um3": float(voxels.sum() * um3),
        "rule": known.rule.kind,
        "odds_asked": known.rule.odds,
        "labels": known.reads["labels"],
        "image": known.reads["image"],
        "model": known.reads["model"],
        "members": {str(int(i)): {"voxels": int(n)} | seeds.get(int(i), {"seed": nothing})
                    for i, n in zip(parts, voxels, strict=True)},
        "joined_by": _pairs(edges, np.flatnonzero(inside & ok), by_hand, known),
        "kept_apart_from": _pairs(edges, np.flatnonzero(touching & ~ok), by_hand, known),
    }  # fmt: skip


def _pairs(
    edges: dict[str, np.ndarray], rows: np.ndarray, by_hand: np.ndarray, known: Agglomerated
) -> dict[str, Any]:
    """Pairs with place, scores and who decided, in the order of their ids."""
    changes = known.changes()
    found = {}
    for i in rows[np.lexsort((edges["b"][rows], edges["a"][rows]))]:
        a, b = int(edges["a"][i]), int(edges["b"][i])
        facts: dict[str, Any] = {"decision": str(edges["decision"][i])}
        if by_hand[i]:
            facts |= {"by": f"edit {changes[a, b][1]}"}
        else:
            facts |= {"by": "the rule", "at": ",".join(str(int(edges[k][i])) for k in "zyx")}
            facts |= {k: round(float(edges[k][i]), 4) for k in SCORES}
            if edges["reason"][i]:
                facts |= {"reason": str(edges["reason"][i])}
        found[f"{a} - {b}"] = facts
    return found
