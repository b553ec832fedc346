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
import os
import shutil
import time
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
from petavox.errors import BadInput
from petavox.provenance import digest, record
from petavox.segment.links import Links, pack
from petavox.segment.unionfind import PartitionedUnion
from petavox.segment.votes import Rule, contingency, decide, partners, touching
from petavox.settings import Settings, ZyxSetting
from petavox.space import Block, Box, Grid, zyx
from petavox.stages import tables
from petavox.stages.block_labels import BlockLabels, is_block_labels
from petavox.stages.chain import require_chain, require_memory
from petavox.stages.reconcile_proof import proof_of
from petavox.stages.relabel import Relabel, RelabelSettings, grid_of, write_lookup
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
    require_chain(
        {Relabel.name: out},
        {Votes.name: links},
        [objects],
        ledger=ledger,
        overwrite=overwrite,
        driver=[lookup],
    )
    relabel = Relabel(
        RelabelSettings(block=settings.block, pyramid=settings.pyramid),
        reads={"objects": objects, "lookup": lookup},
        writes={"labels": out},
    )
    require_memory([votes, relabel], ledger=ledger, engine=engine)
    run_stage(votes, **how)
    proof = merge(votes, lookup, ledger)
    relabel.settings = relabel.settings.model_copy(update={"lookup_key": str(made_by(lookup))})
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
        sources(
            __name__,
            "petavox.segment.unionfind",
            "petavox.stages.reconcile_proof",
            "petavox.stages.relabel",
        ),
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
        proof = proof_of(
            votes.writes["links"],
            grid,
            lookup,
            union,
            ledger.counters(votes.name),
            proof_links=settings.proof_links,
            packed=is_block_labels(votes.reads["objects"]),
        )
        proof |= facts
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
    # from here, so that a run that is moved as a whole still finds them
    objects = votes.reads["objects"]
    source = {"path": os.path.relpath(objects, lookup.parent), "key": made_by(objects)}
    state.finish(lookup, {**made, "key": key, "proof": proof, "objects": source})
    return proof
