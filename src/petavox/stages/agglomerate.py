"""Agglomerate: objects that the network, asked again, holds to be one, become one.

    petavox agglomerate objects.zarr image.zarr neurons.zarr --model fib25.safetensors

    candidates  each block finds the pairs that come close, and where to decide     OUT.candidates
    pairs       the driver adds them up and gives each to the block it lies in      OUT.pairs
    scores      each block resegments its pairs: all of the floods                  OUT.scores
    graph       every pair with scores and decision, by a rule                      OUT.graph
    relabel     final ids into one volume                                           OUT

With another rule or other odds only the last two are done again.

What it is: the join of petavox.segment (candidates, resegment, rule) to volumes and blocks. What
it is not: those sciences, or the fitting of a rule (petavox.stages.calibrate).
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from petavox import volume
from petavox.blocks.content import made_by
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.outcome import Limits
from petavox.provenance import digest, record, write_atomically
from petavox.segment.agglomeration import ACCEPTED, decided
from petavox.segment.places import best_places
from petavox.segment.resegment import ResegmentSettings
from petavox.segment.rule import Rule
from petavox.segment.unionfind import PartitionedUnion
from petavox.settings import NmSetting, Settings
from petavox.stages import tables
from petavox.stages.candidates import Candidates, CandidateSettings, group_pairs, objects
from petavox.stages.chain import require_chain, require_memory
from petavox.stages.labels import labels_of
from petavox.stages.pair_scores import ResegmentBlockSettings, ScorePairs
from petavox.stages.relabel import Relabel, RelabelSettings, write_lookup
from petavox.stages.stage import run_stage
from petavox.stages.stamps import sources
from petavox.volume import state

log = logging.getLogger("petavox")

EDGES, OBJECTS, RULE, PRIOR = "edges.parquet", "objects.parquet", "rule.json", "prior.json"
CODE = (
    "petavox.stages.agglomerate",
    "petavox.stages.relabel",
    *(f"petavox.segment.{m}" for m in ("agglomeration", "contraction", "features", "places")),
    *(f"petavox.segment.{m}" for m in ("rule", "unionfind")),
)
"""What decides which pairs become one, and writes it down."""


class AgglomerateSettings(Settings):
    """A request to agglomerate."""

    candidates: CandidateSettings = Field(default_factory=CandidateSettings)
    resegment: ResegmentSettings = Field(default_factory=ResegmentSettings)
    precision: Literal["f32", "bf16", "int8"] = "f32"
    voxel_size: NmSetting | None = None
    rule: Rule = Field(default_factory=Rule)
    span_bits: int = Field(34, ge=8, le=60)
    """Ids of one range of the union-find, as a power of two."""
    pyramid: bool = True


def beside(out: str | Path, what: str) -> Path:
    """The place of a table that belongs to an output."""
    return Path(out).with_name(f"{Path(out).name}.{what}")


def score_pairs(
    labels: str | Path,
    image: str | Path,
    out: str | Path,
    *,
    model: str | Path,
    settings: AgglomerateSettings,
    how: dict[str, Any],
) -> ScorePairs:
    """Candidates, pairs and scores beside `out`; what an earlier run finished is kept.

    how: ledger, engine, limits, overwrite and further options of run_stage.
    """
    s = settings
    find = Candidates(
        s.candidates.model_copy(update={"voxel_size": s.voxel_size}),
        reads={"labels": labels, "image": image},
        writes={"candidates": beside(out, "candidates")},
    )
    pairs = beside(out, "pairs")
    score = ScorePairs(
        ResegmentBlockSettings(
            block=s.candidates.block,
            resegment=s.resegment,
            precision=s.precision,
            voxel_size=s.voxel_size,
        ),
        reads={"image": image, "labels": labels, "model": model, "pairs": pairs},
        writes={"scores": beside(out, "scores")},
    )
    score.grid()  # what does not fit is said before any work
    require_memory([find, score], ledger=how["ledger"], engine=how.get("engine"))
    run_stage(find, **how)
    count, asked = group_pairs(find, pairs)
    log.info("%d pairs of objects come close, the network is asked about %d", count, asked)
    run_stage(score, **how)
    return score


def scored_edges(score: ScorePairs) -> dict[str, np.ndarray]:
    """All pairs with their scores as columns, sorted by (a, b)."""
    parts = list(tables.parts(score.writes["scores"], len(score.grid())))
    return best_places({k: np.concatenate([p[k] for p in parts]) for k in parts[0]})


def agglomerate(
    labels: str | Path,
    image: str | Path,
    out: str | Path,
    *,
    model: str | Path,
    ledger: Ledger,
    settings: AgglomerateSettings | None = None,
    engine: Engine | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    calibrate: Any = None,
    calibrate_prior: Any = None,
    **options: Any,
) -> dict[str, Any]:
    """Make `out`, the labels with the accepted pairs merged; gives the figures.

    calibrate: a function (edges) -> Rule that replaces the rule of the settings.
    calibrate_prior: a function (edges) -> Rule for the prior of other volumes, kept in the graph.
    Goes on where an earlier run of the same ended.
    """
    settings, out = settings or AgglomerateSettings(), Path(out)
    how: dict[str, Any] = {
        "ledger": ledger, "engine": engine, "limits": limits, "overwrite": overwrite, **options,
    }  # fmt: skip
    require_chain(
        {Relabel.name: out},
        {Candidates.name: beside(out, "candidates"), ScorePairs.name: beside(out, "scores")},
        [labels, image, model],
        ledger=ledger,
        overwrite=overwrite,
        driver=[beside(out, what) for what in ("pairs", "graph", "lookup")],
    )
    relabel = Relabel(
        RelabelSettings(block=settings.candidates.block, pyramid=settings.pyramid),
        reads={"objects": labels, "lookup": beside(out, "lookup")},
        writes={"labels": out},
    )
    labels_of(str(labels))  # what is no volume of labels is said as such, before its blocks
    require_memory([relabel], ledger=ledger, engine=engine)
    score = score_pairs(labels, image, out, model=model, settings=settings, how=how)
    edges = scored_edges(score)
    rule = settings.rule if calibrate is None else calibrate(edges)
    cost = ledger.counters(score.name)
    figures = _merge(out, score, edges, rule, settings, cost)
    if calibrate_prior is not None:
        text = calibrate_prior(edges).model_dump_json(indent=1)
        write_atomically(beside(out, "graph") / PRIOR, text + "\n")
    key = str(made_by(beside(out, "graph")))
    relabel.settings = relabel.settings.model_copy(update={"lookup_key": key})
    run_stage(relabel, **how)
    figures |= _seconds(ledger, (Candidates.name, ScorePairs.name, Relabel.name), figures["asked"])
    said = state.read(out) or {}
    state.finish(out, {**said.get("provenance", {}), "agglomeration": figures})
    return figures


def _seconds(ledger: Ledger, steps: Sequence[str], asked: int) -> dict[str, Any]:
    """What each step cost, summed over its blocks (of all workers)."""
    spent = {step: sum(ledger.seconds(step)) for step in steps}
    out = {f"{k.replace('-', '_')}_seconds": round(v, 2) for k, v in spent.items()}
    return out | {"seconds_per_pair_asked": round(spent[ScorePairs.name] / max(asked, 1), 3)}


def _merge(
    out: Path,
    score: ScorePairs,
    edges: dict[str, np.ndarray],
    rule: Rule,
    settings: AgglomerateSettings,
    cost: dict[str, Any],
) -> dict[str, Any]:
    """Decide on all pairs, write the graph and the lookup; gives the figures."""
    graph, lookup = beside(out, "graph"), beside(out, "lookup")
    key = digest(made_by(score.writes["scores"]), rule.model_dump(mode="json"), sources(*CODE))
    said = (state.read(graph) if graph.exists() else None) or {}
    if said.get("state") == "complete" and said["provenance"].get("key") == key:
        return dict(said["provenance"]["figures"])
    began = time.monotonic()
    voxel = math.prod(volume.open(score.reads["labels"]).voxel_size)
    edges = decided(edges, rule, voxel)
    ok = edges["decision"] == ACCEPTED
    tables.create(graph)
    tables.create(lookup)
    union = PartitionedUnion(lookup / "work", span_bits=settings.span_bits)
    try:
        union.add(edges["a"][ok], edges["b"][ok])
        union.solve()
        facts = write_lookup(lookup, union.lookups())
        ids, voxels, _ = objects(beside(out, "candidates"), len(score.grid()))
        final = union.find(ids)
    finally:
        shutil.rmtree(lookup / "work", ignore_errors=True)
    merged, place = np.unique(final, return_inverse=True)
    after = np.bincount(place, voxels) if len(ids) else np.zeros(1)
    tables.write(graph / EDGES, edges)
    tables.write(graph / OBJECTS, {"id": ids, "voxels": voxels, "final": final})
    write_atomically(graph / RULE, rule.model_dump_json(indent=1) + "\n")
    kinds, counts = np.unique(edges["decision"].astype(str), return_counts=True)
    fovs, pairs, asked = int(cost.get("fovs", 0)), len(ok), int(np.sum(edges["ask"]))
    figures: dict[str, Any] = {
        "rule": rule.kind,
        "pairs": pairs,
        "asked": asked,
        "places_asked": int(np.sum(edges["places"][edges["ask"]])),
        **{k.replace(" ", "_"): int(n) for k, n in zip(kinds, counts, strict=True)},
        "objects_before": len(ids),
        "objects": len(merged),
        "largest_share_before": float(voxels.max(initial=0) / max(voxels.sum(), 1)),
        "largest_share": float(after.max() / max(voxels.sum(), 1)),
        "fovs": fovs,
        "fovs_per_pair_asked": fovs / max(asked, 1),
        "flood_seconds": float(cost.get("flood_seconds", 0.0)),
        "graph": str(graph),
        **rule.fitted,
    }
    made = record(
        "agglomerate-graph",
        settings=settings,
        inputs=score.inputs(),
        counters=facts,
        seconds=time.monotonic() - began,
    )
    state.finish(lookup, {"stage": "agglomerate-lookup", "key": key})
    paths = {k: str(v) for k, v in score.reads.items()}
    state.finish(graph, {**made, "reads": paths, "key": key, "figures": figures})
    return figures
