"""An output that is made again holds what its blocks write, however the runs before it ended."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import petavox as pv
from petavox.blocks import Costs, Ledger
from petavox.errors import AlreadyExists, BadInput
from petavox.settings import Settings
from petavox.space import Box, Grid, VoxelSize
from petavox.stages import levels
from petavox.stages.stage import Stage, run_stage
from petavox.volume import opening, pyramid

GRID = Grid(Box((0, 0, 0), (128, 256, 256)), (128, 128, 128))
VALUE = 5


class Nothing(Settings):
    """No settings."""


class Fill(Stage):
    """Writes one id everywhere, and the coarser levels.

    memory: what a block is said to need.  stopped: ends before the levels, like Ctrl-C.
    """

    name = "fill"
    function = f"{__name__}:fill_block"
    memory = 0
    stopped = False

    def grid(self) -> Grid:
        return GRID

    def costs(self) -> Costs:
        return Costs(memory_bytes=self.memory)

    def create(self) -> None:
        levels.empty(self.writes["labels"], GRID, VoxelSize(8, 8, 8))
        pyramid.prepare(self.writes["labels"])

    def after(self, ledger: Ledger, engine: Any, **options: Any) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        levels.fill_levels(self.name, self.writes, "key", ledger, engine, **options)


def fill_block(block, context):
    out = pv.volume.open(context.writes["labels"], writable=True, incomplete=True)
    out.write(block.write, np.full(block.write.shape, VALUE, np.uint64))
    return {"voxels": block.write.size}


def fill(place: Path, *, memory: int = 0, stopped: bool = False, name: str = "ledger.db") -> Any:
    stage = Fill(Nothing(), reads={}, writes={"labels": place / "labels.zarr"})
    stage.memory, stage.stopped = memory, stopped
    with Ledger(place / name) as ledger:
        return run_stage(stage, ledger=ledger, quiet=True)


def ids_by_level(place: Path) -> list[list[int]]:
    sizes = [level.voxel_size for level in pv.open(place / "labels.zarr").levels]
    assert len(sizes) > 1
    return [np.unique(pv.open(place / "labels.zarr", resolution=s).read()).tolist() for s in sizes]


def test_a_refused_run_between_leaves_no_block_that_is_taken_for_done(tmp_path):
    fill(tmp_path)
    shutil.rmtree(tmp_path / "labels.zarr")
    with pytest.raises(BadInput, match="GiB a worker"):
        fill(tmp_path, memory=10**15)
    assert fill(tmp_path).kept == 0
    assert all(ids == [VALUE] for ids in ids_by_level(tmp_path))


def test_a_refused_run_replaces_nothing(tmp_path):
    kept = foreign(tmp_path)
    stage = Fill(Nothing(), reads={}, writes={"labels": kept})
    stage.memory = 10**15
    with (
        Ledger(tmp_path / "ledger.db") as ledger,
        pytest.raises(BadInput, match="GiB a worker"),
    ):
        run_stage(stage, ledger=ledger, overwrite=True, quiet=True)
    assert np.unique(pv.open(kept).read()).tolist() == [77]


def test_a_run_that_was_stopped_before_the_levels_leaves_none_that_is_taken_for_done(tmp_path):
    fill(tmp_path)
    shutil.rmtree(tmp_path / "labels.zarr")
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, stopped=True)
    assert fill(tmp_path).kept == len(GRID)  # the finest level was made by the run before
    assert all(ids == [VALUE] for ids in ids_by_level(tmp_path))


def test_a_finished_output_is_kept(tmp_path):
    fill(tmp_path)
    before = (tmp_path / "labels.zarr" / "petavox.json").read_bytes()
    assert fill(tmp_path).kept == len(GRID)
    assert (tmp_path / "labels.zarr" / "petavox.json").read_bytes() == before


def foreign(place: Path) -> Path:
    """A labels volume that no stage made."""
    box = Box((0, 0, 0), (8, 8, 8))
    made = pv.volume.create(
        place / "labels.zarr", box=box, voxel_size=(8, 8, 8), dtype=np.uint64, kind="labels"
    )
    made.write(box, np.full(box.shape, 77, np.uint64))
    opening.finish(made, {})
    return place / "labels.zarr"


@pytest.mark.parametrize("known", [False, True])
def test_what_another_made_is_not_replaced_because_the_stage_ran_before(tmp_path, known):
    if known:
        fill(tmp_path)
        shutil.rmtree(tmp_path / "labels.zarr")
    kept = foreign(tmp_path)
    with pytest.raises(AlreadyExists, match="--overwrite"):
        fill(tmp_path)
    assert np.unique(pv.open(kept).read()).tolist() == [77]


def test_an_output_that_was_begun_with_other_needs_may_be_made_again(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, stopped=True)
    Fill.code = ("petavox.space",)  # what decides has changed since
    try:
        assert fill(tmp_path).complete
    finally:
        Fill.code = ()
