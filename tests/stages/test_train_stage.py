"""petavox train and tune: settings, volumes, validation, job scripts, the settings file edited."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from petavox.errors import AlreadyExists, BadInput
from petavox.ffn import tune as measuring
from petavox.ffn.model import Model, ModelSpec, load_model
from petavox.ffn.network import ConvStack
from petavox.space import Box
from petavox.stages.train import Validation, ValidationSettings, read_settings, train
from petavox.stages.training_job import job_script
from petavox.stages.tune import edited
from petavox.volume.opening import create, finish

TEXT = """
model: {fov: 9, deltas: 2, depth: 3, features: 4, image_mean: 128, image_std: 40}
volumes:
  - {image: $TISSUE/image, labels: $TISSUE/labels, box: '0:16,0:40,0:44'}
validation:
  image: $TISSUE/image
  labels: $TISSUE/labels
  box: 16:32,0:24,0:24
  evaluations: 5
  flood: {min_segment_size: 10}
threads: 1
trainer:
  batch: 2
  live: 2
  steps: 4
  ahead: 0
  examples: {block: [16, 40, 40], blocks: 2, min_object_size: 100, candidates: 32}
"""


@pytest.fixture
def tissue(tmp_path, monkeypatch) -> Path:
    """A settings file, and a tissue of slabs eight voxels thick with dark walls of four: no view
    of nine voxels from inside a slab sees past a wall."""
    shape = (32, 40, 44)
    x = np.broadcast_to(np.arange(44), shape)
    wall = x % 12 >= 8
    # noise, so that the best place of a face is not always its corner
    noise = np.random.default_rng(0).integers(-15, 16, shape)
    values = {"image": (np.where(wall, 60, 170) + noise).astype(np.uint8)}
    values["labels"] = np.where(wall, 0, x // 12 + 1).astype(np.uint64)
    for name, array in values.items():
        volume = create(
            tmp_path / name, box=Box.of_shape(shape), voxel_size=(10, 10, 10), dtype=array.dtype,
            kind="image" if name == "image" else "labels", chunk=(16, 16, 16), shard=(32, 48, 48),
        )  # fmt: skip
        volume.write(volume.box, array)
        finish(volume, {})
    monkeypatch.setenv("TISSUE", str(tmp_path))
    path = tmp_path / "train.yaml"
    path.write_text(TEXT)
    before = torch.get_num_threads()
    yield path
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
    coarse = create(
        tmp_path / "mask", box=Box.of_shape((32, 40, 44)), voxel_size=(20, 20, 20),
        dtype=np.uint8, kind="labels", chunk=(16, 16, 16), shard=(32, 48, 48),
    )  # fmt: skip
    finish(coarse, {})
    volume = {"image": "$TISSUE/image", "labels": "$TISSUE/labels", "mask": "$TISSUE/mask"}
    with pytest.raises(BadInput, match=r"mask of 20 x 20 x 20 nm; they must be equal"):
        train(read_settings(tissue, {"volumes": [volume]}), tmp_path / "o", quiet=True)


def bright(fov=(9, 9, 9), bias=0.0) -> Model:
    """A network by hand: logits follow brightness, whatever was thought before."""
    network = ConvStack(2, 4)
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
        # feature 0 carries the image's positive part, 1 the seed's, 2 the seed's negative part
        for f, (channel, sign) in enumerate([(0, 1.0), (1, 1.0), (1, -1.0), (0, -1.0)]):
            network.first.weight[f, channel, 1, 1, 1] = sign
            network.second.weight[f, f, 1, 1, 1] = 1.0
        network.last.weight[0, :, 0, 0, 0] = torch.tensor([8.0, -1.0, 1.0, -8.0])
        network.last.bias[0] = bias
    spec = ModelSpec(fov=fov, deltas=(2, 2, 2), depth=2, features=4, image_mean=120, image_std=40)
    return Model(spec, network)


def validation(tissue, **changes):
    base = {
        "image": "$TISSUE/image", "labels": "$TISSUE/labels", "flood": {"min_segment_size": 10},
        "evaluations": 1000, "box": "0:14,0:20,0:44",
        "seeds": {"policy": "grid", "spacing": [4, 4, 4]},
    }  # fmt: skip
    options = ValidationSettings.model_validate(base | changes)
    return Validation(options, tissue.parent, tissue.parent, torch.device("cpu"))


def test_validation_scores_a_perfect_flood_as_nearly_perfect(tissue):
    scores = validation(tissue)(bright())
    assert scores["objects"] >= 4
    assert scores["error"] < 0.2
    assert scores["vi_merge"] < 1e-9
    assert scores["fill"] > 0.8


def test_finding_nothing_is_the_worst_result(tissue):
    scores = validation(tissue)(bright(bias=-100.0))
    assert scores["objects"] == 0
    assert scores["error"] == 1.0


def test_a_flood_without_end_is_stopped(tissue):
    scores = validation(tissue, evaluations=2)(bright(bias=100.0))
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


# -- tune ------------------------------------------------------------------------------------


def test_editing_settings_keeps_comments_and_order():
    text = "# mine\nthreads: 8   # all\nvolumes: [a]\ntrainer:\n  # how\n  batch: 4\n  live: 4\n"
    out = edited(text, {"threads": 2, "trainer.batch": 1, "trainer.precision": "bf16"})
    assert yaml.safe_load(out) == {
        "threads": 2, "volumes": ["a"],
        "trainer": {"batch": 1, "live": 4, "precision": "bf16"},
    }  # fmt: skip
    assert "# mine\nthreads: 2   # all\n" in out
    assert "  # how\n" in out
    assert yaml.safe_load(edited("", {"trainer.batch": 1, "device": "cpu"})) == {
        "trainer": {"batch": 1}, "device": "cpu",
    }  # fmt: skip
    with pytest.raises(BadInput, match="by hand"):
        edited("trainer: {batch: 4}\n", {"trainer.batch": 2})


def test_the_search_keeps_what_is_faster_and_fits():
    def measure(c):
        rate = 10.0 * (3 if c.precision == "bf16" else 1) * (1.2 if c.batch == 1 else 1)
        rate *= {0: 1, 1: 0.6, 2: 1.1}[c.threads] * (5 if c.processes == 2 else 1)
        over = "takes too much" if c.processes == 2 else ""
        return measuring.Measured(c, rate, 100.0, over)

    tries = measuring.knobs("train", 2, compiler=False, processor=True)
    found = list(measuring.search("train", tries, measure))
    best = measuring.winner(found)
    assert found[0].candidate == measuring.default("train")
    assert best.candidate.precision == "bf16"
    assert best.candidate.threads == 2
    assert best.candidate.batch == 1
    assert best.candidate.processes == 1
    assert best.candidate.live == 8  # as fast, and less alike
    rows = measuring.table(found)
    assert rows[0]["ratio"] == 1.0
    assert max(r["ratio"] for r in rows if not r["why_not"]) == pytest.approx(3 * 1.2 * 1.1)


def test_what_cannot_fit_is_not_tried():
    spec = ModelSpec(fov=33, deltas=8, depth=12, features=32, image_mean=128, image_std=33)
    measure = measuring.measurer("train", spec, device="cpu", memory_mb=100)
    assert "needs over" in measure(measuring.Candidate(batch=64)).why_not


@pytest.mark.slow
def test_tuning_on_this_machine(tissue):
    from petavox.stages.tune import tune

    found = tune("train", tissue, seconds=0.5, write=False)
    assert found["ratio"] >= 1
    assert all(row["fov_per_s"] > 0 for row in found["table"] if not row["why_not"])
