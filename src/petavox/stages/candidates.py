"""Candidates of an agglomeration: which pairs of objects come close, and which are worth asking.

    candidates  each block finds the pairs that come close, and where to decide     OUT.candidates
    pairs       the driver adds them up, says which are plausible, and gives each   OUT.pairs
                to the block it lies in

Floods are what costs, so that the network is asked only where a cheap rule (contact, width, grey
values, sizes, what earlier floods would have taken) leaves a chance: the cost is in proportion to
the plausible decision points.

What it is: the join of petavox.segment.candidates to volumes and blocks. What it is not: a
judgement.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from petavox import volume
from petavox.blocks.content import made_by
from petavox.blocks.task import Context, Costs, Counters
from petavox.cooccurrence import grouped
from petavox.errors import BadInput
from petavox.merging import merged
from petavox.provenance import digest
from petavox.segment.candidates import Contacts, contacts, joined, no_contacts, reach
from petavox.segment.features import ASKED
from petavox.segment.places import with_places
from petavox.segment.prior import known_of, plausible, promise
from petavox.segment.rule import Rule
from petavox.settings import NmSetting, Settings, ZyxSetting
from petavox.space import Block, Box, Grid, Zyx, zyx
from petavox.stages import tables
from petavox.stages.labels import labels_of
from petavox.stages.stage import Stage
from petavox.stages.stamps import sources
from petavox.volume import state
from petavox.volume.formats.facts import same_size

OVERLAPS = "overlaps.parquet"
"""In a volume of labels: pairs that a pass held together and a consensus did not."""
ORIGINS = "origins.json"
CODE = tuple(f"petavox.segment.{m}" for m in ("candidates", "features", "places", "prior", "rule"))
"""What decides which pairs are asked about, and where."""


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
    prior: Rule | None = None
    """A logistic rule on what is known without the network: its odds rank the pairs."""
    least_chance: float = Field(0.02, ge=0, lt=1)
    """With a prior: pairs less likely than this are not asked about."""
    most_asked: int | None = Field(None, ge=1)
    """Ask about no more pairs than this, those that promise the largest gain."""
    places: int = Field(1, ge=1, le=16)
    """At how many places of its contact a pair may be asked about; large ones meet in several."""
    places_apart: float = Field(240.0, gt=0)
    """nm between any two places of a pair."""
    places_faces: int = Field(30, ge=1)
    """Voxel faces of contact around each place but the widest."""
    voxel_size: NmSetting | None = None
    """nm, zyx, if the image does not say."""

    def cell(self, voxel_size: Sequence[float]) -> Zyx | None:
        """The cells, in voxels, of which each may hold one place of a pair; None for one place."""
        if self.places == 1:
            return None
        return zyx([max(1, round(self.places_apart / v)) for v in voxel_size])

    @model_validator(mode="after")
    def _cheap(self) -> CandidateSettings:
        if self.prior is not None and self.prior.kind != "logistic":
            raise ValueError("prior must be a logistic rule, such as prior.json of a graph")
        if self.prior is not None and set(self.prior.features) & set(ASKED):
            raise ValueError(f"prior looks at some of {ASKED}, which only the network says")
        return self


class Candidates(Stage):
    """reads: labels, image.  writes: candidates (a table of blocks: contacts, and objects)."""

    name = "agglomerate-candidates"
    function = "petavox.stages.candidates:candidates_block"
    code = ("petavox.segment.candidates", "petavox.segment.grown")
    settings: CandidateSettings

    def grid(self) -> Grid:
        """Blocks of the labels with the context that contacts need."""
        labels = labels_of(self.reads["labels"])
        image_of(self.reads["image"], labels, self.settings.voxel_size)
        context = reach(self.settings.max_distance, tuple(labels.voxel_size))
        return Grid(labels.box, self.settings.block, context)

    def create(self) -> None:
        """The empty table."""
        tables.create(self.writes["candidates"])

    def costs(self) -> Costs:
        """Labels, grown labels, distances and the places of what is empty."""
        n = Box((0, 0, 0), self.settings.block).grown(self.grid().context).size
        return Costs(
            memory_bytes=90 * n + (96 << 20), read_bytes=9 * n, write_bytes=1 << 20, files=2
        )


def candidates_block(block: Block, context: Context) -> Counters:
    """Contacts that a block owns, and the voxels and grey values of its objects."""
    settings = context.parsed(CandidateSettings)
    source = volume.open(context.reads["labels"])
    labels = source.read(block.read)
    image = volume.open(context.reads["image"], voxel_size=settings.voxel_size).read(block.read)
    own = block.write.slices(block.read.start)
    found = contacts(
        labels,
        max_distance=settings.max_distance,
        voxel_size=tuple(source.voxel_size),
        image=image,
        start=block.read.start,
        own=own,
        cell=settings.cell(tuple(source.voxel_size)),
    )
    ids, place, voxels = np.unique(labels[own], return_inverse=True, return_counts=True)
    gray = np.bincount(place.ravel(), image[own].ravel().astype(np.float64), len(ids))
    keep = ids != 0
    folder = context.writes["candidates"]
    tables.write(tables.part(folder, block.number, "contacts"), found.columns())
    tables.write(
        tables.part(folder, block.number, "sizes"),
        {
            "id": ids[keep].astype(np.uint64),
            "voxels": voxels[keep].astype(np.int64),
            "gray": gray[keep],
        },
    )
    return {"voxels": block.write.size, "contacts": len(found)}


def image_of(
    path: str, labels: volume.Volume, voxel_size: tuple[float, float, float] | None
) -> volume.Volume:
    """The image that covers the labels. Raises BadInput if it does not, or is none."""
    image = volume.open(path, voxel_size=voxel_size)
    if image.kind is not volume.Kind.IMAGE or image.dtype.kind not in "uf":
        raise BadInput(f"{image.path} holds {image.kind} of type {image.dtype}, not an image.")
    if not image.box.contains(labels.box) or not same_size(image.voxel_size, labels.voxel_size):
        raise BadInput(
            f"the labels {labels.path} have the box {labels.box} and voxels of "
            f"{labels.voxel_size}, the image {image.path} {image.box} and {image.voxel_size}: "
            "the image must cover the labels, voxel by voxel."
        )
    return image


def group_pairs(find: Candidates, pairs: Path) -> tuple[int, int]:
    """Add up the contacts of all blocks; give each pair to the block of its decision point.

    Gives the number of pairs, and of those that the network is to be asked about.
    """
    s = find.settings
    key = digest(
        made_by(find.writes["candidates"]), s.model_dump(mode="json"), sources(__name__, *CODE)
    )
    said = (state.read(pairs) if pairs.exists() else None) or {}
    if said.get("state") == "complete" and said["provenance"].get("key") == key:
        return int(said["provenance"]["pairs"]), int(said["provenance"]["asked"])
    tables.create(pairs)
    grid = find.grid()
    size = tuple(volume.open(find.reads["labels"]).voxel_size)
    cells = _total(find, len(grid), s.cell(size))
    columns = known_of(
        joined([cells]) if s.places > 1 else cells,
        *objects(find.writes["candidates"], len(grid)),
        overlaps_of(find.reads["labels"]),
        size,
    )
    keep = columns["faces"] >= s.min_faces
    keep &= np.minimum(columns["size_a"], columns["size_b"]) >= s.min_size
    columns = {k: v[keep] for k, v in columns.items()}
    columns["chance"] = promise(columns, s.prior)[0]
    columns["ask"] = plausible(columns, s.prior, s.least_chance, s.most_asked)
    asked = int(columns["ask"].sum())
    columns = with_places(
        columns, cells, most=s.places, apart=s.places_apart, faces=s.places_faces, voxel_size=size
    )
    place = np.stack([columns[k] for k in "zyx"], 1)
    index = (place - np.array(grid.total.start)) // np.array(grid.block)
    number = (index[:, 0] * grid.shape[1] + index[:, 1]) * grid.shape[2] + index[:, 2]
    order = np.argsort(number, kind="stable")
    cuts = np.searchsorted(number[order], np.arange(len(grid) + 1))
    for n in range(len(grid)):
        rows = order[cuts[n] : cuts[n + 1]]
        tables.write(tables.part(pairs, n), {k: v[rows] for k, v in columns.items()})
    count = int(np.sum(columns["place"] == 0))
    state.finish(pairs, {"stage": "agglomerate-pairs", "key": key, "pairs": count, "asked": asked})
    return count, asked


def _total(find: Candidates, blocks: int, cell: Zyx | None) -> Contacts:
    """The contacts of the volume; with cells, a row for each pair and cell."""

    def added(some: list[Contacts]) -> Contacts:
        total = joined(some, cell)
        _require_memory(len(total), find.settings.max_pairs)
        return total

    parts = tables.parts(find.writes["candidates"], blocks, "contacts")
    return merged((Contacts(**columns) for columns in parts), no_contacts(), added)


def _require_memory(pairs: int, most: int) -> None:
    if pairs > most:
        raise BadInput(
            f"over {pairs:,} pairs of objects come close, more than max_pairs {most:,}: lower "
            "max_distance, agglomerate parts of the volume, or raise max_pairs (300 bytes each)."
        )


def objects(candidates: str | Path, blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids, voxels, mean grey value) of all objects of a table of candidates; ids ascending."""
    parts = tables.parts(candidates, blocks, "sizes")
    ids, voxels, gray = merged(
        ([columns[k] for k in ("id", "voxels", "gray")] for columns in parts),
        _no_objects(), _added, rows=lambda table: len(table[0]),
    )  # fmt: skip
    return ids, voxels, gray / np.maximum(voxels, 1)


def _no_objects() -> list[np.ndarray]:
    return [np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0)]


def _added(tables_: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Ids, voxels and grey values of several tables as one, equal ids added up; ids ascending."""
    ids, voxels, gray = (np.concatenate(column) for column in zip(*tables_, strict=True))
    order, heads = grouped([ids])
    if len(heads) == 0:
        return _no_objects()
    return [ids[order][heads], *(np.add.reduceat(v[order], heads) for v in (voxels, gray))]


def overlaps_of(labels: str | Path) -> dict[tuple[int, int], int]:
    """What is known of pairs from how the labels were made: (smaller id, larger id) -> voxels.

    An object that another one's flood ran into, or that another pass held together with it, is the
    first hint that the two are one. `petavox segment` noted the first in origins.json, `petavox
    consensus` the second in overlaps.parquet. Empty for labels without either, such as reconciled
    ones.
    """
    out: dict[tuple[int, int], int] = {}
    file = Path(labels) / OVERLAPS
    if file.exists():
        table = tables.read(file)
        pairs = zip(table["a"].tolist(), table["b"].tolist(), strict=True)
        return dict(zip(pairs, table["voxels"].tolist(), strict=True))
    file = Path(labels) / ORIGINS
    if not file.exists():
        return out
    try:
        for i, origin in json.loads(file.read_text())["origins"].items():
            for k, n in origin.get("overlaps", {}).items():
                pair = (min(int(i), int(k)), max(int(i), int(k)))
                out[pair] = max(out.get(pair, 0), int(n))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise BadInput(f"{file} cannot be used ({e!r}): write the labels again.") from None
    return out
