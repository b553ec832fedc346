"""Components of a class as labels, block by block: fragments, links, objects.

What it is: the joints of petavox.synapse.clefts to volumes and tables; for clefts and for
mitochondria alike. What it is not: the network, or partners. Ids and figures do not depend on the
blocks.

    WORK/fragments.zarr       uint64, components inside blocks
    WORK/parts, WORK/links    tables of blocks
    WORK/whole/components.parquet, final.parquet    made by the driver
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from petavox import provenance, volume
from petavox.blocks.content import made_by
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.task import Context, Costs, Counters
from petavox.settings import Settings, ZyxSetting
from petavox.space import Block, Grid
from petavox.stages import tables
from petavox.stages.levels import empty, fill_levels
from petavox.stages.stage import Stage, run_stage
from petavox.stages.stamps import stamp
from petavox.synapse import clefts
from petavox.volume import pyramid, state

COMPONENTS = "components.parquet"
FINAL = "final.parquet"


class ObjectSettings(Settings):
    """How a class becomes objects."""

    block: ZyxSetting
    threshold: float = Field(0.5, gt=0, lt=1)
    pyramid: bool = True
    key: str = ""
    """Digest of the components that are applied; set by the driver."""


class Fragments(Stage):
    """reads: said (the class's probabilities).  writes: fragments (uint64), parts (table)."""

    name = "fragments"
    function = "petavox.stages.synapses_objects:fragments_block"
    code = ("petavox.synapse.clefts",)
    settings: ObjectSettings

    def grid(self) -> Grid:
        """The blocks of the probabilities."""
        return Grid(volume.open(self.reads["said"]).box, self.settings.block)

    def create(self) -> None:
        """The empty volume and table."""
        size = volume.open(self.reads["said"]).voxel_size
        empty(self.writes["fragments"], self.grid(), size, np.uint64, "labels")
        tables.create(self.writes["parts"])

    def costs(self) -> Costs:
        """Probabilities, numbers, labels."""
        n = math.prod(self.settings.block)
        return Costs(memory_bytes=40 * n + (96 << 20), read_bytes=n, write_bytes=n, files=2)


def fragments_block(block: Block, context: Context) -> Counters:
    """Components of one block."""
    settings = context.parsed(ObjectSettings)
    said = volume.open(context.reads["said"]).read(block.write)
    labels, parts = clefts.fragments(said, settings.threshold, block.write.start, block.total)
    out = volume.open(context.writes["fragments"], writable=True, incomplete=True)
    out.write(block.write, labels)
    tables.write(tables.part(context.writes["parts"], block.number), _columns(parts))
    return {"fragments": len(parts), "voxels": int(parts["voxels"].sum())}


class Links(Stage):
    """reads: fragments.  writes: links (table)."""

    name = "links"
    function = "petavox.stages.synapses_objects:links_block"
    code = ("petavox.synapse.clefts",)
    settings: ObjectSettings

    def grid(self) -> Grid:
        """The blocks with one voxel of their neighbours."""
        return Grid(volume.open(self.reads["fragments"]).box, self.settings.block, (1, 1, 1))

    def create(self) -> None:
        """The empty table."""
        tables.create(self.writes["links"])

    def costs(self) -> Costs:
        """Labels and the places of those that are not 0."""
        n = math.prod(b + 2 for b in self.settings.block)
        return Costs(memory_bytes=60 * n + (96 << 20), read_bytes=8 * n, write_bytes=1 << 16)


def links_block(block: Block, context: Context) -> Counters:
    """Links of one block's fragments to its neighbours'."""
    labels = volume.open(context.reads["fragments"]).read(block.read)
    pairs = clefts.links(labels)
    path = tables.part(context.writes["links"], block.number)
    tables.write(path, {"a": pairs[:, 0], "b": pairs[:, 1]})
    return {"links": len(pairs)}


class Objects(Stage):
    """reads: fragments, whole (components.parquet).  writes: labels (uint64)."""

    name = "objects"
    function = "petavox.stages.synapses_objects:objects_block"
    code = ("petavox.synapse.clefts",)
    settings: ObjectSettings

    def grid(self) -> Grid:
        """The blocks."""
        return Grid(volume.open(self.reads["fragments"]).box, self.settings.block)

    def inputs(self) -> dict[str, str]:
        """The components stand for the fragments too."""
        return {"whole": self.settings.key}

    def create(self) -> None:
        """The empty volume and its levels."""
        size = volume.open(self.reads["fragments"]).voxel_size
        empty(self.writes["labels"], self.grid(), size, np.uint64, "labels")
        if self.settings.pyramid:
            pyramid.prepare(self.writes["labels"])

    def costs(self) -> Costs:
        """Labels in, labels out."""
        n = math.prod(self.settings.block)
        return Costs(memory_bytes=60 * n + (96 << 20), read_bytes=8 * n, write_bytes=8 * n, files=1)

    def after(self, ledger: Ledger, engine: Engine | None, **options: Any) -> None:
        """Fill the coarser levels, each from the one before."""
        fill_levels(self.name, self.writes, self.settings.key, ledger, engine, **options)


def objects_block(block: Block, context: Context) -> Counters:
    """Final labels of one block."""
    labels = volume.open(context.reads["fragments"]).read(block.write)
    file = Path(context.reads["whole"]) / FINAL
    final = _final(str(file), context.parsed(ObjectSettings).key, stamp(file))
    out = volume.open(context.writes["labels"], writable=True, incomplete=True)
    renamed = clefts.relabelled(labels, final)
    out.write(block.write, renamed)
    return {"labelled_voxels": int(np.count_nonzero(renamed))}


@functools.lru_cache(maxsize=2)
def _final(path: str, _key: str, _stamp: tuple[int, ...]) -> np.ndarray:
    """Fragment and component, (n, 2) uint64: a worker that lives on must not answer for another
    run's file."""
    columns = tables.read(Path(path))
    return np.stack([columns["fragment"], columns["component"]], 1)


def make_objects(
    name: str,
    said: Path,
    work: Path,
    out: Path,
    settings: ObjectSettings,
    *,
    min_voxels: int = 1,
    min_score: float = 0.0,
    **how: Any,
) -> tuple[str, int]:
    """The components of the probabilities `said` as labels `out`; a key of them, and how many.

    name: of the class, for the ledger.  work: folder for what lies between.
    min_voxels, min_score: components smaller, or of lower mean probability, are left out.
    how: ledger, engine and options of run_stage.
    """
    split = _named(Fragments, name)(
        settings,
        reads={"said": said},
        writes={"fragments": work / "fragments.zarr", "parts": work / "parts"},
    )
    run_stage(split, **how)
    linked = _named(Links, name)(
        settings, reads={"fragments": work / "fragments.zarr"}, writes={"links": work / "links"}
    )
    run_stage(linked, **how)
    key = provenance.digest(made_by(work / "parts"), made_by(work / "links"), min_voxels, min_score)
    whole = work / "whole"
    count = _merge(split, linked, whole, min_voxels, min_score)
    made = _named(Objects, name)(
        settings.model_copy(update={"key": key}),
        reads={"fragments": work / "fragments.zarr", "whole": whole},
        writes={"labels": out},
    )
    run_stage(made, **how)
    return key, count


def _named(stage: type[Stage], of: str) -> type[Stage]:
    """The stage under a name of its own for each class, as the ledger wants it."""
    return type(stage.__name__, (stage,), {"name": f"synapses-{of}-{stage.name}"})


def _merge(split: Stage, linked: Stage, whole: Path, min_voxels: int, min_score: float) -> int:
    """Components of all fragments, written; how many there are."""
    blocks = len(split.grid())
    parts = np.concatenate(
        [np.zeros(0, clefts.PARTS)]
        + [_parts(c) for c in tables.parts(split.writes["parts"], blocks)]
    )
    pairs = np.concatenate(
        [clefts.NO_LINKS]
        + [np.stack([c["a"], c["b"]], 1) for c in tables.parts(linked.writes["links"], blocks)]
    )
    found, final = clefts.merged(parts, np.unique(pairs, axis=0), min_voxels=min_voxels)
    weak = found["id"][clefts.scores(found) < min_score]
    final[np.isin(final[:, 1], weak), 1] = 0
    found = found[~np.isin(found["id"], weak)]
    tables.create(whole)
    tables.write(whole / COMPONENTS, _columns(found))
    tables.write(whole / FINAL, {"fragment": final[:, 0], "component": final[:, 1]})
    state.finish(whole, {"stage": "synapses-components"})
    return len(found)


def components(whole: str) -> np.ndarray:
    """PARTS of the components in the folder that the driver made."""
    return _parts(tables.read(Path(whole) / COMPONENTS))


def _columns(parts: np.ndarray) -> dict[str, np.ndarray]:
    out = {n: parts[n] for n in ("id", "voxels", "said")}
    return out | {f"{n}_{a}": parts[n][:, k] for n in _TRIPLES for k, a in enumerate("zyx")}


_TRIPLES = ("place", "low", "high")


def _parts(columns: dict[str, np.ndarray]) -> np.ndarray:
    out = np.zeros(len(columns["id"]), clefts.PARTS)
    for n in ("id", "voxels", "said"):
        out[n] = columns[n]
    for n in _TRIPLES:
        for k, a in enumerate("zyx"):
            out[n][:, k] = columns[f"{n}_{a}"]
    return out
