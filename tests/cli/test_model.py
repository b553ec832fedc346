import json

import pytest
from typer.testing import CliRunner

from petavox.cli.model import app
from petavox.ffn.model import load_model, save_model
from tests.ffn.brightness import brightness_spec, brightness_weights
from tests.ffn.test_released import arrays, checkpoint


def model(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


GEOMETRY = ("--fov", 9, 9, 9, "--deltas", 2, 2, 2, "--image-mean", 128, "--image-std", 33)


def test_a_foreign_checkpoint_becomes_a_model(tmp_path):
    out = tmp_path / "m.safetensors"
    done = model("import", checkpoint(tmp_path, arrays()), out, *GEOMETRY, "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["depth"], said["features"], said["fov"]) == (2, 3, [9, 9, 9])
    assert said["provenance"]["imported_from"] == "m.index"
    assert load_model(out).digest == said["digest"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fov", 8, 9, 9), "odd"),
        (("--deltas", 0, 0, 0), "never move"),
        (("--image-std", 0), "image_std"),
    ],
)
def test_impossible_geometry_makes_no_file(tmp_path, words, said):
    out = tmp_path / "m.safetensors"
    done = model("import", checkpoint(tmp_path, arrays()), out, *GEOMETRY, *words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert not out.exists()


def test_a_model_is_not_replaced_without_being_told(tmp_path):
    out = tmp_path / "m.safetensors"
    save_model(out, brightness_spec(), brightness_weights())
    before = out.read_bytes()
    done = model("import", checkpoint(tmp_path, arrays()), out, *GEOMETRY)
    assert done.exit_code == 2
    assert out.read_bytes() == before
    assert model("import", tmp_path / "m.index", out, *GEOMETRY, "--overwrite").exit_code == 0


def test_info_tells_parameters_and_cost(tmp_path):
    out = tmp_path / "m.safetensors"
    save_model(out, brightness_spec(), brightness_weights())
    said = json.loads(model("info", out, "--json").stdout)
    assert said["parameters"] == sum(t.numel() for t in brightness_weights().values())
    assert said["gflop_per_fov"] > 0


def test_a_folder_without_checkpoints_is_refused(tmp_path):
    done = model("export", tmp_path, tmp_path / "m.safetensors")
    assert done.exit_code not in (0, 70)
    assert str(tmp_path) in done.stderr
