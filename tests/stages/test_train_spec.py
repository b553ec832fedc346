"""What a training starts from and goes on with: the settings' model, --init, or a checkpoint."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from petavox.errors import BadInput
from petavox.learn.distributed import Place
from petavox.learn.model_file import provenance_of
from petavox.stages import synapses_train
from petavox.stages import train as stage
from petavox.stages.training_settings import read_settings
from tests.stages.train_tissue import tissue_in
from tests.synapse.test_synapse_training import request as asked
from tests.synapse.test_synapse_training import volumes


@pytest.fixture(params=["ffn", "synapses"])
def training(request, tmp_path, monkeypatch):
    """train(out, steps, changes, ...) for each kind of network; judged: with validation."""
    monkeypatch.setenv("TISSUE", str(tmp_path))
    before = torch.get_num_threads()
    yield ffn(tmp_path) if request.param == "ffn" else synapses(tmp_path)
    torch.set_num_threads(before)


def ffn(folder: Path):
    path = tissue_in(folder)

    def train(out, steps, changes=None, *, judged=False, **options):
        read = read_settings(path, {"trainer.steps": steps})
        without = {} if judged else {"validation": None}
        read = read.model_copy(update=without | (changes or {}))
        return stage.train(read, folder / out, quiet=True, **options)

    return train


def synapses(folder: Path):
    volumes(folder)

    def train(out, steps, changes=None, *, judged=False, **options):
        values = asked() | ({} if judged else {"validation": None}) | {"threads": 1}
        values["trainer"]["steps"] = steps
        values |= changes or {}
        return synapses_train.train(values, folder / out, base=folder, quiet=True, **options)

    return train


def test_the_settings_of_a_model_can_start_from_it(training, tmp_path):
    training("a", 1)
    best = tmp_path / "a" / "best.safetensors"
    training("b", 1, init=best)
    assert "started_from" in provenance_of(tmp_path / "b" / "last.safetensors")


def test_a_fine_tuning_goes_on_without_its_init(training, tmp_path):
    training("a", 1)
    training("b", 1, {"model": None}, init=tmp_path / "a" / "best.safetensors")
    assert training("b", 2, {"model": None}, resume=True)["steps"] == 2
    assert "started_from" in provenance_of(tmp_path / "b" / "last.safetensors")
    with pytest.raises(BadInput, match=r"no checkpoint in .*nowhere; start without --resume"):
        training("nowhere", 2, {"model": None}, resume=True)


def test_what_the_leading_rank_refuses_is_said_by_the_others(training, monkeypatch):
    def told(tensor, source):
        tensor[:3] = torch.tensor(list(b"no."), dtype=torch.uint8)

    for module in (stage, synapses_train):
        monkeypatch.setattr(module, "place_in", lambda environment: Place(1, 2, 1))
        monkeypatch.setattr(module, "joined", lambda *a, **k: nullcontext())
        monkeypatch.setattr(module, "losses_told", lambda *a, **k: nullcontext())
    monkeypatch.setattr(torch.distributed, "broadcast", told)
    with pytest.raises(BadInput, match=r"^no\.$"):
        training("a", 1, judged=True)
