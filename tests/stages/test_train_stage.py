"""petavox train and tune: settings, volumes, validation, job scripts, the settings file edited."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from petavox.errors import AlreadyExists, BadInput
from petavox.ffn.model import load_model
from petavox.stages.train import train
from petavox.stages.training_job import job_script
from petavox.stages.training_settings import read_settings
from tests.stages.train_tissue import SHAPE, bright, stored, tissue_in, validation


@pytest.fixture
def tissue(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TISSUE", str(tmp_path))
    before = torch.get_num_threads()
    yield tissue_in(tmp_path)
    torch.set_num_threads(before)


def test_a_training_from_settings_to_a_model(tissue, tmp_path):
    out = tmp_path / "out"
    figures = train(read_settings(tissue), out, quiet=True)
    assert figures["steps"] == 4
    assert 0 <= figures["validation_error"] <= 1
    model = load_model(out / "best.safetensors")
    assert model.spec.provenance["settings"]["trainer"]["batch"] == 2
    with pytest.raises(AlreadyExists, match="--resume"):
        train(read_settings(tissue), out, quiet=True)
    more = read_settings(tissue, {"trainer.steps": 6})
    assert train(more, out, resume=True, quiet=True)["steps"] == 6
    # fine-tuning takes the geometry of the model, and says what it came from
    start = load_model(out / "best.safetensors")
    without = read_settings(tissue, {"trainer.steps": 2}).model_copy(update={"model": None})
    train(without, tmp_path / "tuned", init=out / "best.safetensors", quiet=True)
    tuned = load_model(tmp_path / "tuned" / "best.safetensors").spec
    assert tuned.fov == (9, 9, 9)
    assert tuned.provenance["started_from"]["digest"] == start.digest
    assert (tuned.image_mean, tuned.image_std) == (start.spec.image_mean, start.spec.image_std)
    with pytest.raises(BadInput, match="--init"):
        train(without, tmp_path / "none", quiet=True)
    # images of other grey values
    other = read_settings(tissue, {"trainer.steps": 1, "grey": {"mean": 90, "std": 50}})
    with pytest.raises(BadInput, match="grey"):
        train(other, tmp_path / "none", quiet=True)
    other = other.model_copy(update={"model": None})
    train(other, tmp_path / "grey", init=out / "best.safetensors", quiet=True)
    tuned = load_model(tmp_path / "grey" / "best.safetensors").spec
    assert (tuned.image_mean, tuned.image_std) == (90, 50)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"trainer.steps": 0}, r"trainer\.steps"),
        ({"trainer.speed": 1}, "unknown key 'trainer.speed'"),
        ({"volumes": []}, "volumes"),
        ({"volumes": [{"image": "a"}]}, "or `phantom`"),
    ],
)
def test_wrong_settings_are_named(tissue, change, said):
    with pytest.raises(BadInput, match=said):
        read_settings(tissue, change)


def test_a_box_outside_and_an_unset_variable_are_named(tissue, tmp_path):
    volume = {"image": "$TISSUE/image", "labels": "$TISSUE/labels", "box": "0:99,0:40,0:40"}
    with pytest.raises(BadInput, match=r"0:99|99, 40, 40"):
        train(read_settings(tissue, {"volumes": [volume]}), tmp_path / "o", quiet=True)
    volume = {"image": "$NOWHERE_AT_ALL/image", "labels": "$TISSUE/labels"}
    with pytest.raises(BadInput, match="not set"):
        train(read_settings(tissue, {"volumes": [volume]}), tmp_path / "o", quiet=True)


def test_a_mask_of_other_voxels_is_refused(tissue, tmp_path):
    stored(tmp_path, "mask", np.ones(SHAPE, np.uint8), voxel_size=(20, 20, 20))
    volume = {"image": "$TISSUE/image", "labels": "$TISSUE/labels", "mask": "$TISSUE/mask"}
    with pytest.raises(BadInput, match=r"mask of 20 x 20 x 20 nm; they must be equal"):
        train(read_settings(tissue, {"volumes": [volume]}), tmp_path / "o", quiet=True)


def test_validation_scores_a_perfect_flood_as_nearly_perfect(tissue):
    scores = validation(tissue.parent)(bright())
    assert scores["objects"] >= 4
    assert scores["error"] < 0.2
    assert scores["vi_merge"] < 1e-9
    assert scores["fill"] > 0.8


def test_finding_nothing_is_the_worst_result(tissue):
    scores = validation(tissue.parent)(bright(bias=-100.0))
    assert scores["objects"] == 0
    assert scores["error"] == 1.0


def test_a_flood_without_end_is_stopped(tissue):
    scores = validation(tissue.parent, evaluations=2)(bright(bias=100.0))
    assert scores["fovs"] <= round(2 * 14 * 20 * 44 / 729)


# -- job scripts -----------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["slurm", "polaris", "aurora"])
def test_job_scripts_are_whole_shell_scripts(site, tmp_path):
    text = job_script(site, 8, settings=Path("train.yaml"), out=Path("my out"))
    path = tmp_path / "job.sh"
    path.write_text(text)
    assert subprocess.run(["bash", "-n", str(path)], check=False).returncode == 0
    assert "{" not in text.replace("${", "")
    assert "--out 'my out'" in text
    assert "MASTER_ADDR" in text
    assert "--resume" in text


def test_a_rank_for_each_device_and_tiles_are_told(tmp_path):
    aurora = job_script("aurora", 2, settings=Path("t.yaml"), out=Path("o"))
    assert "mpiexec -n 24 --ppn 12" in aurora
    assert "--device xpu --tiles-per-device 2" in aurora
    assert "#PBS -l select=2\n" in aurora
    polaris = job_script("polaris", 2, settings=Path("t.yaml"), out=Path("o"))
    assert "mpiexec -n 8 --ppn 4" in polaris
    assert "--device cuda --tiles-per-device 1" in polaris
    slurm = job_script("slurm", 3, settings=Path("t.yaml"), out=Path("o"), init=Path("m"))
    assert "#SBATCH --nodes=3" in slurm
    assert "#SBATCH --ntasks-per-node=4" in slurm
    assert "--init m" in slurm
    with pytest.raises(BadInput, match="torchrun"):
        job_script("laptop", 2, settings=Path("t.yaml"), out=Path("o"))
