"""Reconcile: one segmentation from blocks that were segmented each by itself.

    petavox reconcile objects.blocks final.zarr --workers 4

    votes    each block decides on its three upper faces: a table of links, a table of contacts
    merge    union-find over the accepted links, in the driver, by ranges of ids
    relabel  final ids into one volume with its pyramid

Every face is decided once, by the block below it; the final id is the smallest member's. At the
end the run proves its result and prints the proof.

What it is: the join of petavox.segment (votes, links, unionfind) to blocks and tables. What it is
not: those sciences.

Two kinds of input: labels of overlapping blocks (petavox.stages.block_labels), which vote on the
voxels that both know; or one volume that was segmented in blocks without overlap, whose objects
vote with the two planes of voxels on either side of each face.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from petavox import volume
from petavox.blocks.content import made_by
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.outcome import Limits
from petavox.blocks.task import Context, Costs, Counters
from petavox.errors import BadInput, WorkFailed
from petavox.merging import merged
from petavox.provenance import digest, record
from petavox.segment.links import Links, pack
from petavox.segment.unionfind import PartitionedUnion, components, distinct, look_up
from petavox.segment.votes import Rule, contingency, decide, partners, touching
from petavox.settings import Settings, ZyxSetting
from petavox.space import Block, Box, Grid, zyx
from petavox.stages import tables
from petavox.stages.block_labels import BlockLabels, is_block_labels
from petavox.stages.relabel import (
    Relabel,
    RelabelSettings,
    final_ids,
    grid_of,
    write_lookup,
)
from petavox.stages.stage import Stage, run_stage
from petavox.stages.stamps import sources
from petavox.volume import state

log = logging.getLogger("petavox")


class ReconcileSettings(Settings):
    """When two objects of neighbouring blocks are one."""

    share: float = Field(0.5, ge=0, le=1)
    """Overlap over the smaller of the two, in the voxels that both blocks know."""
    min_overlap: int = Field(1, ge=1)
    mutual: bool = True
    """Each must be the other's largest partner."""
    inside: float | None = Field(0.8, gt=0, le=1)
    """Share of an object's voxels in the overlap that lie in one of the other block, from which the
    two join even if that one has a larger partner: what one block split, the other did not."""
    min_inside: int = Field(500, ge=1)
    """Voxels that must overlap for that."""
    min_contact: int = Field(1, ge=1)
    """Voxels of a face's plane from which an object counts as reaching it (for the proof)."""
    block: ZyxSetting | None = None
    """For one volume that was segmented in blocks: their shape."""
    span_bits: int = Field(34, ge=8, le=60)
    """Ids of one range of the union-find, as a power of two."""
    max_links: int = Field(20_000_000, ge=1)
    """Links of one range that may be in memory."""
    proof_links: int = Field(20_000_000, ge=0)
    """Up to so many accepted links the merging is checked against a second, independent one."""
    pyramid: bool = True


class Votes(Stage):
    """reads: objects.  writes: links (a table: links, and contacts of objects with faces)."""

    name = "reconcile-votes"
    function = "petavox.stages.reconcile:vote_block"
    code = (
        "petavox.segment.votes",
        "petavox.segment.links",
        "petavox.cooccurrence",
        "petavox.stages.block_labels",
    )
    settings: ReconcileSettings

    def grid(self) -> Grid:
        """The objects' blocks, with their context."""
        return grid_of(self.reads["objects"], self.settings.block, context=True)

    def create(self) -> None:
        """The empty table."""
        tables.create(self.writes["links"])

    def costs(self) -> Costs:
        """Two slabs of labels and their sorting."""
        n = Box((0, 0, 0), self.grid().block).grown(self.grid().context).size
        return Costs(
            memory_bytes=60 * n + (96 << 20), read_bytes=8 * n, write_bytes=1 << 20, files=3
        )


def vote_block(block: Block, context: Context) -> Counters:
    """Decide on the faces between a block and its next ones along z, y and x."""
    settings = context.parsed(ReconcileSettings)
    rule = Rule(**{k: getattr(settings, k) for k in Rule.__dataclass_fields__})
    source = _Source(context.reads["objects"], settings)
    found, contacts, faces = [], [], 0
    for axis in range(3):
        index = list(block.index)
        index[axis] += 1
        if index[axis] >= source.grid.shape[axis]:
            continue
        faces += 1
        other = source.grid.at(index)
        a, b = source.overlap(block, other, axis)
        table = contingency(a, b)
        links = decide(table, rule, axis)
        same = links.a[links.a == links.b]
        if len(same):
            raise BadInput(
                f"object {same[0]} of {context.reads['objects']} lies on both sides of the face "
                f"between blocks {block.index} and {other.index}: the volume was not segmented in "
                f"blocks of {source.grid.block}, or is reconciled already."
            )
        found.append(links)
        sides = ((block, True, table.a, table.b), (other, False, table.b, table.a))
        for one, upper, mine, theirs in sides:
            plane = source.plane(one, axis, upper=upper)
            ids = touching(plane, min_voxels=settings.min_contact)
            contacts.append((ids, partners(ids, mine, theirs, table.overlap)))
    links = Links.joined(found)
    ids, voxels = source.own(block)
    folder = context.writes["links"]
    tables.write(tables.part(folder, block.number, "links"), links.columns())
    tables.write(
        tables.part(folder, block.number, "contacts"),
        {
            "id": np.concatenate([c[0] for c in contacts] or [np.zeros(0, np.uint64)]),
            "partner": np.concatenate([c[1] for c in contacts] or [np.zeros(0, np.uint64)]),
        },
    )
    tables.write(tables.part(folder, block.number, "objects"), {"id": ids, "voxels": voxels})
    return {
        "faces": faces,
        "objects": len(ids),
        "pairs": len(links),
        "links": int(links.accepted.sum()),
        "contacts": sum(len(c[0]) for c in contacts),
    }


class _Source:
    """Labels of blocks or one volume, as ids that are unique everywhere."""

    def __init__(self, path: str, settings: ReconcileSettings) -> None:
        self.blocks = BlockLabels.open(path) if is_block_labels(path) else None
        self.volume = None if self.blocks is not None else volume.open(path)
        self.grid = grid_of(path, settings.block, context=True)

    def ids(self, block: Block, box: Box) -> np.ndarray:
        """What a block says about a box, uint64."""
        if self.blocks is not None:
            return pack(block.number, self.blocks.read(block, box))
        assert self.volume is not None
        return self.volume.read(box).astype(np.uint64)

    def overlap(self, a: Block, b: Block, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Labels of both in the voxels that both know; without overlap, the planes that touch."""
        shared = a.read.intersection(b.read)
        if not shared.is_empty:
            return self.ids(a, shared), self.ids(b, shared)
        return self.plane(a, axis, upper=True), self.plane(b, axis, upper=False)

    def plane(self, block: Block, axis: int, *, upper: bool) -> np.ndarray:
        """The outermost voxels of a block's write box on one side."""
        start, stop = list(block.write.start), list(block.write.stop)
        if upper:
            start[axis] = stop[axis] - 1
        else:
            stop[axis] = start[axis] + 1
        return self.ids(block, Box(zyx(start), zyx(stop)))

    def own(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """Ids in a block's write box, and their voxels there."""
        ids, voxels = np.unique(self.ids(block, block.write), return_counts=True)
        return ids[ids != 0], voxels[ids != 0].astype(np.int64)


def reconcile(
    objects: str | Path,
    out: str | Path,
    *,
    ledger: Ledger,
    settings: ReconcileSettings | None = None,
    engine: Engine | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Make one labels volume `out` of the labels of blocks at `objects`; gives the proof.

    The tables go to `out`.links and `out`.lookup. Goes on where an earlier run of the same ended.
    Raises WorkFailed if the proof does not hold; the volume is then not marked complete.
    """
    settings, out = settings or ReconcileSettings(), Path(out)
    links, lookup = out.with_name(out.name + ".links"), out.with_name(out.name + ".lookup")
    votes = Votes(settings, reads={"objects": objects}, writes={"links": links})
    how: dict[str, Any] = {
        "ledger": ledger, "engine": engine, "limits": limits, "overwrite": overwrite, **options,
    }  # fmt: skip
    run_stage(votes, **how)
    proof = merge(votes, lookup, ledger)
    relabel = Relabel(
        RelabelSettings(
            block=settings.block, pyramid=settings.pyramid, lookup_key=str(made_by(lookup))
        ),
        reads={"objects": objects, "lookup": lookup},
        writes={"labels": out},
    )
    run_stage(relabel, **how)
    said = state.read(out) or {}
    state.finish(out, {**said.get("provenance", {}), "proof": proof})
    return proof


def merge(votes: Votes, lookup: Path, ledger: Ledger) -> dict[str, Any]:
    """Union-find over the accepted links into the lookup; gives the proof, kept with it."""
    settings = votes.settings
    key = digest(
        made_by(votes.writes["links"]),
        settings.model_dump(mode="json"),
        sources(__name__, "petavox.segment.unionfind"),
    )
    said = (state.read(lookup) if lookup.exists() else None) or {}
    if said.get("state") == "complete" and said["provenance"].get("key") == key:
        return dict(said["provenance"]["proof"])
    began = time.monotonic()
    tables.create(lookup)
    grid = votes.grid()
    work = lookup / "work"
    union = PartitionedUnion(work, span_bits=settings.span_bits, max_links=settings.max_links)
    try:
        for columns in tables.parts(votes.writes["links"], len(grid), "links"):
            ok = columns["accepted"].astype(bool)
            union.add(columns["a"][ok], columns["b"][ok])
        union.solve()
        facts = write_lookup(lookup, union.lookups())
        proof = _proof(votes, grid, lookup, union, ledger) | facts
    finally:
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - began
    made = record(
        "reconcile-merge",
        settings=settings,
        inputs={"links": str(made_by(votes.writes["links"]))},
        counters=proof,
        seconds=seconds,
    )
    state.finish(lookup, {**made, "key": key, "proof": proof})
    return proof


def _proof(
    votes: Votes, grid: Grid, lookup: Path, union: PartitionedUnion, ledger: Ledger
) -> dict[str, Any]:
    """What must hold of the result, checked; raises WorkFailed where it does not.

    Memory: the ids that reach faces, and up to `proof_links` links.
    """
    sums = ledger.counters(votes.name)
    n = grid.shape
    expected = sum((n[a] - 1) * (len(grid) // n[a]) for a in range(3))
    _require(int(sums["faces"]) == expected, f"{sums['faces']} faces decided, not {expected}")
    all_ids, cut, ending = [], [], []
    for columns in tables.parts(votes.writes["links"], len(grid), "contacts"):
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
    second = union.links <= votes.settings.proof_links
    if second:
        _second_opinion(union, lookup)
    fragments = int(sums["objects"])
    final = _count_final(votes.writes["links"], len(grid), lookup)
    return {
        "blocks": len(grid),
        "ids_unique": "yes: block number and local id in one number"
        if is_block_labels(votes.reads["objects"])
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
