"""Validation of a flood-filling network in training: a box is flooded and scored.

What it is: the box, read and checked before any work; the flood, stopped where it would not end;
and the scores. What it is not: when it happens (petavox.learn.training_run).
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch

from petavox.blocks.plan import memory_available
from petavox.errors import BadInput
from petavox.ffn.flip import mirror_back
from petavox.ffn.flood import BYTES_PER_VOXEL, flood, normalised
from petavox.ffn.growth import Growth
from petavox.ffn.model import Model, ModelSpec
from petavox.ffn.predictor import Predictor
from petavox.score.overlap import adapted_rand, fill, variation_of_information
from petavox.score.pairs import PairTable, pair_table, sums_by
from petavox.space import Box
from petavox.stages.training_settings import ValidationSettings
from petavox.volume import Volume

log = logging.getLogger("petavox")


class Validation:
    """Floods a box with a model and scores it against the truth.

    image, labels, mask: volumes that hold `box`; 0 in the mask: not scored.
    Raises BadInput if the box cannot be flooded by a network of this spec, or scored.
    """

    def __init__(
        self,
        settings: ValidationSettings,
        spec: ModelSpec,
        box: Box,
        image: Volume,
        labels: Volume,
        mask: Volume | None,
        device: torch.device,
    ) -> None:
        if any(n < f for n, f in zip(box.shape, spec.fov, strict=True)):
            raise BadInput(
                f"the validation box {box} has {box.shape} voxels, smaller than the network's "
                f"field of view {spec.fov} (z y x); give a larger box."
            )
        spec.stepping(settings.flood.deltas)
        need, free = BYTES_PER_VOXEL * box.size, memory_available()
        if free is not None and need > free:
            raise BadInput(
                f"the validation box {box} takes {need / 2**30:.1f} GiB to flood, and "
                f"{free / 2**30:.1f} GiB are free: give `validation` a smaller box."
            )
        self.settings, self.device = settings, device
        self.voxel_size = tuple(image.voxel_size)
        self.image, self.truth = image.read(box), labels.read(box)
        if mask is not None:
            self.truth = np.where(mask.read(box) > 0, self.truth, 0)
        if not self.truth.any():
            raise BadInput(
                f"the validation box {box} of {image.path} holds no annotated object: choose "
                "another."
            )
        normalised(self.image, spec)

    def __call__(self, model: Model) -> dict[str, float]:
        """Scores where the truth has an object; VI in bits."""
        predictor = Predictor(model, device=self.device, precision=self.settings.precision)
        most = self.settings.evaluations * self.image.size / math.prod(model.spec.fov)
        budget = _Budget(max(1, round(most)))
        settings = self.settings
        try:
            canvas = flood(
                self.image, predictor, model.spec, voxel_size=self.voxel_size,
                settings=settings.flood, seeds=settings.seeds, watcher=budget,
            )  # fmt: skip
        except _Spent as spent:
            canvas = spent.canvas
            mirror_back(canvas)
            log.info("validation: stopped after %d fields of view", budget.most)
        return scores(canvas.labels(), self.truth) | {
            "objects": float(canvas.counters["objects"]),
            "fovs": float(canvas.counters["fovs"]),
        }


def scores(labels: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Scores of labels where the truth has an object; VI in bits.

    `adapted_rand` counts all empty voxels as one object, as is usual. `error`, which chooses
    the best model, counts each as an object of its own: nothing found is error 1.
    """
    table = pair_table(labels, truth)
    known = table.where(table.truth > 0)
    found = table.labelled()
    vi = variation_of_information(found)
    rand = adapted_rand(found)
    # pairs of voxels joined in the truth that are also joined in the result
    joined_found = rand.recall * _pairs(found) if len(found) else 0.0
    recall = joined_found / _pairs(known) if _pairs(known) else 1.0
    precision = rand.precision if len(found) else 1.0
    both = precision + recall
    return {
        "error": 1 - 2 * precision * recall / both if both else 1.0,
        "adapted_rand": adapted_rand(known).error,
        "rand_precision": precision,
        "rand_recall": recall,
        "vi_split": vi.split,
        "vi_merge": vi.merge,
        "fill": fill(table),
    }


def _pairs(table: PairTable) -> float:
    """Pairs of voxels that the truth joins, among the voxels of a table."""
    _, sums, _ = sums_by(table.truth, table.voxels.astype(np.float64))
    return float(sums @ sums - sums.sum())


class _Spent(Exception):
    def __init__(self, canvas: Any) -> None:
        super().__init__()
        self.canvas = canvas


class _Budget:
    """Watcher that ends a flood after so many fields of view."""

    def __init__(self, most: int) -> None:
        self.most = most

    def stepped(self, canvas: Any, growth: Growth) -> None:
        if canvas.counters["fovs"] >= self.most:
            raise _Spent(canvas)
