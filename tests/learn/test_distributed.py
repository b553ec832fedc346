"""Ranks: where a process stands, two ranks against one, and a rank that is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from petavox.errors import BadInput
from petavox.ffn.trainer import Trainer
from petavox.learn import training_state
from petavox.learn.distributed import Place, batch_of_rank, led, own_device, place_in
from tests.ffn.training_helpers import SPEC, slabs, small

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Place()),
        (
            {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "a"},
            Place(3, 8, 1, "torchrun"),
        ),
        (
            {"PMI_RANK": "5", "PMI_SIZE": "24", "PALS_LOCAL_RANKID": "5", "MASTER_ADDR": "a"},
            Place(5, 24, 5, "mpiexec"),
        ),
        (
            {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MASTER_ADDR": "a"},
            Place(1, 2, 1, "mpiexec"),
        ),
        (
            {
                "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_LOCAL_RANK": "0", "MASTER_ADDR": "a",
            },
            Place(2, 4, 0, "mpiexec (Open MPI)"),
        ),
        (
            {
                "SLURM_PROCID": "6", "SLURM_NTASKS": "8", "SLURM_LOCALID": "2",
                "SLURM_STEP_ID": "0", "MASTER_ADDR": "a",
            },
            Place(6, 8, 2, "srun"),
        ),
        # srun with pmi2; and with RANK that a job script took from it
        (
            {
                "PMI_RANK": "5", "PMI_SIZE": "8", "MASTER_ADDR": "a", "SLURM_STEP_ID": "0",
                "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1",
            },
            Place(5, 8, 1, "mpiexec"),
        ),
        (
            {
                "RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "a", "SLURM_STEP_ID": "0",
                "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1",
            },
            Place(5, 8, 1, "torchrun"),
        ),
        # a pod each; and mpiexec within a job script, whose own number says nothing of its ranks
        ({"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "a"}, Place(3, 8, None, "torchrun")),
        (
            {
                "PMI_RANK": "1", "PMI_SIZE": "2", "MASTER_ADDR": "a",
                "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
            },
            Place(1, 2, None, "mpiexec"),
        ),
        # inside an allocation, but not started by srun
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Place()),
    ],
)  # fmt: skip
def test_place_from_the_environment_of_a_launcher(environment, expected):
    assert place_in(environment) == expected


def test_ranks_on_one_node_need_no_address():
    given = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"}
    assert place_in(given) == Place(1, 2, 1, "mpiexec")
    with pytest.raises(BadInput, match="MASTER_ADDR"):
        place_in(given | {"PMI_SIZE": "4"})


def test_impossible_places_are_refused():
    with pytest.raises(BadInput, match="MASTER_ADDR"):
        place_in({"PMI_RANK": "0", "PMI_SIZE": "2"})
    with pytest.raises(BadInput, match="rank 2 of 2"):
        place_in({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a"})
    with pytest.raises(BadInput, match="not a number"):
        place_in({"RANK": "x", "WORLD_SIZE": "2"})


def test_the_batch_counts_devices_not_tiles():
    assert batch_of_rank(4, 1) == 4
    assert batch_of_rank(4, 2) == 2
    with pytest.raises(BadInput, match="multiple of 2"):
        batch_of_rank(3, 2)
    # two tiles of one card: the learning rate is that of one device
    t = Trainer(SPEC, [slabs()], small(tiles_per_device=2), feeders=2)
    assert t.devices == 1
    assert sum(f.batch_size for f in t.feeders) == 2


def test_a_processor_is_its_own_device():
    assert own_device("cpu", Place(1, 2, 1)) == torch.device("cpu")


def test_ranks_do_not_share_a_named_card():
    assert own_device("cuda:1", Place()) == torch.device("cuda:1")
    with pytest.raises(BadInput, match="set device: cuda, and each takes its own"):
        own_device("cuda:1", Place(1, 2, 1))


def test_ranks_do_not_share_the_only_card(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", seen.append)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert own_device("cuda", Place(1, 2, 0)) == torch.device("cuda:0")  # two nodes
    with pytest.raises(BadInput, match="only one cuda device"):
        own_device("cuda", Place(1, 2, 1))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")  # the launcher shows each rank its own
    assert own_device("cuda", Place(1, 2, 1)) == torch.device("cuda:0")


def test_a_rank_of_unknown_number_on_its_node_takes_the_only_card(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert own_device("cuda", Place(3, 8, None)) == torch.device("cuda:0")
    assert not caplog.records
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device("cuda", Place(3, 8, None)) == torch.device("cuda:1")
    assert "set LOCAL_RANK" in caplog.text


LED = """
import os, torch
from petavox.errors import BadInput
from petavox.learn.distributed import joined, led, place_in

place, cpu = place_in(os.environ), torch.device("cpu")

def refuse():
    raise BadInput("the box of \u00b5m is bad.")

with joined(place, timeout_s=60):
    assert led(place, cpu, lambda: "made") == ("made" if place.leads else None)
    try:
        led(place, cpu, refuse)
    except BadInput as e:
        assert str(e) == "the box of \u00b5m is bad.", e
    else:
        raise SystemExit("not refused")
"""


def test_all_ranks_fail_with_the_sentence_of_the_leading_one(tmp_path):
    for process in ranks(tmp_path, "", LED):
        assert process.returncode == 0, process.stderr
    assert led(Place(), torch.device("cpu"), lambda: 3) == 3


RANK = """
import os, sys, torch
from pathlib import Path
from safetensors.torch import save_file
torch.set_num_threads(1)
from petavox.learn.distributed import joined, losses_told, place_in
from petavox.ffn.trainer import Trainer
from tests.ffn.training_helpers import SPEC, slabs, small

place, out, how = place_in(os.environ), Path(sys.argv[1]), sys.argv[2]
with joined(place, timeout_s=60), losses_told(place, "start again with --resume"):
    t = Trainer(SPEC, [slabs()], small(optimiser={"kind": "sgd", "rate": 0.01}), place=place)
    if how == "lose":
        t.step()
        if place.rank == 1:
            os._exit(9)
        for _ in range(1000):
            t.step()
    for _ in range(4):
        t.step()
    before = {f"before.{k}": v.clone() for k, v in t.network.state_dict().items()}
    t.gradients(t.feeders[0].batch())
    grads = {f"grad.{k}": p.grad.clone() for k, p in t.network.named_parameters()}
    t.step()
    if place.leads:
        every = {**before, **grads, **t.network.state_dict()}
        save_file({k: v.contiguous() for k, v in every.items()}, out / "state.safetensors")
    t.save(out / "checkpoints")
    if how == "lose at the end" and place.rank == 1:
        os._exit(9)
"""


def ranks(out: Path, how: str, script: str = RANK) -> list[subprocess.CompletedProcess]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    running = []
    for rank in range(2):
        environment = os.environ | {
            "PMI_RANK": str(rank), "PMI_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", script, str(out), how],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    done = []
    try:
        for process in running:
            text, errors = process.communicate(timeout=300)
            done.append(subprocess.CompletedProcess(process.args, process.returncode, text, errors))
    finally:
        for process in running:
            process.kill()
    return done


def test_two_ranks_equal_one_rank_with_the_doubled_batch(tmp_path):
    for process in ranks(tmp_path, "train"):
        assert process.returncode == 0, process.stderr
    found = load_file(tmp_path / "state.safetensors")
    torch.set_num_threads(1)
    # two feeders on one rank: the same examples as one feeder on each of two ranks, and the
    # learning rate of two devices
    one = Trainer(SPEC, [slabs()], small(optimiser={"kind": "sgd", "rate": 0.01}), feeders=2)
    assert one.devices == 2
    for _ in range(4):
        one.step()
    close = {"rtol": 1e-4, "atol": 1e-6}
    for name, tensor in one.network.state_dict().items():
        torch.testing.assert_close(found[f"before.{name}"], tensor, **close)
    batches = [f.batch() for f in one.feeders]
    one.gradients(type(batches[0])(*(torch.cat([torch.from_numpy(x) for x in parts]).numpy()
                                     for parts in zip(*batches, strict=True))))  # fmt: skip
    for name, parameter in one.network.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(found[f"grad.{name}"], parameter.grad, **close)
    one.step()
    for name, tensor in one.network.state_dict().items():
        torch.testing.assert_close(found[name], tensor, **close)
    # both ranks' live patches are in the one checkpoint, and one rank with two feeders takes it up
    (folder,) = (tmp_path / "checkpoints").iterdir()
    assert len(list(folder.glob("feeder-*.safetensors"))) == 2
    # the next example is one that no rank has drawn
    drawn = [int(training_state.read_feeder(folder, i)["counters"][0]) for i in (0, 1)]
    assert training_state.read_state(folder)[1]["examples"] == max(drawn)
    again = Trainer(SPEC, [slabs()], small(optimiser={"kind": "sgd", "rate": 0.01}), feeders=2)
    again.restore(folder)
    assert again.step()["loss"] == pytest.approx(one.step()["loss"], rel=1e-4)


@pytest.mark.parametrize("when", ["lose", "lose at the end"])
def test_a_lost_rank_ends_the_others_with_a_clear_line(when, tmp_path):
    first, second = ranks(tmp_path, when)
    assert second.returncode == 9
    assert first.returncode != 0
    last = first.stderr.strip().splitlines()[-1]
    assert "a rank was lost" in last
    assert "start again with --resume" in last
