"""Train a synapse network: annotated volumes in, a model out.

What it is: the join of petavox.synapse's trainer to volumes, to phantom tissue made on the spot,
and to validation by the detection of synapses in a box kept apart. `petavox train` comes here
when the settings say `kind: synapses`. What it is not: how the network learns.

Paths in the settings are relative to the settings file; `$NAME` is filled in from the environment.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from petavox import volume
from petavox.errors import AlreadyExists, BadInput
from petavox.ffn.devices import device_of
from petavox.learn.distributed import Place, joined, losses_told, own_device, place_in
from petavox.learn.training_run import RunSettings, run
from petavox.neuron.tables import SITES, checked
from petavox.phantom.tissue import CLEFT, MITO, POST, PRE, VESICLE
from petavox.provenance import digest
from petavox.score.synapses import detection
from petavox.settings import BoxSetting, NmSetting, Settings, parse
from petavox.space import Box, Grid, VoxelSize
from petavox.stages import phantom as tissue_stage
from petavox.stages.connectome import read_table
from petavox.synapse import clefts, targets
from petavox.synapse.apply import SynapsePredictor, read_box
from petavox.synapse.examples import Source
from petavox.synapse.model import SynapseModel, SynapseSpec, load_model
from petavox.synapse.trainer import SynapseTrainer, SynapseTrainerSettings

log = logging.getLogger("petavox")

# vesicles tell the presynaptic side from the other better than its density does
PHANTOM_CLASSES = {
    "cleft": (CLEFT,), "pre": (PRE, VESICLE), "post": (POST,), "mitochondria": (MITO,)
}  # fmt: skip
MASKS = ("cleft", "pre", "post", "mitochondria")
_SITES = SITES.remove(SITES.get_field_index("id"))


class SynapseVolume(Settings):
    """An annotated volume: an image with masks, an image with a table, or phantom tissue."""

    image: str | None = None
    cleft: str | None = None
    """Volumes, nonzero where the class is. What is not given is not learned from this volume."""
    pre: str | None = None
    post: str | None = None
    mitochondria: str | None = None
    labels: str | None = None
    """With `table`: the segmentation whose ids the table holds."""
    table: str | None = None
    """Synapses (id, z_nm, y_nm, x_nm, pre, post; Parquet or CSV): the sides are drawn from it."""
    phantom: tissue_stage.PhantomSettings | None = None
    """Instead: tissue made once, in OUT/phantoms."""
    box: BoxSetting | None = None
    """Voxels to use; None: all of the image."""
    voxel_size: NmSetting | None = None
    """nm, zyx; only for files that do not say."""

    @model_validator(mode="after")
    def _one_kind(self) -> SynapseVolume:
        given = self.cleft is not None or (self.labels is not None and self.table is not None)
        if (self.phantom is not None) == (self.image is not None and given):
            raise ValueError(
                "give `image` with `cleft` or with `labels` and `table`, or give `phantom`"
            )
        return self


class SynapseTrainingVolume(SynapseVolume):
    """A volume to learn from."""

    weight: float = Field(1.0, gt=0)
    """Share of the examples, relative to the other volumes'."""


class SynapseValidation(SynapseVolume):
    """A box in which synapses are detected and matched; keep it apart from what is learned from."""

    within_nm: float = Field(200.0, gt=0)
    """A detected synapse is right if a true one lies so near; one to one."""
    threshold: float = Field(0.5, gt=0, lt=1)
    min_size_nm3: float = Field(0.0, ge=0)
    """Smaller clefts do not count."""
    precision: Literal["f32", "bf16"] = "f32"


class SynapseTrainSettings(Settings):
    """A training of a synapse network."""

    kind: Literal["synapses"]
    model: SynapseSpec | None = None
    """Left out with --init, which brings its own."""
    volumes: list[SynapseTrainingVolume] = Field(min_length=1)
    validation: SynapseValidation | None = None
    """Without it the last model is taken for the best."""
    device: str = "cpu"
    threads: int | None = Field(None, ge=1)
    memory_mb: int = Field(8192, ge=16)
    """Bound of the annotated voxels, which are held in memory."""
    trainer: SynapseTrainerSettings = Field(default_factory=SynapseTrainerSettings)
    run: RunSettings = Field(default_factory=RunSettings)


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
    if (out / "checkpoints").exists() and not resume:
        raise AlreadyExists(f"{out} holds a training; pass --resume, or choose another --out.")
    start = None if init is None else load_model(init)
    spec = _spec(settings, start)
    kind = str(device_of(settings.device))
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    with joined(place, kind), losses_told(place, "start the same command again with --resume"):
        _phantoms(settings, out / "phantoms", place)
        held = [
            AnnotatedVoxels(v, out / "phantoms", base, spec, settings.memory_mb)
            for v in settings.volumes
        ]
        sources = [a.source(v.weight) for a, v in zip(held, settings.volumes, strict=True)]
        spec = spec.model_copy(update={"voxel_size": spec.voxel_size or held[0].voxel_size})
        device = own_device(kind, place)
        trainer = SynapseTrainer(
            spec, sources, settings.trainer, device=device, place=place,
            start=None if start is None else start.network,
        )  # fmt: skip
        validate = None
        if settings.validation is not None and place.leads:
            box = AnnotatedVoxels(
                settings.validation, out / "phantoms", base, spec, settings.memory_mb
            )
            validate = Validation(settings.validation, box, device)
        said: dict[str, Any] = {"settings": settings.model_dump(mode="json")}
        if start is not None:
            said["started_from"] = {"digest": start.digest, **start.spec.provenance}
        return run(
            trainer, out, settings.run, validate=validate, resume=resume, provenance=said,
            quiet=quiet,
        )  # fmt: skip


class AnnotatedVoxels:
    """The voxels of an annotated volume in memory: greys and bits of classes."""

    def __init__(
        self, settings: SynapseVolume, phantoms: Path, base: Path, spec: SynapseSpec, most_mb: int
    ) -> None:
        self.settings = settings
        folder = None if settings.phantom is None else _folder(settings.phantom, phantoms)
        image = (
            volume.open(folder / tissue_stage.NAMES["image"])
            if folder is not None
            else _open(settings.image, base, settings)
        )
        self.name = str(image.path)
        self.voxel_size: tuple[float, float, float] = tuple(image.voxel_size)  # type: ignore[assignment]
        self.box = image.box if settings.box is None else settings.box
        if not image.box.contains(self.box):
            raise BadInput(f"box {self.box} leaves {image.path}, which has {image.box}.")
        if self.box.size * (image.dtype.itemsize + 1) > most_mb << 20:
            raise BadInput(
                f"box {self.box} of {image.path} does not fit into memory_mb {most_mb}: give a "
                "smaller box, or more memory."
            )
        self.image = image.read(self.box)
        self.truth_nm: np.ndarray | None = None
        masks = (
            self._phantom_masks(folder, spec)
            if folder is not None
            else self._masks(base, spec, image)
        )
        self.known = targets.known_bits(list(masks), spec.classes)
        self.bits = targets.bits(masks, spec.classes)
        self.cleft_bit = 1 << spec.classes.index("cleft")

    def _phantom_masks(self, folder: Path, spec: SynapseSpec) -> dict[str, np.ndarray]:
        classes = volume.open(folder / tissue_stage.NAMES["classes"]).read(self.box)
        rows = tissue_stage.read_synapses(folder / tissue_stage.NAMES["synapses"])
        places = np.array([r["position"] for r in rows], float).reshape(-1, 3)
        self.truth_nm = places[_inside(places, self.box, self.voxel_size)]
        return {
            str(n): np.isin(classes, v) for n, v in PHANTOM_CLASSES.items() if n in spec.classes
        }

    def _masks(self, base: Path, spec: SynapseSpec, image: volume.Volume) -> dict[str, np.ndarray]:
        s = self.settings
        masks: dict[str, np.ndarray] = {
            name: _beside(image, getattr(s, name), base, s).read(self.box) > 0
            for name in MASKS
            if getattr(s, name) is not None and name in spec.classes
        }
        if s.table is not None:
            file = _filled(s.table, base)
            table = checked(read_table(Path(file)), _SITES, file)
            places = np.stack([table[f"{a}_nm"].to_numpy() for a in "zyx"], 1)
            drawn = targets.from_table(
                _beside(image, s.labels, base, s).read(self.box), self.box.start, self.voxel_size,
                places, table["pre"].to_numpy(), table["post"].to_numpy(),
            )  # fmt: skip
            masks = {n: m for n, m in drawn.items() if n in spec.classes} | masks
            each = np.unique(places, axis=0)
            self.truth_nm = each[_inside(each, self.box, self.voxel_size)]
        return masks

    def source(self, weight: float) -> Source:
        """For the sampler."""
        at = np.argwhere(self.bits & self.cleft_bit)
        # a sample is enough, and the same one each time
        at = at[:: max(1, len(at) // 100_000)] + np.array(self.box.start)
        return Source(
            name=self.name,
            box=self.box,
            image=lambda b: self.image[b.slices(self.box.start)],
            targets=lambda b: self.bits[b.slices(self.box.start)],
            known=self.known,
            clefts=at,
            weight=weight,
        )

    def truth(self) -> np.ndarray:
        """Places of the synapses, (n, 3) nm: of the table, else centroids of the clefts drawn."""
        if self.truth_nm is not None:
            return self.truth_nm
        said = np.where(self.bits & self.cleft_bit, np.uint8(255), np.uint8(0))
        _, parts = clefts.components(said, 0.5, self.box.start)
        return clefts.positions_nm(parts, self.voxel_size)


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


def _spec(settings: SynapseTrainSettings, start: SynapseModel | None) -> SynapseSpec:
    if start is None:
        return settings.model or SynapseSpec()
    if settings.model is not None and settings.model.model_dump(
        exclude={"provenance"}
    ) != start.spec.model_dump(exclude={"provenance"}):
        raise BadInput(
            "the settings' `model` differs from that of --init; leave `model` out to take the "
            "model's own."
        )
    return start.spec.model_copy(update={"provenance": {}})


def _phantoms(settings: SynapseTrainSettings, phantoms: Path, place: Place) -> None:
    """Make the phantom tissue that is not there yet."""
    asked = [*settings.volumes, *([settings.validation] if settings.validation else [])]
    made = [v.phantom for v in asked if v.phantom is not None]
    if place.leads:
        for tissue in made:
            folder = _folder(tissue, phantoms)
            if not (folder / "phantom.json").is_file():
                shutil.rmtree(folder, ignore_errors=True)  # half made by a run that died
                tissue_stage.write(folder, tissue)
    if place.ranks > 1 and made:
        torch.distributed.barrier()


def _folder(settings: tissue_stage.PhantomSettings, phantoms: Path) -> Path:
    return phantoms / digest(settings.model_dump(mode="json"))[:12]


def _filled(path: str, base: Path) -> str:
    filled = os.path.expandvars(path)
    if "$" in filled:
        raise BadInput(f"{path} names an environment variable that is not set.")
    return filled if "://" in filled else str(base / filled)


def _open(path: str | None, base: Path, settings: SynapseVolume) -> volume.Volume:
    assert path is not None
    return volume.open(_filled(path, base), voxel_size=settings.voxel_size)


def _beside(
    image: volume.Volume, path: str | None, base: Path, settings: SynapseVolume
) -> volume.Volume:
    """An annotation of an image. Raises BadInput if its voxels are not the image's."""
    drawn = _open(path, base, settings)
    if tuple(drawn.voxel_size) != tuple(image.voxel_size):
        raise BadInput(
            f"{image.path} has voxels of {image.voxel_size}, {drawn.path} of {drawn.voxel_size}; "
            "they must be equal."
        )
    return drawn


def _inside(places: np.ndarray, box: Box, voxel_size: tuple[float, float, float]) -> np.ndarray:
    """Which places (n, 3) nm lie in a box."""
    voxels = np.floor(places / np.array(voxel_size))
    return np.asarray(((voxels >= box.start) & (voxels < box.stop)).all(1))
