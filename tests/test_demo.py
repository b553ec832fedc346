"""The demonstration in small: it ends, its picture shows something, its figures are its files'."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import petavox as pv
from petavox.cli.demo import app
from petavox.demo import STEPS
from petavox.ffn.model import load_model
from petavox.ffn.shipped import MODEL


def demo(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    result = demo(folder, "--shape", 32, 48, 48, "--json")
    assert result.exit_code == 0, result.output
    return folder, json.loads(result.stdout)


def test_the_figures_are_those_of_the_files(made):
    folder, figures = made
    labels = pv.open(folder / "objects.zarr")
    assert figures["voxels"] == labels.box.size == 32 * 48 * 48
    assert figures["objects"] == len(np.unique(labels[:])) - 1
    assert list(figures["seconds"]) == list(STEPS)
    said = json.loads((folder / "petavox.json").read_text())
    assert said["state"] == "complete"


def test_the_picture_shows_image_truth_and_result(made):
    folder, figures = made
    picture = np.asarray(Image.open(figures["picture"]))
    assert picture.shape[1] > 3 * 48
    assert picture.std() > 20
    assert (picture.max(-1).astype(int) - picture.min(-1)).max() > 50  # colours, not grey alone
    assert str(folder) in figures["look_at_it"]


def test_a_demo_is_not_written_over_another_without_being_told(made):
    again = demo(made[0], "--shape", 32, 48, 48)
    assert again.exit_code == 2
    assert "--overwrite" in again.stderr


def test_the_shipped_model_is_small_and_says_where_it_comes_from():
    model = load_model(MODEL)
    assert MODEL.stat().st_size < 3_000_000
    assert model.spec.provenance
