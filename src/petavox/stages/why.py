"""Why: what made one object of an agglomerated volume.

What it is: the members of an object, the pairs that join them with their scores, the network and
the rule, the seeds and blocks they came from, and edits by hand; gathered from the files beside
the volumes. What it is not: a computation.

    seeds of `petavox segment`            LABELS/origins.json
    seeds of blocks, then reconciled      LABELS.lookup says where the blocks are; OBJECTS.origins
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from petavox.blocks.content import made_by
from petavox.errors import BadInput
from petavox.segment.agglomeration import ACCEPTED, final_of, members
from petavox.segment.links import block_of, local_of
from petavox.stages import tables
from petavox.stages.agglomerate import beside
from petavox.stages.agglomerated import Agglomerated
from petavox.stages.relabel import INDEX
from petavox.volume import places, state

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


def origins(labels: str, ids: np.ndarray) -> dict[int, dict[str, Any]]:
    """Where objects of a labels volume came from: id -> facts; ids without a record are left out.

    ids: uint64.
    """
    found = places.read(labels, "origins.json")
    if found is not None:
        known = json.loads(found)["origins"]
        return {
            int(i): {"seed": known[str(int(i))]["seed"], "fovs": known[str(int(i))]["fovs"]}
            for i in ids
            if str(int(i)) in known
        }
    return _of_blocks(beside(labels, "lookup"), np.asarray(ids, np.uint64))


def _of_blocks(lookup: Path, ids: np.ndarray) -> dict[int, dict[str, Any]]:
    """Seeds of the objects of blocks that were reconciled into each of some ids.

    Every file is read once, however many ids are asked for.
    """
    said = (state.read(lookup) or {}) if lookup.is_dir() else {}
    source = (said.get("provenance") or {}).get("objects")
    if said.get("state") != "complete" or source is None:
        return {}
    objects = (lookup.parent / source["path"]).resolve()
    seeds = beside(objects, "origins")
    if not seeds.exists():
        return {}
    if made_by(objects) != source["key"]:
        return {int(i): {"seed": f"{objects} was segmented again since"} for i in ids}
    packed, final = _members(lookup, ids)
    blocks = block_of(packed)
    order = np.lexsort((packed, blocks))
    numbers, starts = np.unique(blocks[order], return_index=True)
    found: dict[int, list[str]] = {int(i): [] for i in ids}
    fovs = dict.fromkeys(found, 0)
    for block, rows in zip(numbers.tolist(), np.split(order, starts[1:]), strict=True):
        table = tables.read(tables.part(seeds, block))
        owners = dict(zip(local_of(packed[rows]).tolist(), final[rows].tolist(), strict=True))
        for i in np.flatnonzero(np.isin(table["local"], local_of(packed[rows]))):
            owner = owners[int(table["local"][i])]
            place = ",".join(str(int(table[f"seed_{k}"][i])) for k in "zyx")
            found[owner].append(f"{place} (block {block})")
            fovs[owner] += int(table["fovs"][i])
    names, counts = np.unique(final, return_counts=True)
    parts = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return {
        i: {"seed": "; ".join(text), "fovs": fovs[i], "objects_of_blocks": parts[i]}
        for i, text in found.items()
    }


def _members(lookup: Path, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objects of blocks, and into which of some ids each was reconciled."""
    packed, final = [ids], [ids]
    for file in places.read_json(lookup, INDEX)["files"]:  # type: ignore[index]
        table = tables.read(lookup / file["file"])
        here = np.isin(table["final"], ids)
        packed.append(table["id"][here])
        final.append(table["final"][here])
    return np.concatenate(packed), np.concatenate(final)
