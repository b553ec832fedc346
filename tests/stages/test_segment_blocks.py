"""`petavox segment --blocks` and `petavox reconcile`: many subvolumes, one segmentation."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from typer.testing import CliRunner

import petavox as pv
from petavox.errors import BadInput
from petavox.ffn.flood import prepared
from petavox.ffn.model import save_model
from petavox.space import Grid
from petavox.stages.block_labels import BlockLabels
from petavox.stages.blockwise_segment import (
    BlockwiseSegment,
    BlockwiseSettings,
    with_neighbours,
)
from petavox.volume.opening import finish
from tests.ffn.brightness import brightness_spec, brightness_weights


def columns(shape=(26, 30, 44)):
    """Bright columns along x with dark walls four voxels thick: 2 x 2 objects."""
    image = np.full(shape, 190, np.uint8)
    image[11:15] = 64
    image[:, 13:17] = 64
    return image + np.random.default_rng(0).integers(0, 9, shape, np.uint8)


@pytest.fixture
def here(tmp_path):
    values = columns()
    box = pv.Box((-5, 3, -8), (21, 33, 36))
    image = pv.create(
        tmp_path / "image.zarr", box=box, voxel_size=(8, 8, 8), dtype="uint8", kind="image"
    )
    image.write(box, values)
    finish(image, {})
    save_model(tmp_path / "m.safetensors", brightness_spec(), brightness_weights())
    (tmp_path / "s.yaml").write_text(
        "flood: {min_segment_size: 1500}\nseeds: {policy: grid, spacing: [5, 5, 5]}\n"
    )
    return tmp_path


def petavox(name, *words):
    import importlib

    app = importlib.import_module(f"petavox.cli.{name}").app
    return CliRunner().invoke(app, [str(w) for w in words])


def flood_in_blocks(here, *more, out="objects.blocks"):
    return petavox(
        "segment", here / "image.zarr", here / out, "--model", here / "m.safetensors",
        "--settings", here / "s.yaml", "--blocks", 13, 15, 22, "--context", 8, 8, 8, "--json",
        *more,
    )  # fmt: skip


def test_blocks_become_the_objects_of_the_whole(here):
    done = flood_in_blocks(here)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["done"] == 8
    joined = petavox("reconcile", here / "objects.blocks", here / "out.zarr", "--json")
    assert joined.exit_code == 0, joined.output
    labels = pv.open(here / "out.zarr")
    assert labels.box == pv.open(here / "image.zarr").box
    truth, n = ndimage.label(columns() > 128)
    assert n == 4
    found = labels[:]
    for column in range(1, n + 1):
        ids, voxels = np.unique(found[truth == column], return_counts=True)
        # two blocks along x: without reconciling, no object could hold more than two thirds
        assert voxels[ids > 0].max() > 0.8 * np.count_nonzero(truth == column)
    for number in np.unique(found[found > 0]):
        assert len(np.unique(truth[found == number])) == 1  # no merger
    assert (found[truth > 0] > 0).mean() > 0.95
    assert not found[truth == 0].any()


def test_another_model_at_the_same_path_is_read_by_the_same_process(here):
    assert flood_in_blocks(here).exit_code == 0
    dark = {name: 0 * tensor for name, tensor in brightness_weights().items()}
    save_model(here / "m.safetensors", brightness_spec(), dark)
    done = flood_in_blocks(here, out="dark.blocks")
    assert done.exit_code == 0, done.output
    made = BlockLabels.open(here / "dark.blocks")
    assert not any(made.read(block).any() for block in made.grid)


def test_an_object_that_fills_its_blocks_is_kept_unless_the_guard_is_asked_for(here, caplog):
    image = pv.create(
        here / "soma.zarr", box=pv.Box((0, 0, 0), (26, 30, 44)), voxel_size=(8, 8, 8),
        dtype="uint8", kind="image",
    )  # fmt: skip
    bright = np.full(image.shape, 190, np.uint8)
    bright[:, :, 40:] = 64
    image.write(image.box, bright + np.random.default_rng(0).integers(0, 9, image.shape, np.uint8))
    finish(image, {})
    words = [
        "segment", here / "soma.zarr", here / "o.blocks", "--model", here / "m.safetensors",
        "--blocks", 13, 15, 22, "--context", 8, 8, 8, "--json", "--settings", here / "s.yaml",
    ]  # fmt: skip
    kept = json.loads(petavox(*words).stdout)
    assert kept["leaks"] == 0
    assert kept["filled"] > 0.7
    assert "leak guard" not in caplog.text
    text = (here / "s.yaml").read_text().replace("1500}", "1500, max_object_share: 0.5}")
    (here / "s.yaml").write_text(text)
    guarded = json.loads(petavox(*words, "--overwrite").stdout)
    assert guarded["leaks"] > 0
    assert guarded["filled"] < 0.5
    assert "leak guard" in caplog.text


def test_a_mask_holds_in_every_block(here):
    image = pv.open(here / "image.zarr")
    mask = pv.create(
        here / "mask.zarr", box=image.box, voxel_size=(8, 8, 8), dtype="uint8", kind="image"
    )
    values = np.zeros(mask.shape, np.uint8)
    values[:, :, 20:] = 1
    mask.write(mask.box, values)
    finish(mask, {})
    done = flood_in_blocks(here, "--mask", here / "mask.zarr")
    assert done.exit_code == 0, done.output
    petavox("reconcile", here / "objects.blocks", here / "out.zarr")
    labels = pv.open(here / "out.zarr")[:]
    assert labels[:, :, :20].any()
    assert not labels[:, :, 24:].any()  # centres up to 19, margin 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--points", "p.csv"), "do not go with --blocks"),
        (("--device", "cpu"), "do not go with --blocks"),
        (("--context", 1, 1, 1), "context"),
        (("--mask", "none.zarr"), "none.zarr"),
        (("--seeds", "points"), "seeds.policy points is of one subvolume"),
    ],
)
def test_what_blocks_cannot_do_is_said_before_work(here, words, said):
    done = flood_in_blocks(here, *words)
    assert done.exit_code not in (0, 70), done.output
    assert said in done.stderr


def test_blocks_keep_no_probability():
    with pytest.raises(ValueError, match="keep_probability is of one subvolume"):
        BlockwiseSettings(flood={"keep_probability": True})


def test_workers_need_blocks(here):
    done = petavox(
        "segment", here / "image.zarr", here / "o.zarr", "--model", here / "m.safetensors", "-w", 2
    )
    assert done.exit_code == 2
    assert "--blocks" in done.stderr


def test_lanes_change_nothing_but_the_number_of_tasks(here):
    alone = flood_in_blocks(here, out="alone.blocks")
    lanes = flood_in_blocks(here, "--lanes", 4, out="lanes.blocks")
    assert lanes.exit_code == 0, lanes.output
    assert (json.loads(alone.stdout)["done"], json.loads(lanes.stdout)["done"]) == (8, 2)
    one, other = (BlockLabels.open(here / f"{n}.blocks") for n in ("alone", "lanes"))
    assert one.grid == other.grid
    for block in one.grid:
        np.testing.assert_array_equal(one.read(block, block.read), other.read(block, block.read))
    assert sorted(p.name for p in (here / "alone.blocks.origins").iterdir()) == sorted(
        p.name for p in (here / "lanes.blocks.origins").iterdir()
    )


def test_lanes_of_a_mirrored_flood_come_out_the_right_way_round(here):
    options = ("--flip", "zx")
    alone = flood_in_blocks(here, *options, out="alone.blocks")
    lanes = flood_in_blocks(here, *options, "--lanes", 4, out="lanes.blocks")
    assert alone.exit_code == lanes.exit_code == 0, alone.output + lanes.output
    one, other = (BlockLabels.open(here / f"{n}.blocks") for n in ("alone", "lanes"))
    truth = columns() > 128
    for block in one.grid:
        labels = one.read(block, block.read)
        assert np.array_equal(labels, other.read(block, block.read))
        inside = truth[block.read.slices(one.grid.total.start)]
        assert labels.any()
        assert not labels[~inside].any()


@pytest.mark.parametrize(
    ("lanes", "shape"), [(1, (2, 3, 4)), (3, (2, 3, 2)), (8, (2, 2, 1)), (64, (1, 1, 1))]
)
def test_neighbours_are_grouped_along_x_first(lanes, shape):
    blocks = Grid(pv.Box((0, -7, 3), (20, 23, 42)), (10, 10, 10), (4, 4, 4))
    groups = with_neighbours(blocks, lanes)
    assert groups.shape == shape
    members = [b.number for g in groups for b in blocks.touching(g.write)]
    assert sorted(members) == list(range(len(blocks)))
    assert all(len(list(blocks.touching(g.write))) <= lanes for g in groups)


def test_a_block_is_planned_with_the_memory_that_a_flood_takes(here):
    block = (48, 48, 48)
    image = np.random.default_rng(0).integers(0, 255, block).astype(np.uint8)
    tracemalloc.start()
    prepared(image, lambda *_: None, brightness_spec(), voxel_size=(8, 8, 8))
    peak = tracemalloc.get_traced_memory()[1] + image.nbytes
    tracemalloc.stop()
    stage = BlockwiseSegment(
        BlockwiseSettings(block=block, context=(0, 0, 0)),
        reads={"image": here / "image.zarr"},
        writes={},
    )
    network = 512 << 20
    assert peak <= stage.costs().memory_bytes - network <= 1.25 * peak


def test_int8_takes_no_lanes(here):
    done = flood_in_blocks(here, "--precision", "int8", "--lanes", 2)
    assert done.exit_code == 2
    assert "int8" in done.output


def image_like(path, *, kind="image", voxel_size=(8, 8, 8), box=None):
    box = box or pv.Box((-5, 3, -8), (21, 33, 36))
    made = pv.create(path, box=box, voxel_size=voxel_size, dtype="uint8", kind=kind)
    finish(made, {})
    return path


def stage_of(here, image="image.zarr", **reads):
    paths = {"image": here / image, "model": here / "m.safetensors", **reads}
    settings = BlockwiseSettings(block=(13, 15, 22), context=(8, 8, 8))
    return BlockwiseSegment(settings, reads=paths, writes={})


def test_what_one_flood_refuses_many_refuse_too(here):
    image_like(here / "labels.zarr", kind="labels")
    with pytest.raises(BadInput, match=r"labels.zarr holds labels of type uint8; an image"):
        stage_of(here, "labels.zarr").grid()
    spec = brightness_spec().model_copy(update={"voxel_size": (40.0, 40.0, 40.0)})
    save_model(here / "m.safetensors", spec, brightness_weights())
    with pytest.raises(BadInput, match="more than a factor of two apart"):
        stage_of(here).grid()


@pytest.mark.parametrize("name", ["mask", "seed_mask", "shift_y", "shift_x"])
def test_a_restriction_that_leaves_out_a_block_is_refused_before_the_first(here, name):
    small = image_like(
        here / "small.zarr", voxel_size=(16, 16, 16), box=pv.Box((-3, 1, -4), (10, 17, 18))
    )
    with pytest.raises(BadInput, match=r"small.zarr covers .* needs"):
        stage_of(here, **{name: small}).grid()
    whole = image_like(
        here / "whole.zarr", voxel_size=(16, 16, 16), box=pv.Box((-3, 1, -4), (11, 17, 18))
    )
    assert len(stage_of(here, **{name: whole}).grid()) == 8
