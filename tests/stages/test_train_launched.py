"""`petavox train` as launchers start it: mpiexec, and torchrun with a rank that is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

SETTINGS = """
model: {fov: [9, 9, 9], deltas: [2, 2, 2], depth: 2, features: 4, image_mean: 130,
        image_std: 33, seed_pad: 0.5, move_threshold: 0.6}
volumes:
  - phantom: {seed: 5, shape: [32, 40, 40], voxel_size: [20, 20, 20]}
threads: 1
trainer:
  batch: 1
  live: 2
  steps: STEPS
  examples: {min_object_size: 100}
run: {say_every: 10, save_steps: 5, save_minutes: 60}
"""


def command(folder: Path, steps: int, *more: str) -> list[str]:
    settings = folder / "train.yaml"
    settings.write_text(SETTINGS.replace("STEPS", str(steps)))
    return ["-m", "petavox", "train", str(settings), "--out", str(folder / "out"), *more]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MASTER_", "PMI_", "OMPI_"))}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.skipif(shutil.which("mpiexec") is None, reason="mpiexec is not installed")
def test_mpiexec_starts_ranks_on_one_node_that_train_together(tmp_path):
    done = subprocess.run(
        ["mpiexec", "-n", "2", sys.executable, *command(tmp_path, 20)],
        env=environment(MASTER_PORT=str(free_port())),
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    if done.returncode and "root" in done.stderr and "allow-run-as-root" in done.stderr:
        pytest.skip("this mpiexec does not start programs for root")
    assert done.returncode == 0, done.stderr
    last = tmp_path / "out" / "checkpoints" / "step-00000020"
    # a file of each rank: they were two of one training, not two trainings
    assert len(list(last.glob("feeder-*.safetensors"))) == 2
    assert (tmp_path / "out" / "last.safetensors").is_file()


def test_a_killed_rank_ends_torchrun_with_a_sentence_and_the_training_resumes(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
              "--master-port", str(free_port())]  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as stream:
        running = subprocess.Popen(
            [*launch, *command(tmp_path, 100_000)], env=environment(), stdout=stream, stderr=stream
        )
    checkpoints = tmp_path / "out" / "checkpoints"
    deadline = time.monotonic() + 900
    while not list(checkpoints.glob("step-*")):
        assert running.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(victim(running.pid), signal.SIGKILL)
    assert running.wait(timeout=900) != 0
    said = log.read_text()
    assert "rank was lost" in said, said
    assert "--resume" in said
    assert "Traceback" not in said.split("rank was lost")[0], said

    before = max(int(p.name[5:]) for p in checkpoints.glob("step-*"))
    steps = before + 10
    done = subprocess.run(
        [*launch, *command(tmp_path, steps, "--resume")],
        env=environment(), capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in (tmp_path / "out" / "curve.jsonl").open()]
    assert seen[-1]["fovs"] == 2 * steps
    assert (checkpoints / f"step-{steps:08d}").is_dir()


def victim(parent: int) -> int:
    """The second rank among the children of torchrun."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if int(status[1]) == parent and b"RANK=1" in variables:
                return int(entry.name)
    raise AssertionError("torchrun has no second rank")
