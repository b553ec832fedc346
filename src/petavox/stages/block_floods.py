"""Objects of some blocks: each flooded by itself, or all in lock-step.

What it is: what a worker does between the reading of an image and the writing of labels, for
petavox.stages.blockwise_segment. What it is not: a stage; it writes nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from petavox import volume
from petavox.blocks.task import Context
from petavox.ffn.lanes import LaneSettings
from petavox.segment.connected import components
from petavox.space import Block
from petavox.stages.predictors import predictor

if TYPE_CHECKING:
    from petavox.stages.blockwise_segment import BlockwiseSettings


@dataclass(frozen=True)
class Found:
    """What one block holds.

    labels: (z, y, x) uint32, local ids, of its read box.  origins: (local id, where it came from).
    counters: for the ledger.
    """

    labels: np.ndarray
    origins: list[Any]
    counters: dict[str, Any]


def segmented(
    blocks: Sequence[Block], image: volume.Volume, settings: BlockwiseSettings, context: Context
) -> list[Found]:
    """Each block of an image segmented by itself, context included."""
    raws = [image.read(block.read) for block in blocks]
    if settings.method == "components":
        labels = [components(raw, settings.threshold, settings.min_size) for raw in raws]
        return [Found(x, [], {}) for x in labels]
    # nothing was imaged where all is of one value
    real = [i for i, raw in enumerate(raws) if raw.min() != raw.max()]
    flooded = _flooded([raws[i] for i in real], [blocks[i] for i in real], image, settings, context)
    found = dict(zip(real, flooded, strict=True))
    blank = {"blank": 1}
    return [
        found.get(i) or Found(np.zeros(raw.shape, np.uint32), [], blank)
        for i, raw in enumerate(raws)
    ]


def _flooded(
    raws: Sequence[np.ndarray],
    blocks: Sequence[Block],
    image: volume.Volume,
    settings: BlockwiseSettings,
    context: Context,
) -> list[Found]:
    from petavox.ffn.batched import LockStep
    from petavox.ffn.flip import mirror_back
    from petavox.ffn.flood import prepared
    from petavox.stages.flood_steps import Steps
    from petavox.stages.restrictions import restrictions

    reads, plain = context.reads, settings.lanes == 1 and settings.together == LaneSettings()
    canvases, predict = [], None
    steps = Steps(context.tell, len(blocks))
    for raw, block in zip(raws, blocks, strict=True):
        given = functools.partial(_itself, raw)
        predict = predictor(reads["model"], context.device, settings.precision, given)
        canvas = prepared(
            raw,
            predict,
            predict.spec,
            voxel_size=tuple(image.voxel_size),
            settings=settings.flood,
            seeds=settings.seeds,
            restrictor=restrictions(
                block.read,
                image,
                mask=reads.get("mask"),
                seed_mask=reads.get("seed_mask"),
                shift=(reads["shift_y"], reads["shift_x"]) if "shift_y" in reads else None,
                shift_threshold=settings.shift_threshold,
            ),
        )
        canvases.append(canvas)
        if plain:
            canvas.segment_all(steps)
    if predict is not None and not plain:
        LockStep(canvases, predict, settings.together).run(steps.together)
    for canvas in canvases:
        mirror_back(canvas)
    return [
        Found(
            np.maximum(canvas.segmentation, 0).astype(np.uint32),
            sorted(canvas.origins.items()),
            {k: int(canvas.counters[k]) for k in ("fovs", "leaks")},
        )
        for canvas in canvases
    ]


def _itself(raw: np.ndarray, _spec: Any) -> np.ndarray:
    """The block's own image, as the sample that int8 takes its scales from."""
    return raw
