"""Origins: where the objects of a labels volume came from.

    seeds of `petavox segment`            LABELS/origins.json
    objects of its --earlier              the origins of that volume
    seeds of blocks, then reconciled      LABELS.lookup says where the blocks are; OBJECTS.origins
    objects of `petavox consensus`        LABELS.ids: the objects of the passes

What it is: reading of what lies beside the volumes. What it is not: what became of the objects
since (petavox.stages.why).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from petavox.blocks.content import content_digest, made_by
from petavox.segment.links import block_of, local_of
from petavox.stages import tables
from petavox.stages.agglomerate import beside
from petavox.stages.consensus_stages import IDS, parts_in
from petavox.stages.relabel import INDEX
from petavox.volume import places, state

MOST = 8
"""Objects of a pass that are named, the largest first; of the others, how many."""


def origins(labels: str, ids: np.ndarray) -> dict[int, dict[str, Any]]:
    """Where objects of a labels volume came from: id -> facts; ids without a record are left out.

    ids: uint64.
    """
    ids = np.asarray(ids, np.uint64)
    found = places.read(labels, "origins.json")
    if found is None:
        return _of_blocks(labels, ids) or _of_passes(labels, ids)
    known = json.loads(found)["origins"]
    own = {
        int(i): {"seed": known[str(int(i))]["seed"], "fovs": known[str(int(i))]["fovs"]}
        for i in ids
        if str(int(i)) in known
    }
    others = [i for i in ids if int(i) not in own]
    return own | (_of_earlier(labels, np.array(others, np.uint64)) if others else {})


def _of_earlier(labels: str, ids: np.ndarray) -> dict[int, dict[str, Any]]:
    """The same of objects that a flood did not make but was given, with the volume they are of."""
    said = _provenance(labels)
    earlier = (said.get("settings") or {}).get("earlier") if said.get("stage") == "segment" else ""
    if not earlier:
        return {}
    made = _provenance(earlier)
    if made.get("finished", "") > said.get("finished", ""):
        again = f"{earlier} was written again since"
        return {int(i): {"seed": again, "earlier": earlier} for i in ids}
    seeds = origins(earlier, ids)
    nothing = {"seed": "not found beside the earlier labels"}
    # of a flood after a flood after a flood, the first that had the object
    return {int(i): {"earlier": earlier} | seeds.get(int(i), nothing) for i in ids}


def _provenance(path: str | Path) -> dict[str, Any]:
    """What made a finished output; empty where nothing says."""
    said = state.read(path) or {}
    return (said.get("provenance") or {}) if said.get("state") == "complete" else {}


def _of_passes(labels: str, ids: np.ndarray) -> dict[int, dict[str, Any]]:
    """Of which objects of its passes a consensus made each of some ids, with voxels."""
    said, table = _provenance(labels), beside(labels, "ids")
    if not (table / IDS).exists() or made_by(table) != (said.get("inputs") or {}).get("ids"):
        return {}
    columns = tables.read(table / IDS)
    rows = np.flatnonzero(np.isin(columns["id"], ids))
    if not len(rows):
        return {}
    rows = rows[np.argsort(columns["id"][rows], kind="stable")]
    parts = parts_in({k: v[rows] for k, v in columns.items()})
    numbers, starts = np.unique(columns["id"][rows], return_index=True)
    # one of an earlier version does not name them
    paths = said.get("passes") or [""] * parts.labels.shape[1]
    names = [f"pass {n}, {path}" if path else f"pass {n}" for n, path in enumerate(paths, 1)]
    return {
        int(i): {
            "consensus_of": {
                name: _largest(parts.labels[here, k], parts.voxels[here])
                for k, name in enumerate(names)
            }
        }
        for i, here in zip(numbers, np.split(np.arange(len(rows)), starts[1:]), strict=True)
    }


def _largest(ids: np.ndarray, voxels: np.ndarray) -> str:
    """Objects of a pass in words, the largest first."""
    names, place = np.unique(ids[ids > 0], return_inverse=True)
    sums = np.bincount(place, voxels[ids > 0], len(names)).astype(np.int64)
    order = np.argsort(-sums, kind="stable")
    said = [f"{names[i]} ({sums[i]:,} voxels)" for i in order[:MOST]]
    return "; ".join(said + [f"{len(order) - MOST} more"] * (len(order) > MOST)) or "nothing"


def _of_blocks(labels: str, ids: np.ndarray) -> dict[int, dict[str, Any]]:
    """Seeds of the objects of blocks that were reconciled into each of some ids.

    Every file is read once, however many ids are asked for.
    """
    lookup = beside(labels, "lookup")
    said = _provenance(lookup) if lookup.is_dir() else {}
    source = said.get("objects")
    if source is None and said.get("stage") == "reconcile-merge":
        source = _as_held(labels, lookup.parent)
    if source is None:
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


def _as_held(labels: str, folder: Path) -> dict[str, Any] | None:
    """The blocks of labels whose lookup is of an earlier version, which did not name them.

    They are those in the folder that hold what the labels say was in them.
    """
    held = (_provenance(labels).get("inputs") or {}).get("objects")
    for place in sorted(folder.glob("*.blocks")) if held is not None else []:
        key = made_by(place)
        if key is not None and beside(place, "origins").exists() and content_digest(place) == held:
            return {"path": place.name, "key": key}
    return None


def _members(lookup: Path, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objects of blocks, and into which of some ids each was reconciled."""
    packed, final = [ids], [ids]
    for file in places.read_json(lookup, INDEX)["files"]:  # type: ignore[index]
        table = tables.read(lookup / file["file"])
        here = np.isin(table["final"], ids)
        packed.append(table["id"][here])
        final.append(table["final"][here])
    return np.concatenate(packed), np.concatenate(final)
