"""Train a synapse network: annotated volumes in, a model out.

What it is: the join of petavox.synapse's trainer to volumes, to phantom tissue made on the spot,
and to validation by the detection of synapses in a box kept apart. `petavox train` comes here
when the settings say `kind: synapses`. What it is not: how the network learns.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from petavox.errors import BadInput
from petavox.ffn.devices import device_of
from petavox.learn.distributed import Place, joined, led, losses_told, own_device, place_in
from petavox.learn.training_run import run
from petavox.score.synapses import detection
from petavox.settings import parse
from petavox.space import Box, Grid, VoxelSize
from petavox.stages.synapses_training_settings import SynapseTrainSettings, SynapseValidation
from petavox.stages.synapses_training_voxels import AnnotatedVoxels, Annotation, annotation
from petavox.stages.training_spec import spec_of
from petavox.stages.training_volumes import (
    make_phantoms,
    require_new,
    require_symmetric_voxels,
    require_trained_size,
)
from petavox.synapse import clefts
from petavox.synapse.apply import SynapsePredictor, read_box
from petavox.synapse.model import SynapseModel, SynapseSpec, load_model
from petavox.synapse.trainer import SynapseTrainer


def train(
    values: dict[str, Any],
    out: str | Path,
    *,
    where: str = "the settings",
    base: str | Path = ".",
    init: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a synapse model into the folder `out`; returns the figures.

    values: of SynapseTrainSettings, as read from `where`.  base: folder that relative paths start
    from.  init: model to start from.  resume: go on from the newest checkpoint in `out`.
    """
    settings = parse(SynapseTrainSettings, values, where)
    out, base, place = Path(out), Path(base), place_in(os.environ)
    if not resume:
        require_new(out)
    start = None if init is None else load_model(init)
    theirs = None if start is None else start.spec
    spec = spec_of(SynapseSpec, settings.model, theirs, out, place, resume=resume) or SynapseSpec()
    kind = str(device_of(settings.device))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with (
        joined(place, kind, timeout_s=60 * settings.run.silence_minutes),
        losses_told(place, "start the same command again with --resume"),
    ):
        given, judged = _annotations(settings, out / "phantoms", base, place)
        spec = _with_voxel_size(spec, settings, given, judged)
        held = [AnnotatedVoxels(a, spec) for a in given]
        device = own_device(kind, place)
        validate = None
        if settings.validation is not None and judged is not None:
            validate = led(
                place, device, partial(_validation, settings.validation, judged, spec, device)
            )
        trainer = SynapseTrainer(
            spec,
            [h.source(v.weight) for h, v in zip(held, settings.volumes, strict=True)],
            settings.trainer,
            device=device,
            place=place,
            start=None if start is None else start.network,
        )
        said: dict[str, Any] = {"settings": settings.model_dump(mode="json")}
        if start is not None:
            said["started_from"] = {**start.spec.provenance, "digest": start.digest}
        return run(
            trainer, out, settings.run, validate=validate, resume=resume, provenance=said,
            quiet=quiet,
        )  # fmt: skip


class Validation:
    """Detects the synapses of a box with a model, and matches them with the true ones."""

    def __init__(
        self, settings: SynapseValidation, held: AnnotatedVoxels, device: torch.device
    ) -> None:
        self.settings, self.held, self.device = settings, held, device
        self.truth = held.truth()
        if not len(self.truth):
            raise BadInput(
                f"the validation box {held.box} of {held.name} holds no synapse: choose another."
            )

    def __call__(self, model: SynapseModel) -> dict[str, float]:
        """Detection, and F1 of the voxels of each class; `error` chooses the best model."""
        held = self.held
        predictor = SynapsePredictor(model, device=self.device, precision=self.settings.precision)
        said = predict_box(predictor, held.image, held.box)
        out: dict[str, float] = {}
        for k, name in enumerate(model.spec.classes):
            if held.known >> k & 1:
                mine, true = said[k] > 127, (held.bits >> k & 1) > 0
                both = int(np.count_nonzero(mine & true))
                all_ = int(np.count_nonzero(mine)) + int(np.count_nonzero(true))
                out[f"{name}_voxel_f1"] = 2 * both / max(all_, 1)
        cleft = said[model.spec.classes.index("cleft")]
        least = self.settings.min_size_nm3 / VoxelSize.of(held.voxel_size).volume
        _, parts = clefts.components(
            cleft, self.settings.threshold, held.box.start, min_voxels=max(1, round(least))
        )
        places = clefts.positions_nm(parts, held.voxel_size)
        found = detection(places, self.truth, within=self.settings.within_nm)
        f1 = 2 * len(found.matches) / (len(places) + len(self.truth))
        out |= {
            "precision": found.precision if len(places) else 0.0,
            "recall": found.recall,
            "f1": f1,
            # among models that find the same synapses, the one that draws them best
            "error": 1 - f1 + 0.01 * (1 - out["cleft_voxel_f1"]),
        }
        return out


def _validation(
    settings: SynapseValidation, judged: Annotation, spec: SynapseSpec, device: torch.device
) -> Validation:
    return Validation(settings, AnnotatedVoxels(judged, spec), device)


def predict_box(predictor: SynapsePredictor, image: np.ndarray, box: Box) -> np.ndarray:
    """Probabilities of a whole array, in pieces that bound the memory: (classes, z, y, x) uint8."""
    spec = predictor.spec
    side = [-(-128 // s) * s for s in spec.stride]
    out = np.empty((len(spec.classes), *box.shape), np.uint8)
    for block in Grid(box, (side[0], side[1], side[2])):
        read = read_box(block.write, box, spec)
        said = predictor(image[read.slices(box.start)])
        here = (slice(None), *block.write.slices(read.start))
        out[(slice(None), *block.write.slices(box.start))] = said[here]
    return out


def _annotations(
    settings: SynapseTrainSettings, phantoms: Path, base: Path, place: Place
) -> tuple[list[Annotation], Annotation | None]:
    """The volumes to learn from, and that of the validation. What is given by files is checked
    before phantom tissue is made."""
    asked = [*settings.volumes, *([settings.validation] if settings.validation else [])]
    given = {id(v): annotation(v, phantoms, base) for v in asked if v.phantom is None}
    make_phantoms([v.phantom for v in asked if v.phantom is not None], phantoms, place)
    every = [given.get(id(v)) or annotation(v, phantoms, base) for v in asked]
    total = sum(a.nbytes for a in every)
    if total > settings.memory_mb << 20:
        largest = max(every, key=lambda a: a.nbytes)
        raise BadInput(
            f"the annotated voxels take {-(-total >> 20)} MiB and do not fit into memory_mb "
            f"{settings.memory_mb}, the most of them box {largest.box} of {largest.image.path}: "
            "give a smaller box, or more memory."
        )
    return every[: len(settings.volumes)], every[-1] if settings.validation else None


def _with_voxel_size(
    spec: SynapseSpec,
    settings: SynapseTrainSettings,
    given: Sequence[Annotation],
    judged: Annotation | None,
) -> SynapseSpec:
    """The spec, its voxel size that of the first volume where it does not say.

    Raises BadInput if a volume has voxels unlike those of the model.
    """
    asked = spec.voxel_size or given[0].voxel_size
    for one in (*given, *([judged] if judged is not None else [])):
        require_trained_size(
            one.image.path, one.voxel_size, asked, any_voxel_size=settings.any_voxel_size
        )
        require_symmetric_voxels(settings.trainer.augment, one.image.path, one.voxel_size)
    return spec.model_copy(update={"voxel_size": asked})
