"""Train: annotated volumes in, a model out.

What it is: the join of petavox.ffn's training to volumes, to phantom tissue made on the spot, to
validation by segmentation (a box is flooded and scored), and to ranks.
What it is not: how a network learns (petavox.ffn.trainer), or when (petavox.learn.training_run).

Paths in the settings are relative to the settings file; `$NAME` and `${NAME}` are filled in from
the environment.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from petavox.errors import AlreadyExists, BadInput
from petavox.ffn.devices import Precision, device_of
from petavox.ffn.examples import Source
from petavox.ffn.flood import SeedSettings, flood
from petavox.ffn.growth import FloodSettings, Growth
from petavox.ffn.model import Model, ModelSpec, load_model
from petavox.ffn.predictor import Predictor
from petavox.ffn.trainer import Trainer, TrainerSettings
from petavox.learn.distributed import Place, joined, losses_told, own_device, place_in
from petavox.learn.training_run import RunSettings, run
from petavox.provenance import digest
from petavox.score.overlap import adapted_rand, fill, variation_of_information
from petavox.score.pairs import PairTable, pair_table, sums_by
from petavox.settings import BoxSetting, NmSetting, Settings, parse, read_yaml_mapping
from petavox.space import Box
from petavox.stages import phantom as tissue_stage
from petavox.volume import Volume
from petavox.volume import open as open_volume

log = logging.getLogger("petavox")


class VolumeSettings(Settings):
    """An annotated volume: image and labels, or phantom tissue to be made."""

    image: str | None = None
    labels: str | None = None
    mask: str | None = None
    """Volume, 0 where the annotation says nothing: no loss, no example."""
    phantom: tissue_stage.PhantomSettings | None = None
    """Instead of image and labels: tissue made once, in OUT/phantoms."""
    box: BoxSetting | None = None
    """Voxels to use; None: all that image and labels share."""
    voxel_size: NmSetting | None = None
    """nm, zyx; only for files that do not say."""

    @model_validator(mode="after")
    def _one_kind(self) -> VolumeSettings:
        if (self.phantom is None) == (self.image is None or self.labels is None):
            raise ValueError("give `image` and `labels`, or `phantom`")
        return self


class TrainingVolume(VolumeSettings):
    """A volume to learn from."""

    weight: float = Field(1.0, gt=0)
    """Share of the examples, relative to the other volumes'."""


class ValidationSettings(VolumeSettings):
    """A box that is flooded and scored; keep it apart from what is learned from."""

    flood: FloodSettings = Field(default_factory=FloodSettings)
    seeds: SeedSettings = Field(default_factory=SeedSettings)
    evaluations: float = Field(100.0, gt=0)
    """Evaluations of each voxel after which a flood is stopped and scored as it is: an early
    network would flood without end. A good one needs about 60."""
    precision: Precision = "f32"


class GreySettings(Settings):
    """Grey values of raw images; the network sees (raw - mean) / std."""

    mean: float
    std: float = Field(gt=0)


class TrainSettings(Settings):
    """A training."""

    kind: Literal["ffn"] = "ffn"
    """`synapses` is another training: petavox.stages.synapses_train."""
    model: ModelSpec | None = None
    """Geometry and normalisation; left out with --init, which brings its own."""
    grey: GreySettings | None = None
    """With --init: mean and deviation of the new images' grey values, instead of the model's."""
    volumes: list[TrainingVolume] = Field(min_length=1)
    validation: ValidationSettings | None = None
    """Without it the last model is taken for the best."""
    device: str = "cpu"
    threads: int | None = Field(None, ge=1)
    """Of the processor, for each rank; None: as torch finds fit."""
    trainer: TrainerSettings = Field(default_factory=TrainerSettings)
    run: RunSettings = Field(default_factory=RunSettings)


def read_settings(path: str | Path, changes: dict[str, Any] | None = None) -> TrainSettings:
    """The settings in a file; `changes` replace keys, dotted (None: leave as it is)."""
    return parse(TrainSettings, changed(path, changes), str(path))


def changed(path: str | Path, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """The values in a file of settings, with some replaced; see `read_settings`."""
    values = read_yaml_mapping(path)
    for key, value in (changes or {}).items():
        if value is not None:
            *above, name = key.split(".")
            here = values
            for part in above:
                here = here.setdefault(part, {})
            here[name] = value
    return values


def kind_of(path: str | Path) -> str:
    """Which network a file of settings is for: "synapses", or "ffn" where it does not say.

    Raises BadInput for another kind.
    """
    kind = read_yaml_mapping(path).get("kind", "ffn")
    if kind not in ("ffn", "synapses"):
        raise BadInput(f"kind in {path} is '{kind}': it must be ffn or synapses.")
    return str(kind)


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
    if (out / "checkpoints").exists() and not resume:
        raise AlreadyExists(f"{out} holds a training; pass --resume, or choose another --out.")
    start = None if init is None else load_model(init)
    if settings.model is None and start is None:
        raise BadInput("the settings have no `model`; give one, or --init MODEL.")
    kind = str(device_of(settings.device))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with joined(place, kind), losses_told(place, "start the same command again with --resume"):
        spec = _spec(settings, start, place)
        sources = _sources(settings, out / "phantoms", base, place)
        device = own_device(kind, place)
        trainer = Trainer(
            spec,
            sources,
            settings.trainer,
            device=device,
            place=place,
            start=None if start is None else start.network,
        )
        validation = settings.validation
        validate = None
        if validation is not None and place.leads:
            validate = Validation(validation, out / "phantoms", base, device)
        return run(
            trainer,
            out,
            settings.run,
            validate=validate,
            resume=resume,
            provenance=_provenance(settings, start),
            quiet=quiet,
        )


class Validation:
    """Floods a box with a model and scores it against the truth."""

    def __init__(
        self, settings: ValidationSettings, phantoms: Path, base: Path, device: torch.device
    ) -> None:
        image, labels, _ = _opened(settings, phantoms, base, alone=True)
        box = _box(settings, image, labels)
        self.settings, self.device = settings, device
        self.voxel_size = tuple(image.voxel_size)
        self.image, self.truth = image.read(box), labels.read(box)

    def __call__(self, model: Model) -> dict[str, float]:
        """Scores where the truth has an object; VI in bits.

        `adapted_rand` counts all empty voxels as one object, as is usual. `error`, which chooses
        the best model, counts each as an object of its own: nothing found is error 1.
        """
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
            log.info("validation: stopped after %d fields of view", budget.most)
        table = pair_table(canvas.labels(), self.truth)
        known = table.where(table.truth > 0)
        vi = variation_of_information(table.labelled())
        found = table.labelled()
        # pairs of voxels joined in the truth that are also joined in the result
        joined_found = adapted_rand(found).recall * _pairs(found) if len(found) else 0.0
        recall = joined_found / _pairs(known) if _pairs(known) else 1.0
        precision = adapted_rand(found).precision if len(found) else 1.0
        return {
            "error": 1 - 2 * precision * recall / (precision + recall),
            "adapted_rand": adapted_rand(known).error,
            "rand_precision": precision,
            "rand_recall": recall,
            "vi_split": vi.split,
            "vi_merge": vi.merge,
            "fill": fill(table),
            "objects": float(canvas.counters["objects"]),
            "fovs": float(canvas.counters["fovs"]),
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


# -- volumes ---------------------------------------------------------------------------------


def _sources(settings: TrainSettings, phantoms: Path, base: Path, place: Place) -> list[Source]:
    made = [v.phantom for v in settings.volumes if v.phantom is not None]
    if settings.validation is not None and settings.validation.phantom is not None:
        made.append(settings.validation.phantom)
    if place.leads:
        for tissue in made:
            _phantom(tissue, phantoms)
    if place.ranks > 1 and made:
        torch.distributed.barrier()
    out = []
    for number, volume in enumerate(settings.volumes):
        image, labels, mask = _opened(volume, phantoms, base, alone=place.ranks == 1)
        if mask is not None:
            _require_same_voxels(image, mask)
        out.append(
            Source(
                name=volume.image or f"phantom {number}",
                box=_box(volume, image, labels),
                image=image.read,
                labels=labels.read,
                mask=None if mask is None else mask.read,
                weight=volume.weight,
            )
        )
    return out


def _opened(
    settings: VolumeSettings, phantoms: Path, base: Path, *, alone: bool
) -> tuple[Volume, Volume, Volume | None]:
    def at(path: str) -> Volume:
        filled = os.path.expandvars(path)
        if "$" in filled:
            raise BadInput(f"{path} names an environment variable that is not set.")
        place = filled if "://" in filled else str(base / filled)
        return open_volume(place, voxel_size=settings.voxel_size)

    if settings.phantom is not None:
        folder = (
            _phantom(settings.phantom, phantoms) if alone else _folder(settings.phantom, phantoms)
        )
        return open_volume(folder / "image.zarr"), open_volume(folder / "labels.zarr"), None
    assert settings.image is not None
    assert settings.labels is not None
    return (
        at(settings.image),
        at(settings.labels),
        None if settings.mask is None else at(settings.mask),
    )


def _folder(settings: tissue_stage.PhantomSettings, phantoms: Path) -> Path:
    return phantoms / digest(settings.model_dump(mode="json"))[:12]


def _phantom(settings: tissue_stage.PhantomSettings, phantoms: Path) -> Path:
    """Make phantom tissue, unless it is there."""
    folder = _folder(settings, phantoms)
    if not (folder / "phantom.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)  # half made by a run that died
        tissue_stage.write(folder, settings)
    return folder


def _require_same_voxels(image: Volume, other: Volume) -> None:
    if tuple(image.voxel_size) != tuple(other.voxel_size):
        raise BadInput(
            f"{image.path} has voxels of {image.voxel_size}, {other.path} of "
            f"{other.voxel_size}; they must be equal."
        )


def _box(settings: VolumeSettings, image: Volume, labels: Volume) -> Box:
    shared = image.box.intersection(labels.box)
    _require_same_voxels(image, labels)
    if image.dtype.kind != "u" or labels.dtype.kind != "u":
        raise BadInput(
            f"{image.path} holds {image.dtype}, {labels.path} {labels.dtype}: both must be "
            "unsigned whole numbers."
        )
    if settings.box is None:
        if shared.is_empty:
            raise BadInput(f"{image.path} and {labels.path} share no voxel.")
        return shared
    if not shared.contains(settings.box):
        raise BadInput(
            f"box {settings.box} leaves what {image.path} and its labels share: {shared}."
        )
    return settings.box


def _spec(settings: TrainSettings, start: Model | None, place: Place) -> ModelSpec:
    if start is None:
        assert settings.model is not None
        if settings.grey is not None:
            raise BadInput("`grey` is for --init; a new model has image_mean and image_std.")
        return settings.model
    given, theirs = settings.model, start.spec
    if given is not None and given.model_dump(exclude={"provenance"}) != theirs.model_dump(
        exclude={"provenance"}
    ):
        raise BadInput(
            "the settings' `model` differs from that of --init; leave `model` out to take the "
            "model's own."
        )
    change: dict[str, Any] = {"provenance": {}}
    if settings.grey is not None:
        change |= {"image_mean": settings.grey.mean, "image_std": settings.grey.std}
    return theirs.model_copy(update=change)


def _provenance(settings: TrainSettings, start: Model | None) -> dict[str, Any]:
    out: dict[str, Any] = {"settings": settings.model_dump(mode="json")}
    if start is not None:
        out["started_from"] = {"digest": start.digest, **start.spec.provenance}
    return out
