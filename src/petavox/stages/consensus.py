"""Consensus of several segmentations of the same voxels, block by block.

    petavox consensus forward.zarr reverse.zarr agreed.zarr
    petavox consensus one.zarr two.zarr three.zarr agreed.zarr --share 0.34 --least 2

    parts    each block counts the voxels of every combination of objects: a table of blocks
    ids      the sum of the tables, and each part's object, in the driver
    write    each block looks its parts up

What it is: the driver that joins petavox.segment.consensus (two, without a share) and
petavox.segment.ensemble (with one) to volumes, with a proof of counts. What it is not: that
science, or the blocks (petavox.stages.consensus_stages). Subvolumes of blocks that were not
reconciled yet can be agreed on one by one: the inputs are then labels of blocks, and so is the
output.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from petavox.blocks.content import made_by
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.outcome import Limits
from petavox.errors import BadInput, WorkFailed
from petavox.merging import merged
from petavox.provenance import digest
from petavox.segment.ensemble import held_together
from petavox.segment.parts import NO_PARTS, Parts, added
from petavox.stages import tables
from petavox.stages.block_labels import is_block_labels
from petavox.stages.candidates import OVERLAPS
from petavox.stages.chain import require_chain, require_memory
from petavox.stages.consensus_stages import (
    CODE,
    IDS,
    ConsensusOfBlocks,
    ConsensusSettings,
    CountParts,
    WriteConsensus,
    counts_of,
    decided,
    ids_of,
    parts_in,
)
from petavox.stages.stage import run_stage
from petavox.stages.stamps import sources
from petavox.volume import places, state


def consensus_of(
    passes: Sequence[str | Path],
    out: str | Path,
    *,
    ledger: Ledger,
    settings: ConsensusSettings | None = None,
    engine: Engine | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Make `out`, the consensus of the labels at `passes`; gives the proof of counts.

    Volumes give a volume (tables go to `out`.parts and `out`.ids); labels of blocks give labels of
    blocks. Goes on where an earlier run of the same ended. Raises WorkFailed if the counts do not
    add up; the volume is then not marked complete.
    """
    settings, out = settings or ConsensusSettings(), Path(out)
    _check_number(len(passes), settings)
    how: dict[str, Any] = {
        "ledger": ledger, "engine": engine, "limits": limits, "overwrite": overwrite, **options,
    }  # fmt: skip
    reads = {f"pass{i}": path for i, path in enumerate(passes, 1)}
    blockwise = [is_block_labels(p) for p in passes]
    if all(blockwise):
        stage = ConsensusOfBlocks(settings, reads=reads, writes={"labels": out})
        require_chain({stage.name: out}, {}, passes, ledger=ledger, overwrite=overwrite)
        run_stage(stage, **how)
        return {k: int(v) for k, v in ledger.counters(stage.name).items()}
    if any(blockwise):
        raise BadInput(
            f"{passes[blockwise.index(True)]} holds labels of blocks, "
            f"{passes[blockwise.index(False)]} one volume: reconcile the first, or give all of "
            "one kind."
        )
    count = CountParts(
        # the tables do not depend on what is decided on them
        ConsensusSettings(block=settings.block),
        reads=reads,
        writes={"parts": out.with_name(out.name + ".parts")},
    )
    place = out.with_name(out.name + ".ids")
    require_chain(
        {WriteConsensus.name: out},
        {count.name: count.writes["parts"]},
        passes,
        ledger=ledger,
        overwrite=overwrite,
        driver=[place],
    )
    write = WriteConsensus(settings, reads=reads | {"ids": place}, writes={"labels": out})
    require_memory([count, write], ledger=ledger, engine=engine)
    run_stage(count, **how)
    proof = _decide(count, settings, place)
    write.settings = settings.model_copy(update={"ids_key": str(made_by(place))})
    run_stage(write, **how)
    written = int(ledger.counters(write.name)["labelled_voxels"])
    if written != proof["voxels_kept"]:
        state.begin(out)
        raise WorkFailed(
            f"{out} holds {written:,} labelled voxels, the table of parts {proof['voxels_kept']:,}."
            " This is a defect of petavox, or the inputs changed meanwhile; make it again."
        )
    a, b, voxels = held_together(*ids_of(str(place / IDS)))
    tables.write(out / OVERLAPS, {"a": a, "b": b, "voxels": voxels})
    said = state.read(out) or {}
    named = [_seen_from(out, write.reads[name]) for name in reads]
    state.finish(out, {**said.get("provenance", {}), "proof": proof, "passes": named})
    return proof


def _seen_from(out: Path, path: str) -> str:
    """The path of a pass from where the output lies: both may be moved as a whole."""
    return path if places.is_url(path) else os.path.relpath(path, out.absolute().parent)


def _check_number(passes: int, settings: ConsensusSettings) -> None:
    if passes < 2:
        raise BadInput(f"a consensus needs two segmentations or more, not {passes}.")
    if passes > 2 and settings.share is None:
        raise BadInput(
            f"{passes} segmentations are given: without --share the consensus is one of two. Give "
            "--share 0.34 (or another one) to join their parts by what they hold together."
        )
    if settings.least > passes:
        raise BadInput(
            f"least is {settings.least}, but there are {passes} segmentations: nothing would be "
            "left."
        )


def _decide(count: CountParts, settings: ConsensusSettings, place: Path) -> dict[str, Any]:
    """The objects of all parts, written; and what must hold of them, counted."""
    key = digest(
        made_by(count.writes["parts"]), settings.min_size, settings.share, settings.least,
        sources(__name__, "petavox.stages.consensus_stages", *CODE),
    )  # fmt: skip
    said = (state.read(place) if place.exists() else None) or {}
    if said.get("state") == "complete" and said["provenance"].get("key") == key:
        return dict(said["provenance"]["proof"])
    tables.create(place)

    def together(some: list[Parts]) -> Parts:
        total = added(some)
        _require_memory(len(total), settings.max_parts)
        return total

    parts = tables.parts(count.writes["parts"], len(count.grid()))
    total = merged((parts_in(columns) for columns in parts), NO_PARTS, together)
    ids = decided(total, settings)
    columns = {f"pass{i}": column for i, column in enumerate(total.labels.T, 1)}
    tables.write(place / IDS, columns | {"voxels": total.voxels, "id": ids})
    kept = ids > 0
    proof = counts_of(total) | {
        "parts": len(total),
        "parts_kept": int(kept.sum()),
        "objects": len(np.unique(ids[kept])),
        "voxels_kept": int(total.voxels[kept].sum()),
        "voxels_dropped": int(total.voxels[~kept].sum()),
    }
    if settings.share is None:
        proof["kept_their_id"] = int((ids[kept] == total.labels[kept, 0]).sum())
        proof["new_ids"] = int(kept.sum()) - proof["kept_their_id"]
    state.finish(place, {"stage": "consensus-ids", "key": key, "proof": proof})
    return proof


def _require_memory(parts: int, most: int) -> None:
    if parts > most:
        raise BadInput(
            f"the segmentations have over {parts:,} combinations of objects, more than max_parts "
            f"{most:,}: raise max_parts, or make the consensus of labels of blocks, before they "
            "are reconciled."
        )
