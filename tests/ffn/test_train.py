"""The trainer: it learns, resumes exactly, survives being killed, and follows its rules."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from petavox.errors import BadInput
from petavox.ffn import objective
from petavox.ffn.export import export_checkpoint
from petavox.ffn.figures import shown
from petavox.ffn.model import load_model, logit
from petavox.ffn.network import ConvStack
from petavox.ffn.trainer import Trainer
from petavox.learn import training_state
from petavox.learn.schedule import OptimiserSettings, mean_decay_at, rate_at, scale
from petavox.learn.training_run import RunSettings, run
from petavox.synapse.trainer import SynapseTrainer
from tests.ffn.training_helpers import SPEC, slabs, small
from tests.synapse.test_synapse_training import SPEC as SYNAPSES
from tests.synapse.test_synapse_training import bright, settings

QUICK = {"optimiser": {"rate": 3e-3, "warm_up": 10, "mean_decay": 0.9}}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trainer(**changes) -> Trainer:
    return Trainer(SPEC, [slabs()], small(**(QUICK | changes)))


def weights(t: Trainer) -> dict[str, torch.Tensor]:
    out = {k: v.clone() for k, v in t.network.state_dict().items()}
    assert t.mean is not None
    return out | {f"mean.{k}": v.clone() for k, v in t.mean.items()}


def equal(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_it_learns():
    t = trainer()
    first = [t.step()["loss"] for _ in range(10)]
    for _ in range(180):
        t.step()
    last = [t.step()["loss"] for _ in range(10)]
    assert np.mean(last) < 0.5 * np.mean(first)
    assert t.fovs == 400


def test_the_loss_is_the_mean_cross_entropy_against_the_soft_target():
    seed = torch.tensor([[[[0.0, 2.0]]]])
    update = torch.tensor([[[[1.0, -1.0]]]])
    target = torch.tensor([[[[0.95, 0.05]]]])
    p = 1 / (1 + np.exp(-1.0))  # both logits are 1
    by_hand = [-(t * np.log(p) + (1 - t) * np.log(1 - p)) for t in (0.95, 0.05)]
    whole, logits = objective.loss(seed, update, target, torch.ones_like(seed))
    assert float(whole) == pytest.approx(np.mean(by_hand), rel=1e-6)
    assert logits.flatten().tolist() == [1.0, 1.0]
    half, _ = objective.loss(seed, update, target, torch.tensor([[[[1.0, 0.0]]]]))
    assert float(half) == pytest.approx(by_hand[0] / 2, rel=1e-6)


def test_a_low_update_gives_a_float32_loss():
    seed = torch.zeros(1, 2, 2, 2)
    loss, logits = objective.loss(seed, seed.bfloat16(), seed + 0.5, seed + 1)
    assert loss.dtype == logits.dtype == torch.float32


def test_gradient_entries_are_cut():
    p = torch.nn.Parameter(torch.zeros(3))
    p.grad = torch.tensor([-5.0, 0.3, 0.9])
    objective.clip([p])
    assert p.grad.tolist() == pytest.approx([-0.7, 0.3, 0.7])


def test_the_running_mean():
    mean, now = {"a": torch.tensor([1.0])}, {"a": torch.tensor([3.0])}
    objective.update_mean(mean, now, 0.75)
    assert mean["a"].item() == 1.5
    assert mean_decay_at(0, 0.99) == 0.1
    assert mean_decay_at(10_000, 0.99) == 0.99


def test_learning_rates():
    assert [scale(n, "auto") for n in (1, 4, 16, 64)] == [1, 4, 16, 32]
    assert scale(9, "sqrt") == 3
    assert scale(9, "none") == 1
    s = OptimiserSettings(rate=1.0, warm_up=4, decay="cosine", last=0.1)
    assert [rate_at(i, 104, s) for i in (0, 1, 3, 4)] == pytest.approx([0.25, 0.5, 1.0, 1.0])
    assert rate_at(54, 104, s) == pytest.approx(0.55)
    assert rate_at(104, 104, s) == pytest.approx(0.1)
    assert rate_at(50, None, s) == 1.0


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_a_restored_training_goes_on_bit_for_bit(tmp_path, kind):
    optimiser = {"kind": kind, "rate": 1e-3, "mean_decay": 0.9}
    if kind == "sgd":
        optimiser["momentum"] = 0.9
    a = trainer(optimiser=optimiser)
    for _ in range(7):
        a.step()
    folder = a.save(tmp_path)
    assert folder is not None
    b = trainer(optimiser=optimiser)
    b.restore(folder)
    for _ in range(9):
        assert a.step() == b.step()
    assert equal(weights(a), weights(b))


def test_checkpoints_are_whole_or_not_there(tmp_path):
    t = trainer()
    for _ in range(3):
        t.step()
        t.save(tmp_path, keep=2)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step-00000002", "step-00000003"]
    (tmp_path / "step-00000009").mkdir()
    (tmp_path / ".step-00000008.partial").mkdir()
    newest = training_state.newest(tmp_path)
    assert newest is not None
    assert newest.name == "step-00000003"


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    folder = trainer().save(tmp_path)
    other = Trainer(SPEC.model_copy(update={"depth": 4}), [slabs()], small(**QUICK))
    with pytest.raises(BadInput, match="another model"):
        other.restore(folder)
    with pytest.raises(BadInput, match="live"):
        trainer(live=3).restore(folder)


def test_another_optimiser_is_refused(tmp_path):
    folder = trainer(optimiser={"kind": "sgd", "momentum": 0.9}).save(tmp_path)
    with pytest.raises(BadInput, match=r"optimiser\.kind is adam but .* with sgd"):
        trainer(optimiser={"kind": "adam"}).restore(folder)
    # its rate may be another
    trainer(optimiser={"kind": "sgd", "momentum": 0.9, "rate": 1e-4}).restore(folder)


def test_a_resumed_training_may_have_more_memory_but_no_other_blocks(tmp_path):
    folder = trainer().save(tmp_path)
    examples = small().examples
    more = examples.model_copy(update={"memory_mb": 2048})
    trainer(examples=more.model_dump()).restore(folder)
    other = examples.model_copy(update={"blocks": 3})
    with pytest.raises(BadInput, match=r"examples\.blocks is 3 but .* with 2"):
        trainer(examples=other.model_dump()).restore(folder)


def test_a_checkpoint_of_another_kind_of_network_is_refused(tmp_path):
    synapses = SynapseTrainer(SYNAPSES, [bright()], settings())
    folder = synapses.save(tmp_path)
    with pytest.raises(BadInput, match="another kind of network"):
        trainer().restore(folder)
    with pytest.raises(BadInput, match="another kind of network"):
        export_checkpoint(folder, tmp_path / "model.safetensors")


def test_settings_of_the_optimiser_without_effect_are_refused():
    for given in ({"momentum": 0.9}, {"kind": "sgd", "weight_decay": 0.1}):
        with pytest.raises(ValidationError, match="leave it out"):
            OptimiserSettings.model_validate(given)
    with pytest.raises(BadInput, match=r"trainer\.steps"):
        trainer(steps=None, minutes=1, optimiser={"decay": "cosine"})
    endless = {"steps": None, "minutes": 1, "optimiser": {"decay": "cosine"}}
    with pytest.raises(BadInput, match=r"trainer\.steps"):
        SynapseTrainer(SYNAPSES, [bright()], settings(**endless))


@pytest.mark.parametrize("policy", ["fixed", "max_pred_moves"])
def test_a_walk_without_moves_is_refused(policy):
    with pytest.raises(BadInput, match=r"walk\.moves"):
        trainer(walk={"policy": policy, "moves": 0})


def test_more_feeders_than_before_start_their_patches_anew(tmp_path):
    a = trainer()
    for _ in range(5):
        a.step()
    folder = a.save(tmp_path)
    b = Trainer(SPEC, [slabs()], small(**QUICK), feeders=2)
    b.restore(folder)
    assert equal(weights(a), weights(b))
    assert b.feeders[0].next_example >= a.feeders[0].next_example
    b.step()
    assert b.step_number == 6


def test_a_run_writes_a_model_a_curve_and_checkpoints(tmp_path):
    errors = iter([0.5, 0.2, 0.9])
    t = trainer(steps=6)
    options = RunSettings(say_every=2, validate_minutes=1e-6, save_steps=3)
    seen = []

    def validate(model):
        error = next(errors, 0.8)
        seen.append((error, {k: v.clone() for k, v in model.network.state_dict().items()}))
        return {"error": error}

    figures = run(t, tmp_path, options, validate=validate, quiet=True, provenance={"by": "test"})
    assert figures["steps"] == 6
    assert figures["fovs"] == 12
    assert figures["best_error"] == 0.2
    best = load_model(tmp_path / "best.safetensors")
    assert equal(dict(best.network.state_dict()), seen[1][1])
    assert best.spec.provenance["validation"] == {"error": 0.2}
    assert best.spec.provenance["by"] == "test"
    lines = [json.loads(x) for x in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if "loss" in x] == [2, 4, 6]
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {
        "step-00000003", "step-00000006",
    }  # fmt: skip


def test_export_gives_the_running_mean(tmp_path):
    t = trainer()
    for _ in range(4):
        t.step()
    t.save(tmp_path / "checkpoints")
    spec = export_checkpoint(tmp_path, tmp_path / "model.safetensors")
    model = load_model(tmp_path / "model.safetensors")
    assert spec.provenance["steps"] == 4
    assert equal(dict(model.network.state_dict()), t.mean)


def test_fine_tuning_starts_from_the_weights_of_a_model():
    start = objective.initialised(ConvStack(3, 4), 77)
    t = Trainer(SPEC, [slabs()], small(**QUICK), start=start)
    assert equal(dict(t.network.state_dict()), dict(start.state_dict()))
    with pytest.raises(BadInput, match="depth, features, norm"):
        Trainer(SPEC, [slabs()], small(), start=ConvStack(4, 4))


def test_norm_and_low_precision_train():
    spec = SPEC.model_copy(update={"norm": "layer"})
    t = Trainer(spec, [slabs()], small(precision="bf16"))
    assert np.isfinite(t.step()["loss"])
    assert all(p.dtype == torch.float32 for p in t.network.parameters())
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in t.network.parameters())


def test_figures_shown():
    sums = {
        "loss": 3.0, "steps": 2, "fovs": 4, "patches": 2, "voxels_right": 8, "voxels_spurious": 2,
        "voxels_missed": 8, "moves_right": 6, "moves_missed": 2, "moves_spurious": 1,
    }  # fmt: skip
    found = shown(sums)
    assert found["loss"] == 1.5
    assert found["precision"] == 0.8
    assert found["recall"] == 0.5
    assert found["f1"] == pytest.approx(2 * 0.8 * 0.5 / 1.3)
    assert found["moves_missed"] == 1.0


CHILD = """
import sys, time, torch
from pathlib import Path
torch.set_num_threads(1)
from petavox.ffn.trainer import Trainer
from petavox.learn.training_run import RunSettings, run
from tests.ffn.training_helpers import SPEC, slabs, small
t = Trainer(SPEC, [slabs()], small(steps=30, optimiser={"rate": 3e-3, "mean_decay": 0.9}))
if sys.argv[2] == "slow":
    quick = t.step
    def step():
        time.sleep(0.1)
        return quick()
    t.step = step
run(t, Path(sys.argv[1]), RunSettings(save_steps=5), resume=sys.argv[2] == "resume", quiet=True)
"""


def child(out: Path, how: str) -> subprocess.Popen:
    root = Path(__file__).parent.parent.parent
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", CHILD, str(out), how], env=environment)


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    first = child(whole, "whole")
    process = child(broken, "slow")
    deadline = time.monotonic() + 120
    while training_state.newest(broken / "checkpoints") is None and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.25)  # a few steps beyond the checkpoint, which will be lost
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (broken / "last.safetensors").exists()
    assert child(broken, "resume").wait() == 0
    assert first.wait() == 0
    for name in ("last.safetensors", "checkpoints/step-00000030/feeder-00000.safetensors"):
        if name.startswith("last"):
            a, b = (load_model(p / name).network.state_dict() for p in (whole, broken))
            assert equal(dict(a), dict(b))
        else:
            assert (whole / name).read_bytes() == (broken / name).read_bytes()
    a, b = (training_state.read_state(p / "checkpoints/step-00000030")[0] for p in (whole, broken))
    assert equal(a, b)


def test_the_map_starts_as_the_model_says():
    t = trainer()
    batch = t.feeders[0].batch()
    assert batch.seed.max() == np.float32(logit(SPEC.seed_init))
