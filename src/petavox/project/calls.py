"""The functions of the steps: each hands a step's inputs, outputs and settings to its stage.

    def mesh(call: Call) -> Figures: ...

What it is: one short function a step, named in petavox.project.steps. What it is not: work; the
stages do that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.project.project import Project
from petavox.project.steps import Step, resolve
from petavox.settings import Settings
from petavox.volume import places

Figures = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """All that a step's function gets.

    reads, writes: thing -> path.  engine: opened when it is first asked for.
    """

    project: Project
    step: Step
    settings: Any
    reads: dict[str, str]
    writes: dict[str, Path]
    model: Path | None
    ledger: Ledger
    open_engine: Callable[[], Engine]

    @property
    def how(self) -> dict[str, Any]:
        """What blockwise stages take; outputs that are there are this project's, and replaced."""
        return {"ledger": self.ledger, "engine": self.open_engine(), "overwrite": True}

    def any(self, *things: str) -> str:
        """The first of these things that the step reads."""
        return next(self.reads[t] for t in things if t in self.reads)


def stitch(call: Call) -> Figures:
    """Tiles to sections."""
    from petavox.stages import stitch as stage

    return stage.run(call.reads["tiles"], call.writes["sections"], call.settings, overwrite=True)


def align(call: Call) -> Figures:
    """Sections to fields."""
    from petavox.stages import align as stage

    return stage.run(
        call.reads["sections"],
        call.writes["fields"],
        call.settings,
        engine=call.open_engine(),
        overwrite=True,
    )


def render(call: Call) -> Figures:
    """Fields to an image volume."""
    from petavox.stages import render as stage

    return stage.run(
        call.reads["sections"],
        call.reads["fields"],
        call.writes["image"],
        call.settings,
        overwrite=True,
    )


def qc(call: Call) -> Figures:
    """Tables, masks and pictures of the sections."""
    from petavox.stages import qc as stage

    return stage.run(call.reads["image"], call.writes["qc"], call.settings, **call.how)


def contrast(call: Call) -> Figures:
    """An image of even contrast."""
    from petavox.stages import contrast as stage

    return stage.run(call.reads["image"], call.writes["image"], call.settings, overwrite=True)


def segment(call: Call) -> Figures:
    """Objects of every block."""
    return _flood(call, call.settings, call.writes["blocks"])


def segment_again(call: Call) -> Figures:
    """Objects of every block, from the seeds in reverse."""
    turned = call.settings.seeds.model_copy(update={"reverse": not call.settings.seeds.reverse})
    settings = call.settings.model_copy(update={"seeds": turned})
    return _flood(call, settings, call.writes["blocks_again"])


def _flood(call: Call, settings: Any, out: Path) -> Figures:
    from petavox.stages.blockwise_segment import segment_blocks

    done = segment_blocks(
        call.reads["image"],
        out,
        model=call.model,
        restrict={"mask": call.reads["mask"]} if "mask" in call.reads else None,
        settings=settings,
        **call.how,
    )
    return done.figures() | call.ledger.counters("segment-blocks")


def consensus(call: Call) -> Figures:
    """What two floods of every block hold together."""
    from petavox.stages.consensus import consensus_of

    return consensus_of(
        [call.reads["blocks"], call.reads["blocks_again"]],
        call.writes["blocks"],
        settings=call.settings,
        **call.how,
    )


def reconcile(call: Call) -> Figures:
    """One segmentation."""
    from petavox.stages.reconcile import reconcile as stage

    return stage(call.reads["blocks"], call.writes["objects"], settings=call.settings, **call.how)


def agglomerate(call: Call) -> Figures:
    """Neurons."""
    from petavox.stages.agglomerate import agglomerate as stage

    assert call.model is not None
    return stage(
        call.reads["objects"],
        call.reads["image"],
        call.writes["neurons"],
        model=call.model,
        settings=call.settings,
        **call.how,
    )


def synapses(call: Call) -> Figures:
    """Synapses and partners."""
    find = resolve("petavox.stages.synapses:find_synapses")
    return dict(
        find(
            call.reads["image"],
            call.any("neurons", "objects"),
            call.writes["synapses"],
            model=call.model,
            settings=call.settings,
            **call.how,
        )
    )


def synapse_table(path: str) -> Path:
    """The table of synapses: of the folder that the stage wrote, or as it was given."""
    place = Path(path)
    return place / "synapses.parquet" if place.is_dir() else place


def mesh(call: Call) -> Figures:
    """Surfaces."""
    from petavox.stages import mesh as stage

    return stage.run(
        call.any("neurons", "objects"), call.writes["meshes"], call.settings, **call.how
    )


def skeletonize(call: Call) -> Figures:
    """Centre lines."""
    from petavox.stages import skeletonize as stage

    return stage.run(
        call.any("neurons", "objects"), call.writes["skeletons"], call.settings, **call.how
    )


def connectome(call: Call) -> Figures:
    """Tables and graph."""
    from petavox.stages import connectome as stage

    found = call.reads.get("skeletons")
    return stage.run(
        call.any("neurons", "objects"),
        synapse_table(call.reads["synapses"]),
        call.writes["connectome"],
        call.settings,
        skeletons=None if found is None else Path(found),
        **call.how,
    )


def truth(call: Call) -> Figures:
    """The truth in the image's frame."""
    from petavox.stages import tile_truth as stage

    return stage.run(
        call.reads["truth_tiles"],
        call.reads["sections"],
        call.reads["fields"],
        call.reads["image"],
        call.writes["truth"],
        call.settings,
        overwrite=True,
    )


def score(call: Call) -> Figures:
    """Scores of all that there is a truth of."""
    from petavox.stages import run_scores as stage

    reads = call.reads
    made = Path(reads["truth"]) if "truth" in reads else None
    labels = reads.get("truth_labels") or (made and made / "labels.zarr")
    sites = reads.get("truth_synapses") or (made and made / "synapses.csv")
    found = reads.get("synapses")
    return stage.run(
        call.writes["scores"],
        call.settings,
        segmentations={k: reads[k] for k in ("objects", "neurons") if k in reads},
        labels=labels or None,
        synapses=None if found is None else synapse_table(found),
        true_synapses=sites or None,
        more=None if made is None else json.loads((made / "alignment.json").read_text()),
        overwrite=True,
    )


class ReportSettings(Settings):
    """The report has no settings of its own."""


def report(call: Call) -> Figures:
    """One page."""
    written = resolve("petavox.view.report:write")(call.project)
    return dict(written or {})


def figures_of(path: Path) -> Figures:
    """What a stage said of an output that lost something on the way (its report.json)."""
    found = places.read(path, "report.json")
    return {} if found is None else dict(json.loads(found))
