"""Scores of pairs: around each plausible decision point the network is asked again.

What it is: the join of petavox.segment.resegment to volumes and blocks; all of an agglomeration's
floods. What it is not: the choice of pairs (petavox.stages.candidates), or a judgement.
"""

from __future__ import annotations

import functools
import time
from typing import Any, Literal

import numpy as np
from pydantic import Field

from petavox import volume
from petavox.blocks.task import Context, Costs, Counters
from petavox.segment.resegment import ResegmentSettings, Scores, around, radii, resegment
from petavox.settings import NmSetting, Settings, ZyxSetting
from petavox.space import Block, Box, Grid
from petavox.stages import tables
from petavox.stages.candidates import image_of
from petavox.stages.labels import labels_of
from petavox.stages.predictors import predictor
from petavox.stages.stage import Stage

SAVE_EVERY = 60.0
"""Seconds after which the scores of an unfinished block are saved."""
NOT_ASKED = "not plausible"
"""The reason of a pair that the network was not asked about."""


class ResegmentBlockSettings(Settings):
    """How pairs are resegmented."""

    block: ZyxSetting = (128, 128, 128)
    resegment: ResegmentSettings = Field(default_factory=ResegmentSettings)
    precision: Literal["f32", "bf16", "int8"] = "f32"
    """Not chosen by the machine: the result must not depend on who runs a block. int8: processors
    only; each block takes its scales from the image around it."""
    voxel_size: NmSetting | None = None
    """nm, zyx, if the image does not say."""


class ScorePairs(Stage):
    """reads: image, labels, model, pairs.  writes: scores (a table of blocks)."""

    name = "agglomerate-scores"
    function = "petavox.stages.pair_scores:scores_block"
    code = (
        "petavox.segment.resegment",
        "petavox.ffn.canvas",
        "petavox.ffn.flood",
        "petavox.ffn.moves",
        "petavox.ffn.network",
        "petavox.ffn.predictor",
        "petavox.ffn.int8",
        "petavox.stages.predictors",
    )
    smaller = "a smaller resegment.box_radius: its memory is that of one pair, whatever the block"
    settings: ResegmentBlockSettings

    def grid(self) -> Grid:
        """The blocks of the pairs. Raises BadInput if image, labels and model do not fit."""
        from petavox.ffn.model import load_spec

        labels = labels_of(self.reads["labels"])
        image = image_of(self.reads["image"], labels, self.settings.voxel_size)
        spec = load_spec(self.reads["model"])
        radii(self.settings.resegment, spec, tuple(image.voxel_size))
        if self.settings.precision == "int8":
            import torch

            from petavox.ffn import int8

            int8.check(spec, torch.device("cpu"))
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
    """Resegment the plausible pairs whose decision point lies in a block."""
    from petavox.ffn.model import load_spec

    settings = context.parsed(ResegmentBlockSettings)
    pairs = tables.read(tables.part(context.reads["pairs"], block.number))
    image = volume.open(context.reads["image"], voxel_size=settings.voxel_size)
    labels = volume.open(context.reads["labels"])
    partial = tables.part(context.writes["scores"], block.number, "partial")
    # of an interrupted try of this very block: the folder is emptied when anything has changed
    found = _rows(tables.read(partial)) if partial.exists() else []
    saved = time.monotonic()
    if len(found) < len(pairs["a"]):
        size = tuple(labels.voxel_size)
        spec = load_spec(context.reads["model"])
        radius = radii(settings.resegment, spec, size)[0]
        predict = None
        for i in range(len(found), len(pairs["a"])):
            if not pairs["ask"][i]:
                found.append(Scores(reason=NOT_ASKED))
                continue
            a, b, *point = (int(pairs[k][i]) for k in "abzyx")
            if predict is None:
                near = block.write.grown(radius).intersection(labels.box)
                predict = predictor(
                    context.reads["model"], context.device, settings.precision,
                    functools.partial(_sample, image, near),
                )  # fmt: skip
            box = around(point, radius).intersection(labels.box)
            found.append(
                resegment(
                    image.read(box),
                    labels.read(box),
                    a,
                    b,
                    [p - s for p, s in zip(point, box.start, strict=True)],
                    predict,
                    spec,
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
        "asked": int(pairs["ask"].sum()),
        "no_score": sum(bool(s.reason) and s.reason != NOT_ASKED for s in found),
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


def _sample(image: volume.Volume, around: Box, spec: Any) -> np.ndarray:
    """The image in a box; thinner than a field of view it is mirrored, as in the floods."""
    raw = image.read(around)
    less = [max(0, f - n) for f, n in zip(spec.fov, raw.shape, strict=True)]
    return np.pad(raw, [(n // 2, n - n // 2) for n in less], "reflect")
