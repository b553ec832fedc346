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

import functools
import logging
import math
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from petavox import volume
from petavox.blocks.content import made_by
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.outcome import Limits
from petavox.blocks.task import Context, Costs, Counters
from petavox.errors import BadInput
from petavox.provenance import digest, record, write_atomically
from petavox.segment.agglomeration import ACCEPTED, decided
from petavox.segment.candidates import Contacts, contacts, joined, no_contacts, reach
from petavox.segment.resegment import ResegmentSettings, Scores, around, radii, resegment
from petavox.segment.rule import Rule
from petavox.segment.unionfind import PartitionedUnion
from petavox.settings import NmSetting, Settings, ZyxSetting
from petavox.space import Block, Box, Grid
from petavox.stages import tables
from petavox.stages.block_labels import is_block_labels
from petavox.stages.relabel import Relabel, RelabelSettings, forget_lookups, write_lookup
from petavox.stages.stage import Stage, run_stage
from petavox.volume import state

log = logging.getLogger("petavox")

SAVE_EVERY = 60.0
"""Seconds after which the scores of an unfinished block are saved."""
EDGES, OBJECTS, RULE = "edges.parquet", "objects.parquet", "rule.json"


class CandidateSettings(Settings):
    """Which pairs of objects are judged."""

    max_distance: float = Field(100.0, ge=0)
    """nm between the surfaces of two objects; 0: only those that touch."""
    min_faces: int = Field(10, ge=1)
    """Voxel faces of contact, after both have grown into what lies between."""
    min_size: int = Field(1, ge=1)
    """Voxels; smaller objects are left as they are."""
    block: ZyxSetting = (128, 128, 128)
    """Voxels of one piece of work."""
    max_pairs: int = Field(50_000_000, ge=1)
    """Pairs that may be in the driver's memory, about 300 bytes each."""


class ResegmentBlockSettings(Settings):
    """How pairs are resegmented."""

    block: ZyxSetting = (128, 128, 128)
    resegment: ResegmentSettings = Field(default_factory=ResegmentSettings)
    precision: Literal["f32", "bf16"] = "f32"
    """Not chosen by the machine: the result must not depend on who runs a block."""
    voxel_size: NmSetting | None = None
    """nm, zyx, if the image does not say."""


class AgglomerateSettings(Settings):
    """A request to agglomerate."""

    candidates: CandidateSettings = Field(default_factory=CandidateSettings)
    resegment: ResegmentSettings = Field(default_factory=ResegmentSettings)
    precision: Literal["f32", "bf16"] = "f32"
    voxel_size: NmSetting | None = None
    rule: Rule = Field(default_factory=Rule)
    span_bits: int = Field(34, ge=8, le=60)
    """Ids of one range of the union-find, as a power of two."""
    pyramid: bool = True


class Candidates(Stage):
    """reads: labels.  writes: candidates (a table of blocks: contacts, and sizes of objects)."""

    name = "agglomerate-candidates"
    function = "petavox.stages.agglomerate:candidates_block"
    code = ("petavox.segment.candidates",)
    settings: CandidateSettings

    def grid(self) -> Grid:
        """Blocks of the labels with the context that contacts need."""
        labels = _labels(self.reads["labels"])
        context = reach(self.settings.max_distance, tuple(labels.voxel_size))
        return Grid(labels.box, self.settings.block, context)

    def create(self) -> None:
        """The empty table."""
        tables.create(self.writes["candidates"])

    def costs(self) -> Costs:
        """Labels, grown labels, distances and the places of what is empty."""
        n = Box((0, 0, 0), self.settings.block).grown(self.grid().context).size
        return Costs(
            memory_bytes=80 * n + (96 << 20), read_bytes=8 * n, write_bytes=1 << 20, files=2
        )


def candidates_block(block: Block, context: Context) -> Counters:
    """Contacts that a block owns, and the voxels of its objects."""
    settings = context.parsed(CandidateSettings)
    source = volume.open(context.reads["labels"])
    labels = source.read(block.read)
    own = block.write.slices(block.read.start)
    found = contacts(
        labels,
        max_distance=settings.max_distance,
        voxel_size=tuple(source.voxel_size),
        start=block.read.start,
        own=own,
    )
    ids, voxels = np.unique(labels[own], return_counts=True)
    keep = ids != 0
    folder = context.writes["candidates"]
    tables.write(tables.part(folder, block.number, "contacts"), found.columns())
    tables.write(
        tables.part(folder, block.number, "sizes"),
        {"id": ids[keep].astype(np.uint64), "voxels": voxels[keep].astype(np.int64)},
    )
    return {"voxels": block.write.size, "contacts": len(found)}


class ScorePairs(Stage):
    """reads: image, labels, model, pairs.  writes: scores (a table of blocks)."""

    name = "agglomerate-scores"
    function = "petavox.stages.agglomerate:scores_block"
    code = (
        "petavox.segment.resegment",
        "petavox.ffn.canvas",
        "petavox.ffn.moves",
        "petavox.ffn.predictor",
    )
    settings: ResegmentBlockSettings

    def grid(self) -> Grid:
        """The blocks of the pairs. Raises BadInput if image, labels and model do not fit."""
        from petavox.ffn.model import load_spec

        labels = _labels(self.reads["labels"])
        image = volume.open(self.reads["image"], voxel_size=self.settings.voxel_size)
        if image.kind is not volume.Kind.IMAGE or image.dtype.kind not in "uf":
            raise BadInput(f"{image.path} holds {image.kind} of type {image.dtype}, not an image.")
        if not image.box.contains(labels.box) or image.voxel_size != labels.voxel_size:
            raise BadInput(
                f"the labels {labels.path} have the box {labels.box} and voxels of "
                f"{labels.voxel_size}, the image {image.path} {image.box} and {image.voxel_size}: "
                "the image must cover the labels, voxel by voxel."
            )
        radii(self.settings.resegment, load_spec(self.reads["model"]), tuple(image.voxel_size))
        return Grid(labels.box, self.settings.block)

    def create(self) -> None:
        """The empty table."""
        tables.create(self.writes["scores"])

    def costs(self) -> Costs:
        """The box around one point, and the network."""
        from petavox.ffn.model import load_spec

        spec = load_spec(self.reads["model"])
        size = tuple(volume.open(self.reads["labels"]).voxel_size)
        n = around((0, 0, 0), radii(self.settings.resegment, spec, size)[0]).size
        return Costs(
            memory_bytes=64 * n + (512 << 20), read_bytes=9 * n, write_bytes=1 << 20, files=1
        )


def scores_block(block: Block, context: Context) -> Counters:
    """Resegment all pairs whose decision point lies in a block."""
    settings = context.parsed(ResegmentBlockSettings)
    pairs = tables.read(tables.part(context.reads["pairs"], block.number))
    image = volume.open(context.reads["image"], voxel_size=settings.voxel_size)
    labels = volume.open(context.reads["labels"])
    partial = tables.part(context.writes["scores"], block.number, "partial")
    # of an interrupted try of this very block: the folder is emptied when anything has changed
    found = _rows(tables.read(partial)) if partial.exists() else []
    saved = time.monotonic()
    if len(found) < len(pairs["a"]):
        predict = _predictor(context.reads["model"], context.device, settings.precision)
        size = tuple(labels.voxel_size)
        radius = radii(settings.resegment, predict.spec, size)[0]
        for i in range(len(found), len(pairs["a"])):
            a, b, *point = (int(pairs[k][i]) for k in "abzyx")
            box = around(point, radius).intersection(labels.box)
            found.append(
                resegment(
                    image.read(box),
                    labels.read(box),
                    a,
                    b,
                    [p - s for p, s in zip(point, box.start, strict=True)],
                    predict,
                    predict.spec,
                    voxel_size=size,
                    settings=settings.resegment,
                )
            )
            if time.monotonic() - saved >= SAVE_EVERY:
                tables.write(partial, score_columns(found, "seconds"))
                saved = time.monotonic()
    tables.write(tables.part(context.writes["scores"], block.number), pairs | score_columns(found))
    partial.unlink(missing_ok=True)
    return {
        "pairs": len(found),
        "no_score": sum(bool(s.reason) for s in found),
        "fovs": sum(s.fovs for s in found),
        "flood_seconds": round(sum(s.seconds for s in found), 3),
    }


_TYPES = {"tries_a": np.int64, "tries_b": np.int64, "fovs": np.int64, "reason": str}


def score_columns(found: list[Scores], *more: str) -> dict[str, np.ndarray]:
    """Scores as columns; without seconds, which differ from run to run, unless asked for."""
    rows = [s.row() for s in found]
    names = [k for k in Scores().row() if k != "seconds"]
    return {k: np.array([r[k] for r in rows], _TYPES.get(k, np.float64)) for k in (*names, *more)}


def _rows(columns: dict[str, np.ndarray]) -> list[Scores]:
    """Scores from columns."""
    rows = zip(*(v.tolist() for v in columns.values()), strict=True)
    return [Scores(**dict(zip(columns, row, strict=True))) for row in rows]


@functools.lru_cache(maxsize=1)
def _predictor(model: str, device: str, precision: Literal["f32", "bf16"]) -> Any:
    from petavox.ffn.devices import device_of
    from petavox.ffn.model import load_model
    from petavox.ffn.predictor import Predictor

    return Predictor(load_model(model), device=device_of(device), precision=precision)


def _labels(path: str) -> volume.Volume:
    if is_block_labels(path):
        raise BadInput(f"{path} holds labels of blocks: reconcile them first.")
    labels = volume.open(path)
    if labels.dtype.kind != "u":
        raise BadInput(f"{path} holds {labels.dtype}: labels are unsigned integers.")
    return labels


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
        s.candidates, reads={"labels": labels}, writes={"candidates": beside(out, "candidates")}
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
    run_stage(find, **how)
    count = group_pairs(find, pairs)
    log.info("%d pairs of objects to decide on", count)
    run_stage(score, **how)
    return score


def group_pairs(find: Candidates, pairs: Path) -> int:
    """Add up the contacts of all blocks; give each pair to the block of its decision point."""
    s = find.settings
    key = digest(made_by(find.writes["candidates"]), s.model_dump(mode="json"))
    said = (state.read(pairs) if pairs.exists() else None) or {}
    if said.get("state") == "complete" and said["provenance"].get("key") == key:
        return int(said["provenance"]["pairs"])
    tables.create(pairs)
    grid, folder = find.grid(), find.writes["candidates"]
    total, waiting = no_contacts(), []
    for columns in tables.parts(folder, len(grid), "contacts"):
        waiting.append(Contacts(**columns))
        if sum(map(len, waiting)) > max(1 << 20, len(total)):
            total, waiting = joined([total, *waiting]), []
            _require_memory(len(total), s.max_pairs)
    total = joined([total, *waiting])
    _require_memory(len(total), s.max_pairs)
    ids, voxels = sizes(folder, len(grid))
    size_a, size_b = (voxels[np.searchsorted(ids, k)] for k in (total.a, total.b))
    keep = (total.faces >= s.min_faces) & (np.minimum(size_a, size_b) >= s.min_size)
    voxel_size = volume.open(find.reads["labels"]).voxel_size
    place = np.stack([total.z, total.y, total.x], 1)
    index = (place - np.array(grid.total.start)) // np.array(grid.block)
    number = (index[:, 0] * grid.shape[1] + index[:, 1]) * grid.shape[2] + index[:, 2]
    columns = {
        "a": total.a,
        "b": total.b,
        **{k: place[:, i] for i, k in enumerate("zyx")},
        **{f"{k}_nm": (place[:, i] + 0.5) * n for i, (k, n) in enumerate(
            zip("zyx", voxel_size, strict=True))},
        "faces": total.faces,
        "distance_nm": total.distance,
        "size_a": size_a,
        "size_b": size_b,
    }  # fmt: skip
    order = np.flatnonzero(keep)[np.argsort(number[keep], kind="stable")]
    cuts = np.searchsorted(number[order], np.arange(len(grid) + 1))
    for n in range(len(grid)):
        rows = order[cuts[n] : cuts[n + 1]]
        tables.write(tables.part(pairs, n), {k: v[rows] for k, v in columns.items()})
    state.finish(pairs, {"stage": "agglomerate-pairs", "key": key, "pairs": len(order)})
    return len(order)


def _require_memory(pairs: int, most: int) -> None:
    if pairs > most:
        raise BadInput(
            f"over {pairs:,} pairs of objects come close, more than max_pairs {most:,}: lower "
            "max_distance, agglomerate parts of the volume, or raise max_pairs (300 bytes each)."
        )


def sizes(candidates: str | Path, blocks: int) -> tuple[np.ndarray, np.ndarray]:
    """(ids, voxels) of all objects, from the table of candidates; ids ascending."""
    ids, voxels = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    for columns in tables.parts(candidates, blocks, "sizes"):
        both = np.concatenate([ids, columns["id"]])
        ids, place = np.unique(both, return_inverse=True)
        amount = np.concatenate([voxels, columns["voxels"]])
        voxels = np.zeros(len(ids), np.int64)
        np.add.at(voxels, place, amount)
    return ids, voxels


def scored_edges(score: ScorePairs) -> dict[str, np.ndarray]:
    """All pairs with their scores as columns, sorted by (a, b)."""
    parts = list(tables.parts(score.writes["scores"], len(score.grid())))
    columns = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    order = np.lexsort((columns["b"], columns["a"]))
    return {k: v[order] for k, v in columns.items()}


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
    **options: Any,
) -> dict[str, Any]:
    """Make `out`, the labels with the accepted pairs merged; gives the figures.

    calibrate: a function (edges, sizes) -> Rule that replaces the rule of the settings.
    Goes on where an earlier run of the same ended.
    """
    settings, out = settings or AgglomerateSettings(), Path(out)
    how: dict[str, Any] = {
        "ledger": ledger, "engine": engine, "limits": limits, "overwrite": overwrite, **options,
    }  # fmt: skip
    score = score_pairs(labels, image, out, model=model, settings=settings, how=how)
    edges = scored_edges(score)
    rule = settings.rule if calibrate is None else calibrate(edges)
    cost = ledger.counters(score.name)
    figures = _merge(out, score, edges, rule, settings, cost)
    relabel = Relabel(
        RelabelSettings(
            block=settings.candidates.block,
            pyramid=settings.pyramid,
            lookup_key=str(made_by(beside(out, "graph"))),
        ),
        reads={"objects": labels, "lookup": beside(out, "lookup")},
        writes={"labels": out},
    )
    run_stage(relabel, **how)
    said = state.read(out) or {}
    state.finish(out, {**said.get("provenance", {}), "agglomeration": figures})
    return figures


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
    key = digest(made_by(score.writes["scores"]), rule.model_dump(mode="json"))
    said = (state.read(graph) if graph.exists() else None) or {}
    if said.get("state") == "complete" and said["provenance"].get("key") == key:
        return dict(said["provenance"]["figures"])
    began = time.monotonic()
    voxel = math.prod(volume.open(score.reads["labels"]).voxel_size)
    edges = decided(edges, rule, voxel)
    ok = edges["decision"] == ACCEPTED
    forget_lookups()
    tables.create(graph)
    tables.create(lookup)
    union = PartitionedUnion(lookup / "work", span_bits=settings.span_bits)
    try:
        union.add(edges["a"][ok], edges["b"][ok])
        union.solve()
        facts = write_lookup(lookup, union.lookups())
        ids, voxels = sizes(beside(out, "candidates"), len(score.grid()))
        final = union.find(ids)
    finally:
        shutil.rmtree(lookup / "work", ignore_errors=True)
    merged, place = np.unique(final, return_inverse=True)
    after = np.bincount(place, voxels) if len(ids) else np.zeros(1)
    tables.write(graph / EDGES, edges)
    tables.write(graph / OBJECTS, {"id": ids, "voxels": voxels, "final": final})
    write_atomically(graph / RULE, rule.model_dump_json(indent=1) + "\n")
    kinds, counts = np.unique(edges["decision"].astype(str), return_counts=True)
    fovs, pairs = int(cost.get("fovs", 0)), len(ok)
    figures: dict[str, Any] = {
        "rule": rule.kind,
        "pairs": pairs,
        **{k.replace(" ", "_"): int(n) for k, n in zip(kinds, counts, strict=True)},
        "objects_before": len(ids),
        "objects": len(merged),
        "largest_share_before": float(voxels.max(initial=0) / max(voxels.sum(), 1)),
        "largest_share": float(after.max() / max(voxels.sum(), 1)),
        "fovs": fovs,
        "fovs_per_pair": fovs / max(pairs, 1),
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
