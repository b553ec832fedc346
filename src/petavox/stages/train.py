"""Train: annotated volumes in, a model out.

What it is: the join of petavox.ffn's training to volumes, to phantom tissue made on the spot, to
validation by segmentation (petavox.stages.train_validation), and to ranks.
What it is not: how a network learns (petavox.ffn.trainer), or when (petavox.learn.training_run).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from petavox.errors import BadInput
from petavox.ffn.devices import device_of
from petavox.ffn.model import Model, ModelSpec, load_model
from petavox.ffn.pieces import Source
from petavox.ffn.trainer import Trainer
from petavox.learn.distributed import Place, joined, led, losses_told, own_device, place_in
from petavox.learn.training_run import run
from petavox.space import Box
from petavox.stages.train_validation import Validation
from petavox.stages.training_settings import TrainingVolume, TrainSettings, VolumeSettings
from petavox.stages.training_spec import spec_of
from petavox.stages.training_volumes import (
    make_phantoms,
    opened,
    phantom_folder,
    require_new,
    require_same_voxels,
    require_symmetric_voxels,
    require_trained_size,
)
from petavox.volume import Volume
from petavox.volume import open as open_volume


def train(
    settings: TrainSettings,
    out: str | Path,
    *,
    base: str | Path = ".",
    init: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train a model into the folder `out`; returns the figures.

    base: folder that relative paths start from.  init: model to start from (fine-tuning).
    resume: go on from the newest checkpoint in `out`.
    In a process started by torchrun, mpiexec or srun this is one rank of many.
    """
    out, base = Path(out), Path(base)
    place = place_in(os.environ)
    if not resume:
        require_new(out)
    start = None if init is None else load_model(init)
    spec = _spec(settings, start, out, place, resume=resume)
    kind = str(device_of(settings.device))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with (
        joined(place, kind, timeout_s=60 * settings.run.silence_minutes),
        losses_told(place, "start the same command again with --resume"),
    ):
        held, judged = _opened(settings, out / "phantoms", base, place)
        spec = _with_voxel_size(spec, settings, held, judged)
        device = own_device(kind, place)
        validate = None
        if judged is not None and settings.validation is not None:
            make = partial(
                Validation, settings.validation, spec, judged.box, judged.image, judged.labels,
                judged.mask, device,
            )  # fmt: skip
            validate = led(place, device, make)
        trainer = Trainer(
            spec,
            [h.source(v, i) for i, (h, v) in enumerate(zip(held, settings.volumes, strict=True))],
            settings.trainer,
            device=device,
            place=place,
            start=None if start is None else start.network,
        )
        return run(
            trainer,
            out,
            settings.run,
            validate=validate,
            resume=resume,
            provenance=_provenance(settings, start),
            quiet=quiet,
        )


# -- volumes ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Annotated:
    """An annotated volume that was opened; all three hold `box`, in the same voxels."""

    image: Volume
    labels: Volume
    mask: Volume | None
    box: Box

    def source(self, settings: TrainingVolume, number: int) -> Source:
        """For the trainer."""
        return Source(
            name=settings.image or f"phantom {number}",
            box=self.box,
            image=self.image.read,
            labels=self.labels.read,
            mask=None if self.mask is None else self.mask.read,
            weight=settings.weight,
        )


def _opened(
    settings: TrainSettings, phantoms: Path, base: Path, place: Place
) -> tuple[list[_Annotated], _Annotated | None]:
    """The volumes to learn from, and that of the validation. What is given by files is checked
    before phantom tissue is made."""
    asked: list[VolumeSettings] = list(settings.volumes)
    if settings.validation is not None:
        asked.append(settings.validation)
    given = {id(v): _annotated(v, base) for v in asked if v.phantom is None}
    make_phantoms([v.phantom for v in asked if v.phantom is not None], phantoms, place)
    every = [given.get(id(v)) or _tissue(v, phantoms) for v in asked]
    first = every[0].image
    for one in every:
        if one.image.dtype != first.dtype:
            raise BadInput(
                f"{first.path} holds {first.dtype}, {one.image.path} {one.image.dtype}: their grey "
                "values cannot have one mean and deviation; bring them to one type."
            )
        require_symmetric_voxels(settings.trainer.augment, one.image.path, [*one.image.voxel_size])
    return every[: len(settings.volumes)], None if settings.validation is None else every[-1]


def _annotated(settings: VolumeSettings, base: Path) -> _Annotated:
    assert settings.image is not None
    assert settings.labels is not None
    image = opened(settings.image, base, settings.voxel_size)
    labels = opened(settings.labels, base, settings.voxel_size)
    mask = None if settings.mask is None else opened(settings.mask, base, settings.voxel_size)
    return _checked(settings, image, labels, mask)


def _tissue(settings: VolumeSettings, phantoms: Path) -> _Annotated:
    assert settings.phantom is not None
    folder = phantom_folder(settings.phantom, phantoms)
    image, labels = open_volume(folder / "image.zarr"), open_volume(folder / "labels.zarr")
    return _checked(settings, image, labels, None)


def _checked(
    settings: VolumeSettings, image: Volume, labels: Volume, mask: Volume | None
) -> _Annotated:
    require_same_voxels(image, labels)
    if image.dtype.kind != "u" or labels.dtype.kind != "u":
        raise BadInput(
            f"{image.path} holds {image.dtype}, {labels.path} {labels.dtype}: both must be "
            "unsigned whole numbers."
        )
    shared = image.box.intersection(labels.box)
    if shared.is_empty:
        raise BadInput(f"{image.path} and {labels.path} share no voxel.")
    box = shared if settings.box is None else settings.box
    if not shared.contains(box):
        raise BadInput(f"box {box} leaves what {image.path} and its labels share: {shared}.")
    if mask is not None:
        require_same_voxels(image, mask)
        if not mask.box.contains(box):
            raise BadInput(
                f"mask {mask.path} has {mask.box}, which leaves out part of {box}: give a `box` "
                "that the mask holds."
            )
    return _Annotated(image, labels, mask, box)


# -- model -----------------------------------------------------------------------------------


def _spec(
    settings: TrainSettings, start: Model | None, out: Path, place: Place, *, resume: bool
) -> ModelSpec:
    given, theirs = settings.model, None if start is None else start.spec
    spec = spec_of(ModelSpec, given, theirs, out, place, resume=resume)
    if spec is None:
        raise BadInput("the settings have no `model`; give one, or --init MODEL.")
    if settings.grey is None:
        return spec
    if theirs is None and given is not None and not resume:
        raise BadInput("`grey` is for --init; a new model has image_mean and image_std.")
    grey = {"image_mean": settings.grey.mean, "image_std": settings.grey.std}
    return spec.model_copy(update=grey)


def _with_voxel_size(
    spec: ModelSpec,
    settings: TrainSettings,
    held: Sequence[_Annotated],
    judged: _Annotated | None,
) -> ModelSpec:
    """The spec, its voxel size that of the first volume where it does not say.

    Raises BadInput if a volume has voxels unlike those of the model.
    """
    first = held[0].image.voxel_size
    asked = spec.voxel_size or (first.z, first.y, first.x)
    for one in (*held, *([judged] if judged is not None else [])):
        require_trained_size(
            one.image.path, [*one.image.voxel_size], asked, any_voxel_size=settings.any_voxel_size
        )
    return spec.model_copy(update={"voxel_size": asked})


def _provenance(settings: TrainSettings, start: Model | None) -> dict[str, Any]:
    out: dict[str, Any] = {"settings": settings.model_dump(mode="json")}
    if start is not None:
        # an imported model has a digest in its provenance, that of the file it was imported from
        out["started_from"] = {**start.spec.provenance, "digest": start.digest}
    return out
