"""The network of synapses on an image, block by block: one volume of probabilities for each class.

What it is: the joint of petavox.synapse.apply to volumes. What it is not: the network, or what
follows (petavox.stages.synapses).
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Literal

import numpy as np

from petavox import volume
from petavox.blocks.task import Context, Costs, Counters
from petavox.errors import BadInput
from petavox.settings import BoxSetting, NmSetting, Settings, ZyxSetting
from petavox.space import Block, Box, Grid, VoxelSize
from petavox.stages.levels import empty
from petavox.stages.stage import Stage
from petavox.stages.stamps import stamp
from petavox.synapse.apply import SynapsePredictor, read_box
from petavox.synapse.model import SynapseSpec, load_model, load_spec


class PredictSettings(Settings):
    """How the network is applied."""

    block: ZyxSetting = (128, 128, 128)
    """Voxels of one piece of work; whole strides of the model."""
    box: BoxSetting | None = None
    """Voxels to look at; None: all of the image."""
    voxel_size: NmSetting | None = None
    """nm, zyx; only for images that do not say."""
    any_voxel_size: bool = False
    """Use the model on voxels of another size than it was trained on."""
    precision: Literal["f32", "bf16"] = "f32"


def image_of(path: str | Path, settings: PredictSettings) -> volume.Volume:
    """The image to look at."""
    return volume.open(path, voxel_size=settings.voxel_size)


def _total(image: volume.Volume, settings: PredictSettings) -> Box:
    if settings.box is None:
        return image.box
    if not image.box.contains(settings.box):
        raise BadInput(f"box {settings.box} leaves the image {image.path}: {image.box}.")
    return settings.box


class Predict(Stage):
    """reads: image, model.  writes: one volume for each class of the model, by its name."""

    name = "synapses-predict"
    function = "petavox.stages.synapses_predict:predict_block"
    code = ("petavox.synapse.apply", "petavox.synapse.network", "petavox.synapse.model")
    settings: PredictSettings

    def grid(self) -> Grid:
        """Blocks with the surroundings that the network sees."""
        image, spec = image_of(self.reads["image"], self.settings), load_spec(self.reads["model"])
        if any(b % s for b, s in zip(self.settings.block, spec.stride, strict=True)):
            raise BadInput(
                f"block is {self.settings.block}, but the model coarsens by {spec.stride}: make "
                "each side a multiple of that."
            )
        _require_voxel_size(image, spec, self.settings)
        return Grid(_total(image, self.settings), self.settings.block, spec.reach)

    def create(self) -> None:
        """The empty volumes."""
        size = image_of(self.reads["image"], self.settings).voxel_size
        for path in self.writes.values():
            empty(path, self.grid(), size, np.uint8, "image")

    def costs(self) -> Costs:
        """The image, and the network's maps at the finest level."""
        grid, spec = self.grid(), load_spec(self.reads["model"])
        n = math.prod(b + 2 * c for b, c in zip(grid.block, grid.context, strict=True))
        return Costs(
            memory_bytes=n * (16 * max(spec.features) // 2 + 16 * spec.features[0] + 16)
            + (400 << 20),
            read_bytes=2 * n,
            write_bytes=math.prod(grid.block) * len(self.writes),
            files=len(self.writes),
        )


def predict_block(block: Block, context: Context) -> Counters:
    """Probabilities of one block."""
    settings = context.parsed(PredictSettings)
    model = context.reads["model"]
    predictor = _predictor(model, stamp(model), context.device, settings.precision)
    image = image_of(context.reads["image"], settings)
    read = read_box(block.write, block.total, predictor.spec)
    said = predictor(image.read(read))
    here = (slice(None), *block.write.slices(read.start))
    counters = {"voxels": block.write.size, "voxels_read": read.size}
    for name, values in zip(predictor.spec.classes, said[here], strict=True):
        out = volume.open(context.writes[name], writable=True, incomplete=True)
        out.write(block.write, values)
        counters[f"{name}_voxels"] = int(np.count_nonzero(values > 127))
    return counters


@functools.lru_cache(maxsize=1)
def _predictor(
    model: str, _stamp: tuple[int, ...], device: str, precision: Literal["f32", "bf16"]
) -> SynapsePredictor:
    return SynapsePredictor(load_model(model), device=device, precision=precision)


def _require_voxel_size(image: volume.Volume, spec: SynapseSpec, settings: PredictSettings) -> None:
    if spec.voxel_size is None or settings.any_voxel_size:
        return
    for own, asked in zip(image.voxel_size, spec.voxel_size, strict=True):
        if not 0.8 <= own / asked <= 1.25:
            raise BadInput(
                f"{image.path} has voxels of {image.voxel_size}, the model was trained on "
                f"{VoxelSize.of(spec.voxel_size)}: use another level of the image or another "
                "model, or set any_voxel_size: true."
            )
