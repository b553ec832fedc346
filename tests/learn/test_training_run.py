"""The run of a training: divergence, what is best, and where it goes on."""

from __future__ import annotations

import json
import threading

import pytest
import torch

from petavox.errors import BadInput, WorkFailed
from petavox.ffn.model import load_model
from petavox.ffn.trainer import Trainer
from petavox.learn import training_run, training_state
from petavox.learn.distributed import Place
from petavox.learn.training_run import RunSettings, run
from petavox.synapse.trainer import SynapseTrainer
from tests.ffn.training_helpers import SPEC, slabs, small
from tests.synapse.test_synapse_training import SPEC as SYNAPSES
from tests.synapse.test_synapse_training import bright, settings


def ffn(**changes) -> Trainer:
    return Trainer(SPEC, [slabs()], small(**changes))


@pytest.mark.parametrize("kind", ["ffn", "synapses"])
def test_a_training_that_diverges_ends_with_a_sentence_and_its_last_checkpoint(kind, tmp_path):
    t = ffn(steps=9) if kind == "ffn" else SynapseTrainer(SYNAPSES, [bright()], settings(steps=9))
    step = t.step

    def poisoned():
        if t.step_number == 3:
            with torch.no_grad():
                next(iter(t.network.parameters()))[:] = float("inf")
        return step()

    t.step = poisoned  # type: ignore[method-assign]
    with pytest.raises(WorkFailed, match=r"diverged: after step 4 .*optimiser\.rate.*--resume"):
        run(t, tmp_path, RunSettings(save_steps=1), quiet=True)
    newest = training_state.newest(tmp_path / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000003"
    tensors, _ = training_state.read_state(newest)
    assert all(torch.isfinite(v).all() for v in tensors.values())
    assert not (tmp_path / "last.safetensors").exists()


def test_a_run_that_fails_ends_its_threads(tmp_path):
    before = threading.active_count()
    t = ffn(steps=9, ahead=2)
    step = t.step

    def failing():
        if t.step_number == 2:
            raise WorkFailed("lost")
        return step()

    t.step = failing  # type: ignore[method-assign]
    with pytest.raises(WorkFailed):
        run(t, tmp_path, RunSettings(), quiet=True)
    assert threading.active_count() == before


def scripted(errors):
    """A validation whose errors are known beforehand."""
    left = iter(errors)
    return lambda model: {"error": next(left)}


def test_a_resumed_run_does_not_replace_a_better_model(tmp_path):
    often = RunSettings(validate_minutes=1e-9)
    # the second error, of the last step, comes after the checkpoint of that step
    run(ffn(steps=2), tmp_path, often, validate=scripted([0.5, 0.2]), quiet=True)
    figures = run(ffn(steps=3), tmp_path, often, validate=scripted([0.4]), resume=True, quiet=True)
    assert figures["best_error"] == 0.2
    assert load_model(tmp_path / "best.safetensors").spec.provenance["steps"] == 2


def test_after_another_validation_the_best_is_chosen_anew(tmp_path):
    def asked(box):
        return {"settings": {"validation": {"box": box}}}

    often = RunSettings(validate_minutes=1e-9)
    run(ffn(steps=1), tmp_path, often, validate=scripted([0.2]), provenance=asked("a"), quiet=True)
    figures = run(
        ffn(steps=2), tmp_path, often, validate=scripted([0.4]), resume=True,
        provenance=asked("b"), quiet=True,
    )  # fmt: skip
    assert figures["best_error"] == 0.4
    assert load_model(tmp_path / "best.safetensors").spec.provenance["steps"] == 2


def test_a_damaged_best_model_does_not_keep_a_training_from_going_on(tmp_path, caplog):
    often = RunSettings(validate_minutes=1e-9)
    run(ffn(steps=1), tmp_path, often, validate=scripted([0.2]), quiet=True)
    best = tmp_path / "best.safetensors"
    best.write_bytes(best.read_bytes()[:100])
    figures = run(ffn(steps=2), tmp_path, often, validate=scripted([0.4]), resume=True, quiet=True)
    assert figures["best_error"] == 0.4
    assert load_model(best).spec.provenance["steps"] == 2
    assert "best.safetensors is not a whole petavox model" in caplog.text
    assert "chosen anew" in caplog.text


def test_a_rank_waits_for_a_checkpoint_that_it_sees_late(tmp_path, monkeypatch):
    t = ffn()
    t.step()
    folder = t.save(tmp_path / "checkpoints", {"trained_s": 1.0, "validated_s": 1.0})
    assert folder is not None
    hidden = folder.rename(tmp_path / "hidden")
    threading.Timer(0.3, lambda: hidden.rename(folder)).start()
    late = ffn()
    late.place = Place(1, 2)
    monkeypatch.setattr(training_run._Run, "_told", lambda self, number: 1)
    training_run._Run(late, tmp_path, RunSettings(), None, {}, True)._resume()
    assert late.step_number == 1


def test_a_run_begun_anew_does_not_go_on_with_an_old_curve(tmp_path):
    # left by a run that died before its first checkpoint
    (tmp_path / "curve.jsonl").write_text('{"step": 50, "loss": 1.0}\n{"step": 10')
    run(ffn(steps=2), tmp_path, RunSettings(say_every=1), quiet=True)
    lines = [json.loads(x) for x in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines] == [1, 2]


def test_what_was_learned_after_the_last_line_is_said(tmp_path):
    t = ffn(steps=None, minutes=1e-9)
    assert run(t, tmp_path, RunSettings(say_every=50), quiet=True)["loss"] > 0


def test_other_volumes_or_another_start_are_refused(tmp_path):
    def made(volumes, start):
        told = {} if start is None else {"started_from": {"digest": start}}
        return {"settings": {"volumes": volumes}, **told}

    run(ffn(steps=1), tmp_path, RunSettings(), provenance=made(["a"], "m"), quiet=True)

    def go_on(volumes, start):
        t, asked = ffn(steps=2), made(volumes, start)
        return run(t, tmp_path, RunSettings(), provenance=asked, resume=True, quiet=True)

    with pytest.raises(BadInput, match="`volumes` are not those"):
        go_on(["b"], "m")
    with pytest.raises(BadInput, match="--init is not the model"):
        go_on(["a"], "n")
    # --init was needed for the first step only, and is still told
    go_on(["a"], None)
    kept = load_model(tmp_path / "last.safetensors").spec.provenance
    assert kept["started_from"] == {"digest": "m"}


def test_a_checkpoint_of_a_step_made_again_is_never_half_there(tmp_path, monkeypatch):
    t = ffn()
    t.step()
    folder = t.save(tmp_path, keep=1)
    assert folder is not None
    (folder / "old").touch()

    def killed(path, **kwargs):
        if path.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(training_state.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        t.save(tmp_path, keep=1)
    assert training_state.newest(tmp_path) == folder
    assert not (folder / "old").exists()
    ffn().restore(folder)
    monkeypatch.undo()
    t.save(tmp_path, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_a_damaged_checkpoint_says_how_to_go_on(tmp_path):
    folder = ffn().save(tmp_path)
    assert folder is not None
    path = folder / training_state.STATE
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BadInput, match="delete the folder step-00000000"):
        ffn().restore(folder)
