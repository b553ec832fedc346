"""What a training asks of its volumes and of its validation, before any work."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from typer.testing import CliRunner

from petavox.cli.app import app
from petavox.errors import BadInput
from petavox.ffn.model import load_spec
from petavox.learn import training_state
from petavox.stages.train import train
from petavox.stages.train_validation import scores
from petavox.stages.training_job import job_script
from petavox.stages.training_settings import VolumeSettings, read_settings
from tests.stages.train_tissue import SHAPE, bright, stored, tissue_in, validation

FILES = {"image": "$TISSUE/image", "labels": "$TISSUE/labels"}


@pytest.fixture
def tissue(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TISSUE", str(tmp_path))
    before = torch.get_num_threads()
    yield tissue_in(tmp_path)
    torch.set_num_threads(before)


def refused(tissue: Path, said: str, **changes) -> None:
    """Training with changed settings is refused before any work."""
    out = tissue.parent / "out"
    with pytest.raises(BadInput, match=said):
        train(read_settings(tissue, changes), out, quiet=True)
    assert not out.exists()


PHANTOM = {"phantom": {"seed": 1, "shape": [32, 40, 40], "voxel_size": [10, 10, 10]}}


def test_phantom_tissue_is_made_after_files_are_checked(tissue):
    refused(tissue, "nowhere", volumes=[PHANTOM, FILES | {"image": "nowhere"}])
    refused(tissue, "nowhere", volumes=[PHANTOM], validation=FILES | {"labels": "nowhere"})


def test_a_phantom_stands_alone():
    for more in ({"image": "a"}, {"mask": "a"}, {"voxel_size": [8, 8, 8]}):
        with pytest.raises(ValidationError, match="stands alone"):
            VolumeSettings.model_validate(PHANTOM | more)


def test_a_mask_that_leaves_out_part_of_the_box_is_refused(tissue):
    stored(tissue.parent, "mask", np.ones((16, 40, 44), np.uint8))
    mask = {"mask": "$TISSUE/mask"}
    refused(tissue, "leaves out part", volumes=[FILES | mask])
    refused(tissue, "leaves out part", validation=FILES | mask | {"box": "8:24,0:24,0:24"})


def test_grey_values_of_two_types_are_refused(tissue):
    stored(tissue.parent, "image16", np.ones(SHAPE, np.uint16), "image")
    other = FILES | {"image": "$TISSUE/image16"}
    refused(tissue, "uint8.*uint16", volumes=[FILES, other])
    refused(tissue, "uint8.*uint16", validation=other | {"box": "16:32,0:24,0:24"})


def test_voxels_unlike_those_of_the_model_are_refused(tissue):
    folder = tissue.parent
    for name, dtype in (("image20", np.uint8), ("labels20", np.uint64)):
        values = np.ones(SHAPE, dtype) * np.arange(1, 45, dtype=dtype)
        stored(folder, name, values, "image" if "image" in name else "labels", (20, 20, 20))
    coarse = {"image": "$TISSUE/image20", "labels": "$TISSUE/labels20"}
    refused(tissue, "20 x 20 x 20 nm, .*10 x 10 x 10 nm.*any_voxel_size", volumes=[FILES, coarse])
    model = {"fov": 9, "deltas": 2, "depth": 3, "features": 4, "image_mean": 128, "image_std": 40}
    refused(tissue, "any_voxel_size", model=model | {"voxel_size": [40, 4, 4]})
    settings = read_settings(tissue, {"volumes": [FILES, coarse], "any_voxel_size": True})
    train(settings.model_copy(update={"validation": None}), folder / "any", quiet=True)
    assert load_spec(folder / "any" / "last.safetensors").voxel_size == (10, 10, 10)


def test_axes_of_unlike_voxels_are_not_exchanged(tissue):
    folder = tissue.parent
    for size in ((40, 10, 10), (10, 10, 20)):
        for name in ("image", "labels"):
            kind = "image" if name == "image" else "labels"
            values = np.ones(SHAPE, np.uint8)
            stored(folder, f"{name}{size[0]}{size[2]}", values, kind, size)
    flat = {"image": "$TISSUE/image4010", "labels": "$TISSUE/labels4010"}
    wide = {"image": "$TISSUE/image1020", "labels": "$TISSUE/labels1020"}
    isotropic = {"trainer.augment": {"isotropic": True, "transpose": False}}
    refused(tissue, r"augment\.isotropic: false", volumes=[flat], **isotropic)
    refused(tissue, r"augment\.transpose: false", volumes=[wide])
    turned = {"trainer.augment": {"rotate_chance": 0.1, "transpose": False}}
    refused(tissue, r"augment\.rotate_chance: 0", volumes=[wide], **turned)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"box": "0:8,0:20,0:20"}, "smaller than the network's field of view"),
        ({"box": "0:20,0:20,8:12"}, "smaller than the network's field of view"),
        ({"mask": "mask"}, "holds no annotated object"),
        ({"flood": {"deltas": [9, 9, 9]}}, "deltas"),
    ],
)
def test_a_box_that_cannot_be_validated_is_refused(tissue, change, said):
    stored(tissue.parent, "mask", np.zeros(SHAPE, np.uint8))
    with pytest.raises(BadInput, match=said):
        validation(tissue.parent, **change)


def test_a_validation_larger_than_the_memory_is_refused(tissue, monkeypatch):
    monkeypatch.setattr("petavox.stages.train_validation.memory_available", lambda: 1000)
    with pytest.raises(BadInput, match="smaller box"):
        validation(tissue.parent)


def test_seeds_that_need_points_are_refused(tissue):
    given = FILES | {"seeds": {"policy": "points"}}
    with pytest.raises(BadInput, match="points"):
        read_settings(tissue, {"validation": given})


def test_what_is_not_annotated_is_not_scored(tissue):
    mask = np.ones(SHAPE, np.uint8)
    mask[:, :, 12:] = 0
    stored(tissue.parent, "mask", mask)
    judged = validation(tissue.parent, mask="mask")
    assert set(np.unique(judged.truth)) == {0, 1}


def test_a_mirrored_flood_that_is_stopped_is_turned_back(tissue):
    # a box that is not its own mirror image
    given = {"box": "0:14,0:20,4:44", "flood": {"min_segment_size": 10, "flip": "x"}}
    whole = validation(tissue.parent, **given)(bright())
    nearly = (whole["fovs"] - 1) * 9**3 / (14 * 20 * 40)
    stopped = validation(tissue.parent, **given, evaluations=nearly)(bright())
    assert stopped["fovs"] == whole["fovs"] - 1
    assert stopped["fill"] > 0.7 * whole["fill"] > 0.5


def test_nothing_right_is_error_one():
    truth = np.array([[[1, 2, 1, 2]]], np.uint64)
    result = np.array([[[1, 1, 2, 2]]], np.uint64)
    assert scores(result, truth)["error"] == 1.0


# -- folders and commands ----------------------------------------------------------------------


def test_a_training_that_died_before_its_first_checkpoint_begins_anew(tissue):
    out = tissue.parent / "out"
    (out / "checkpoints" / ".step-00000005.partial").mkdir(parents=True)
    (out / "checkpoints" / "step-00000005").mkdir()
    settings = read_settings(tissue, {"trainer.steps": 1})
    assert train(settings.model_copy(update={"validation": None}), out, quiet=True)["steps"] == 1
    # a job script decides by the same
    text = job_script("slurm", 1, settings=tissue, out=out)
    (line,) = (x for x in text.splitlines() if x.startswith("if "))
    for whole in (True, False):
        said = subprocess.run(
            ["bash", "-c", f'RESUME=""; {line}; echo "$RESUME"'],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert said.strip() == ("--resume" if whole else "")
        newest = training_state.newest(out / "checkpoints")
        if newest is not None:
            (newest / training_state.STATE).unlink()


def test_a_section_of_settings_may_be_empty(tissue):
    text = tissue.read_text()
    tissue.write_text(text[: text.index("trainer:")] + "trainer:\n")
    assert read_settings(tissue, {"trainer.steps": 5}).trainer.steps == 5
    tissue.write_text("trainer: fast\n")
    with pytest.raises(BadInput, match=r"trainer in .* is 'fast'"):
        read_settings(tissue, {"trainer.steps": 5})


def test_a_site_without_a_job_to_write_is_refused(tissue):
    out = tissue.parent / "out"
    for given in (["--site", "aurora"], ["--nodes", "4"]):
        done = CliRunner().invoke(app, ["train", str(tissue), "--out", str(out), *given])
        assert done.exit_code != 0
        assert "--write-job" in done.output
    assert not out.exists()
