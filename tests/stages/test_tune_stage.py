"""petavox tune: the search, what is measured, and the settings file edited."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch
import yaml

from petavox.errors import BadInput
from petavox.ffn import tune as measuring
from petavox.ffn import tuned_work
from petavox.ffn.model import ModelSpec
from petavox.stages.training_settings import read_settings
from petavox.stages.tune import edited, tune
from tests.stages.train_tissue import tissue_in


@pytest.fixture
def tissue(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TISSUE", str(tmp_path))
    return tissue_in(tmp_path)


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
    found = tune("train", tissue, seconds=0.5, write=False)
    assert found["ratio"] >= 1
    assert all(row["fov_per_s"] > 0 for row in found["table"] if not row["why_not"])


def test_it_measures_where_the_settings_compute(tissue, monkeypatch):
    asked = []

    def measurer(work, spec, *, device, **bounds):
        asked.append(device)
        return lambda candidate: measuring.Measured(candidate, 10.0, 1.0)

    monkeypatch.setattr(measuring, "measurer", measurer)
    monkeypatch.setattr("petavox.stages.tune.device_of", torch.device)
    tissue.write_text(tissue.read_text() + "device: cuda\n")
    tune("train", tissue)
    tune("train", tissue, device="xpu", write=False)
    assert asked == ["cuda", "xpu"]
    # as fast with as many threads as torch finds fit: the number that stood there is gone
    assert "threads: null" in tissue.read_text()
    read = read_settings(tissue)
    assert (read.device, read.threads) == ("cuda", None)


@pytest.mark.parametrize("work", ["train", "segment"])
def test_only_the_work_asked_for_is_measured(work, monkeypatch, capsys):
    def other(*args, **kwargs):
        raise AssertionError("this is not what was asked for")

    monkeypatch.setattr(tuned_work, {"train": "LockStep", "segment": "Trainer"}[work], other)
    monkeypatch.setattr("sys.stdin", io.StringIO("go\n"))
    # y and x differ: a training must not exchange them
    spec = ModelSpec(
        fov=(5, 7, 9), deltas=(1, 2, 3), depth=2, features=2, image_mean=128, image_std=33
    )
    plan = {
        "work": work, "spec": spec.model_dump(mode="json"), "device": "cpu", "seconds": 0.01,
        "candidate": measuring.default(work).model_dump(),
    }  # fmt: skip
    tuned_work.work(plan)
    ready, found = capsys.readouterr().out.splitlines()
    assert ready == "ready"
    assert json.loads(found)["fov_per_s"] > 0
