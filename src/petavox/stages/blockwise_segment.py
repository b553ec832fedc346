"""Segment, blockwise: overlapping subvolumes, each with its own objects.

    petavox segment IMAGE OBJECTS --model M --blocks 256 256 256 --workers 4
    petavox reconcile OBJECTS OUT

What it is: the join of a flood (or of connected components, for what needs no network) to blocks.
What it is not: the deciding of which objects of two blocks are one (petavox.stages.reconcile).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from petavox import volume
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.outcome import Limits, Outcome
from petavox.blocks.task import Context, Costs, Counters
from petavox.errors import BadInput
from petavox.ffn.flood import BYTES_PER_VOXEL, SeedSettings
from petavox.ffn.growth import FloodSettings
from petavox.ffn.lanes import LaneSettings
from petavox.segment.links import LOCAL_BITS
from petavox.settings import BoxSetting, Settings, ZyxSetting
from petavox.space import Block, Box, Grid, zyx
from petavox.stages import tables
from petavox.stages.block_floods import segmented
from petavox.stages.block_labels import BlockLabels
from petavox.stages.chain import require_chain
from petavox.stages.sampling import required
from petavox.stages.stage import Stage, run_stage

log = logging.getLogger("petavox")

RESTRICTIONS = ("mask", "seed_mask", "shift_y", "shift_x")
"""Volumes that a flood may be restricted by (petavox.stages.restrictions)."""


class BlockwiseSettings(Settings):
    """How a volume is cut into subvolumes, and how each is segmented."""

    block: ZyxSetting = (256, 256, 256)
    """Voxels that a block decides on."""
    context: ZyxSetting = (32, 32, 32)
    """Voxels around it that are segmented too, for the votes; at least half a field of view."""
    box: BoxSetting | None = None
    """None: all of the image."""
    method: Literal["flood", "components"] = "flood"
    """components: connected voxels of one value, or at or above `threshold`."""
    threshold: float | None = None
    min_size: int = Field(1, ge=1)
    """Voxels; smaller components are dropped (method components)."""
    flood: FloodSettings = Field(default_factory=FloodSettings)
    seeds: SeedSettings = Field(default_factory=SeedSettings)
    precision: Literal["f32", "bf16", "int8"] = "f32"
    """Not chosen by the machine: the result must not depend on who runs a block."""
    lanes: int = Field(1, ge=1)
    """Blocks that one worker floods at once, in lock-step. The labels are the same."""
    together: LaneSettings = Field(default_factory=LaneSettings)
    """How the lanes share the device; with the defaults, exactly as one by one."""
    shift_threshold: float = Field(default=4.0, gt=0)
    """Displacement, voxels, from which a shift mask forbids a step."""
    voxel_size: tuple[float, float, float] | None = None
    """nm, zyx, if the image does not say."""

    @model_validator(mode="after")
    def _of_blocks(self) -> BlockwiseSettings:
        if self.flood.keep_probability:
            raise ValueError(
                "flood.keep_probability is of one subvolume: leave it out, or flood a --box "
                "without --blocks"
            )
        if self.seeds.policy == "points":
            raise ValueError(
                "seeds.policy points is of one subvolume: choose peaks, peaks-2d, grid or fill, or "
                "flood a --box without --blocks"
            )
        return self

    @model_validator(mode="after")
    def _one_scale_a_block(self) -> BlockwiseSettings:
        if self.precision == "int8" and (self.lanes > 1 or self.together != LaneSettings()):
            raise ValueError(
                "precision int8 takes its scales from each block alone, so lanes must be 1"
            )
        return self


class BlockwiseSegment(Stage):
    """Every block segmented by itself, context included.

    reads: image, model for method flood, and where there are such: mask, seed_mask, shift_y and
    shift_x.  writes: objects (labels of blocks), origins (a table: where each came from).
    """

    name = "segment-blocks"
    function = "petavox.stages.blockwise_segment:segment_block"
    code = (
        "petavox.ffn.batched",
        "petavox.ffn.batched_maps",
        "petavox.ffn.canvas",
        "petavox.ffn.flip",
        "petavox.ffn.flood",
        "petavox.ffn.moves",
        "petavox.ffn.network",
        "petavox.ffn.restrict",
        "petavox.ffn.seeds",
        "petavox.ffn.predictor",
        "petavox.ffn.int8",
        "petavox.segment.connected",
        "petavox.stages.block_floods",
        "petavox.stages.block_labels",
        "petavox.stages.predictors",
        "petavox.stages.restrictions",
        "petavox.stages.sampling",
    )
    settings: BlockwiseSettings

    def _image(self) -> volume.Volume:
        return volume.open(self.reads["image"], voxel_size=self.settings.voxel_size)

    def grid(self) -> Grid:
        """What one worker takes at a time: one block, or `lanes` neighbouring ones."""
        return with_neighbours(self.blocks(), self.settings.lanes)

    def blocks(self) -> Grid:
        """Blocks of the image. Raises BadInput if the context is too small for the model."""
        s, image = self.settings, self._image()
        box = s.box or image.box
        if not image.box.contains(box) or box.is_empty:
            raise BadInput(f"box {box} is not inside {image.path}, whose box is {image.box}.")
        grid = Grid(box, s.block, s.context)
        if s.method == "flood":
            self._check_flood(grid, image)
        return grid

    def _check_flood(self, grid: Grid, image: volume.Volume) -> None:
        from petavox.ffn.model import load_spec
        from petavox.stages.flood_inputs import require_image, require_trained_on

        require_image(image)
        for name in RESTRICTIONS:
            if name in self.reads:
                required(volume.open(self.reads[name]), grid.total, image.voxel_size)
        if "model" not in self.reads:
            raise BadInput("method flood needs a model; give --model.")
        spec = load_spec(self.reads["model"]).stepping(self.settings.flood.deltas)
        require_trained_on(image, spec)
        reach = spec.margin
        if any(c < r for c, r in zip(grid.context, reach, strict=True)):
            raise BadInput(
                f"context is {grid.context}, less than {reach}, the reach of the model's field of "
                f"view {spec.fov} (z y x): objects would stop short of the votes. Use at least "
                f"{reach}."
            )
        smallest = [
            min(n, b, (n % b or b) + c)
            for n, b, c in zip(grid.total.shape, grid.block, grid.context, strict=True)
        ]
        thin = [a for a, n, f in zip("zyx", smallest, spec.fov, strict=True) if n < f]
        if thin:
            raise BadInput(
                f"the last blocks along {', '.join(thin)} are thinner with their context than the "
                f"field of view {spec.fov}: choose a block shape that leaves a larger rest."
            )

    def create(self) -> None:
        """The empty labels and table."""
        image = self._image()
        BlockLabels.create(self.writes["objects"], self.blocks(), image.voxel_size)
        tables.create(self.writes["origins"])

    def costs(self) -> Costs:
        """Image, logits, labels and seeds of one subvolume; the network's own memory on top."""
        read = Box((0, 0, 0), self.settings.block).grown(self.settings.context).size
        read *= self.settings.lanes
        per_voxel = BYTES_PER_VOXEL if self.settings.method == "flood" else 40
        network = (512 << 20) if self.settings.method == "flood" else (96 << 20)
        return Costs(
            memory_bytes=per_voxel * read + network,
            read_bytes=read,
            write_bytes=read // 2,
            files=2,
        )


def with_neighbours(blocks: Grid, lanes: int) -> Grid:
    """A coarser grid, of groups of at most `lanes` neighbouring blocks: along x first, then y, z.

    The blocks stay what they are: `blocks.touching(group.write)` gives those of a group.
    """
    factors, left = [1, 1, 1], lanes
    for axis in (2, 1, 0):
        factors[axis] = min(left, blocks.shape[axis])
        left //= factors[axis]
    group = zyx([b * f for b, f in zip(blocks.block, factors, strict=True)])
    return Grid(blocks.total, group, blocks.context)


def segment_block(group: Block, context: Context) -> Counters:
    """Segment the blocks of a group, each with its context; write labels and origins of each."""
    settings = context.parsed(BlockwiseSettings)
    image = volume.open(context.reads["image"], voxel_size=settings.voxel_size)
    kept = BlockLabels.open(context.writes["objects"], writable=True, incomplete=True)
    blocks = list(kept.grid.touching(group.write))
    sums: Counter[str] = Counter()
    for block, found in zip(blocks, segmented(blocks, image, settings, context), strict=True):
        labels = found.labels
        if int(labels.max(initial=0)) >= 1 << LOCAL_BITS:
            raise BadInput(
                f"block {block.number} has too many objects for its ids; use smaller blocks"
            )
        kept.write(block, labels)
        part = tables.part(context.writes["origins"], block.number)
        tables.write(part, _table(found.origins, block))
        inner = labels[block.write.slices(block.read.start)]
        sums.update(
            voxels=block.write.size,
            read_voxels=labels.size,
            objects=int(len(np.unique(labels)) - (labels == 0).any()),
            filled_voxels=int(np.count_nonzero(inner)),
            **found.counters,
        )
    return dict(sums)


def _table(origins: list[Any], block: Block) -> dict[str, np.ndarray]:
    """Origins as columns: local id, seed (voxels of the volume), steps, voxels, seconds."""
    seeds = np.array([o.seed for _, o in origins], np.int64).reshape(-1, 3)
    seeds = seeds + np.array(block.read.start, np.int64)
    return {
        "local": np.array([i for i, _ in origins], np.uint32),
        **{f"seed_{a}": seeds[:, k] for k, a in enumerate("zyx")},
        "fovs": np.array([o.fovs for _, o in origins], np.int64),
        "voxels": np.array([o.voxels for _, o in origins], np.int64),
        "deleted": np.array([o.deleted for _, o in origins], np.int64),
        "seconds": np.array([o.seconds for _, o in origins], np.float64),
    }


def segment_blocks(
    image: str | Path,
    objects: str | Path,
    *,
    ledger: Ledger,
    model: str | Path | None = None,
    restrict: Mapping[str, str | Path] | None = None,
    settings: BlockwiseSettings | None = None,
    engine: Engine | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Outcome:
    """Segment an image block by block into labels of blocks at `objects`.

    restrict: volumes by name, of mask, seed_mask, shift_y, shift_x (petavox.stages.restrictions).
    The origins go to `objects`.origins. Goes on where an earlier run of the same ended.
    """
    objects = Path(objects)
    reads: dict[str, str | Path] = {"image": image}
    if model is not None:
        reads["model"] = model
    reads |= restrict or {}
    stage = BlockwiseSegment(
        settings or BlockwiseSettings(),
        reads=reads,
        writes={"objects": objects, "origins": objects.with_name(objects.name + ".origins")},
    )
    require_chain(
        {stage.name: objects},
        {stage.name: stage.writes["origins"]},
        reads.values(),
        ledger=ledger,
        overwrite=overwrite,
    )
    done = run_stage(
        stage, ledger=ledger, engine=engine, limits=limits, overwrite=overwrite, **options
    )
    if leaks := int(ledger.counters(stage.name).get("leaks", 0)):
        log.warning(
            "%d objects grew over the leak guard's share of their block and were left out, which "
            "leaves holes if they were real; see flood.max_object_share",
            leaks,
        )
    return done
