"""Calibrate: fit the rule of agglomeration on ground truth.

What it is: for scored pairs and a volume of truth, which pairs belong to one body, and the VI of
each fold (a slab of z) after merging; the fit itself is petavox.segment.rule.fit. What it is not:
a score of the result. Score on voxels that the calibration has not seen.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from petavox import volume
from petavox.errors import BadInput
from petavox.score.overlap import majority, variation_of_information
from petavox.score.pairs import Adder, PairTable, added, pair_table
from petavox.segment.agglomeration import final_of
from petavox.segment.features import CHEAP, features
from petavox.segment.rule import Rule, fit, fitted
from petavox.settings import BoxSetting, Settings, ZyxSetting
from petavox.space import Box, Grid
from petavox.volume.formats.facts import same_size


class CalibrateSettings(Settings):
    """On what the rule is fitted."""

    box: BoxSetting | None = None
    """Voxels whose truth may be used; None: all that labels and truth share."""
    folds: int = Field(2, ge=2, le=20)
    """Slabs of z; each is judged by a rule fitted on the others."""
    block: ZyxSetting = (128, 256, 256)
    large_um3: float = Field(0.05, gt=0)
    """Volume from which an object is large, in cubic micrometres."""


def require_truth(
    labels: str | Path, truth: str | Path, settings: CalibrateSettings | None = None
) -> None:
    """Raise BadInput if a truth cannot teach anything of these labels; before any flood."""
    _volumes(labels, truth, settings or CalibrateSettings())


def calibrated(
    labels: str | Path,
    truth: str | Path,
    edges: dict[str, np.ndarray],
    settings: CalibrateSettings | None = None,
) -> Rule:
    """The rule with the best cross-validated VI on a truth.

    edges: scored pairs, as of petavox.stages.agglomerate.scored_edges. Only those are used whose
    decision point lies in the box and whose objects both have a body.
    """
    settings = settings or CalibrateSettings()
    lesson = _lesson(labels, truth, edges, settings)
    source, slabs, parts, used, same = (
        lesson.source, lesson.slabs, lesson.parts, lesson.used, lesson.same,
    )  # fmt: skip
    mine = {k: v[used] for k, v in edges.items()}
    bounds = np.array([s.stop[0] for s in slabs])
    fold = np.searchsorted(bounds, mine["z"], side="right")

    def vi(ok: np.ndarray, k: int) -> float:
        table = parts[k]
        final = final_of(table.result, mine["a"][ok], mine["b"][ok])
        return float(variation_of_information(table.with_result(final)).total)

    rule = fit(
        mine,
        same,
        fold,
        vi,
        voxel_volume=math.prod(source.voxel_size),
        large_um3=settings.large_um3,
    )
    nothing = np.zeros(len(same), bool)
    before = [vi(nothing, k) for k in range(settings.folds)]
    perfect = [vi(same & (fold == k), k) for k in range(settings.folds)]
    return rule.model_copy(
        update={
            "fitted": rule.fitted
            | {
                "truth": str(truth),
                "box": str(lesson.box),
                "vi_bits_unmerged": float(np.mean(before)),
                "vi_bits_of_true_pairs": float(np.mean(perfect)),
            }
        }
    )


def calibrated_prior(
    labels: str | Path,
    truth: str | Path,
    edges: dict[str, np.ndarray],
    settings: CalibrateSettings | None = None,
) -> Rule:
    """The rule that ranks pairs before the network is asked, fitted on the same truth.

    For `candidates.prior` of the next volume: pairs with hardly a chance are then not flooded.
    """
    lesson = _lesson(labels, truth, edges, settings or CalibrateSettings())
    if lesson.same.all() or not lesson.same.any():
        raise BadInput("the truth's pairs are all of one kind: calibrate on a larger truth.")
    table = features({k: v[lesson.used] for k, v in edges.items()}, CHEAP)
    rule = fitted(table, lesson.same, np.ones(len(table), bool), 1.0, CHEAP)
    said = {"pairs": len(table), "true_pairs": int(lesson.same.sum()), "truth": str(truth)}
    return rule.model_copy(update={"fitted": said})


@dataclass(frozen=True)
class _Lesson:
    """What a truth teaches: which pairs it speaks of, and what it says.

    used: (n,) bool, of all edges.  same: (m,) bool, of those used: both objects are of one body.
    parts: the table of voxels of each slab.
    """

    source: volume.Volume
    box: Box
    slabs: list[Box]
    parts: list[PairTable]
    used: np.ndarray
    same: np.ndarray


def _lesson(
    labels: str | Path, truth: str | Path, edges: dict[str, np.ndarray], settings: CalibrateSettings
) -> _Lesson:
    source, bodies, box = _volumes(labels, truth, settings)
    slabs = _slabs(box, settings.folds)
    parts = [_table(source, bodies, slab, settings) for slab in slabs]
    objects, owners = majority(added(parts))
    inside = np.all(
        [
            (edges[k] >= s) & (edges[k] < e)
            for k, s, e in zip("zyx", box.start, box.stop, strict=True)
        ],
        axis=0,
    )
    owner_a, owner_b = (_owner(objects, owners, edges[k]) for k in "ab")
    used = inside & (owner_a > 0) & (owner_b > 0)
    if not used.any():
        raise BadInput(
            f"no pair of objects of {labels} has its decision point in {box} and a body of {truth} "
            "on both sides: calibrate on a truth of these voxels."
        )
    return _Lesson(source, box, slabs, parts, used, owner_a[used] == owner_b[used])


def _volumes(
    labels: str | Path, truth: str | Path, settings: CalibrateSettings
) -> tuple[volume.Volume, volume.Volume, Box]:
    source, bodies = volume.open(labels), volume.open(truth)
    if bodies.dtype.kind not in "ui" or not same_size(bodies.voxel_size, source.voxel_size):
        raise BadInput(
            f"the truth {truth} holds {bodies.dtype} with voxels of {bodies.voxel_size}, the "
            f"labels {labels} have {source.voxel_size}: a truth holds ids at the same voxel size."
        )
    box = source.box.intersection(bodies.box)
    if settings.box is not None:
        if not box.contains(settings.box):
            raise BadInput(f"box {settings.box} is not inside {box}, which labels and truth share.")
        box = settings.box
    if box.shape[0] < settings.folds or box.is_empty:
        raise BadInput(f"box {box} is too thin for {settings.folds} folds along z.")
    return source, bodies, box


def _slabs(box: Box, folds: int) -> list[Box]:
    cuts = [box.start[0] + box.shape[0] * k // folds for k in range(folds + 1)]
    return [Box((a, *box.start[1:]), (b, *box.stop[1:])) for a, b in itertools.pairwise(cuts)]


def _table(
    source: volume.Volume, bodies: volume.Volume, box: Box, settings: CalibrateSettings
) -> PairTable:
    table = Adder()
    for block in Grid(box, settings.block):
        table.add(pair_table(source.read(block.write), bodies.read(block.write)))
    return table.sum().labelled()


def _owner(objects: np.ndarray, owners: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The body of each id; 0 for one that meets none."""
    if len(objects) == 0:
        return np.zeros(len(ids), np.uint64)
    at = np.minimum(np.searchsorted(objects, ids), len(objects) - 1)
    return np.where(objects[at] == ids, owners[at], np.uint64(0))
