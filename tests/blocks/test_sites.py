"""Sites: the YAML files that come with petavox, and the Parsl configuration made from them."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from petavox.blocks import launching, pool, sites
from petavox.errors import BadInput, MissingExtra


def test_every_site_that_comes_with_petavox_is_valid():
    assert sites.names() == ["aurora", "kubernetes", "laptop", "polaris", "slurm", "workstation"]
    for name in sites.names():
        assert sites.load(name).name == name


def test_slurm_gets_its_provider_with_walltime_devices_and_srun(tmp_path):
    site = sites.load("slurm", account="lab", queue="gpu")
    provider = launching.executor(site, run_dir=tmp_path).provider
    assert type(provider).__name__ == "SlurmProvider"
    assert (provider.account, provider.partition, provider.walltime) == ("lab", "gpu", "04:00:00")
    assert (provider.gpus_per_node, provider.max_blocks) == (4, 8)
    assert type(provider.launcher).__name__ == "SrunLauncher"


def test_the_slurm_script_asks_for_what_the_site_says():
    script = launching.shown(sites.load("slurm", account="lab", queue="gpu"))["script"]
    for line in (
        "#SBATCH --time=240",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=lab",
        "#SBATCH --gpus-per-node=4",
        "--max_workers_per_node=4",
        "--drain_period=13800",
        "srun",
    ):
        assert line in script, line


def test_the_pbs_script_of_aurora_asks_for_what_the_site_says():
    shown = launching.shown(sites.load("aurora", account="brain"))
    for line in (
        "#PBS -l walltime=06:00:00",
        "#PBS -l select=256",
        "module load frameworks",
        'export ZE_FLAT_DEVICE_HIERARCHY="FLAT"',
        "--max_workers_per_node=24",
        "--drain_period=20700",
        "mpiexec",
        "--ppn 1",
    ):
        assert line in shown["script"], line
    assert shown["submit"].startswith("qsub -q prod -A brain ")
    # Parsl must not pin: petavox does, from the rank
    assert shown["launch"].rstrip().endswith("--available-accelerators")
    assert "ZE_AFFINITY_MASK=1" in shown["worker_2"]


def test_the_time_that_a_job_took_to_start_is_taken_from_the_time_of_its_pools():
    given = ["-a", "host", "--drain_period=20700", "--hb_period=30"]
    began = {"PETAVOX_JOB_BEGAN": "1000"}
    late = ["-a", "host", "--drain_period=20400", "--hb_period=30"]
    assert pool.arguments(given, began, 1300.2) == late
    assert pool.arguments(given, began, 99_999.0)[2] == "--drain_period=1"
    assert pool.arguments(given, {}, 1300.0) == given
    assert pool.arguments(["--drain_period=None"], began, 1300.0) == ["--drain_period=None"]


@pytest.mark.parametrize("name", ["aurora", "polaris", "slurm"])
def test_a_job_says_when_it_began_before_all_else(name):
    site = sites.load(name)
    script = launching.shown(site)["script"]
    began = script.index("export PETAVOX_JOB_BEGAN=$(date +%s)")
    assert began < script.index("petavox.blocks.pool")
    assert not site.setup or began < script.index(site.setup.splitlines()[0])


def test_logs_of_thousands_of_nodes_stay_on_the_nodes():
    assert "--logdir=/tmp/petavox/blocks" in launching.shown(sites.load("aurora"))["launch"]
    assert "--logdir=RUN/blocks" in launching.shown(sites.load("polaris"))["launch"]
    with pytest.raises(BadInput, match="logs: node needs `scratch`"):
        sites.load("slurm", logs="node", scratch="")


def test_kubernetes_gets_its_provider(monkeypatch, tmp_path):
    from parsl.providers.kubernetes import kube

    fake = types.SimpleNamespace(CoreV1Api=lambda: types.SimpleNamespace())
    monkeypatch.setattr(kube, "_kubernetes_enabled", True)
    monkeypatch.setattr(kube, "client", fake, raising=False)
    monkeypatch.setattr(
        kube, "config", types.SimpleNamespace(load_kube_config=lambda: None), raising=False
    )
    provider = launching.executor(sites.load("kubernetes"), run_dir=tmp_path).provider
    assert type(provider).__name__ == "KubernetesProvider"
    assert (provider.image, provider.max_blocks) == ("petavox:latest", 16)
    assert provider.extra_limits == {"nvidia.com/gpu": "1"}


def test_kubernetes_without_its_client_says_what_to_install(monkeypatch):
    from parsl.providers.kubernetes import kube

    monkeypatch.setattr(kube, "_kubernetes_enabled", False)
    with pytest.raises(MissingExtra, match="pip install kubernetes"):
        launching.provider(sites.load("kubernetes"))


def test_a_site_of_ones_own_is_read_from_its_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nworkers_per_node: 3\n")
    assert sites.load(file).workers == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nworkers: 3\n", "unknown key 'workers'"),
        ("name: x\nscheduler: slurm\n", "needs walltime_s"),
        (
            "name: x\nworkers_per_node: 9\naccelerators: {kind: cuda, per_node: 4}\n",
            "more than 4 devices x 1 processes",
        ),
        ("name: x\nheartbeat_s: 10\nlost_after_s: 12\n", "at least twice heartbeat_s"),
        ("name: x\nscheduler: pbs\nwalltime_s: 60\n", "leaves nothing of walltime_s"),
        ("name: x\nscheduler: kubernetes\n", "needs `image`"),
    ],
)
def test_a_wrong_site_is_refused_with_a_reason(tmp_path, text, message):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=message):
        sites.load(file)


def test_an_unknown_site_names_those_there_are():
    with pytest.raises(BadInput, match="the names are aurora, kubernetes, laptop"):
        sites.load("summit")


@pytest.mark.parametrize(
    ("kind", "variable"), [("cuda", "CUDA_VISIBLE_DEVICES"), ("xpu", "ZE_AFFINITY_MASK")]
)
def test_a_worker_process_is_pinned_from_its_rank(tmp_path, kind, variable):
    # a fake environment stands for Parsl's worker: its rank, and no device at all
    code = (
        "import json, os, sys\n"
        "from petavox.blocks.work import run_bundle\n"
        "job = json.loads(sys.argv[1])\n"
        "print(json.dumps(run_bundle(job)[0]))\n"
    )
    import json

    job = {
        "name": "t",
        "function": "petavox.blocks.testing:environment",
        "grid": [[0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]],
        "settings": {},
        "reads": {},
        "writes": {},
        "numbers": [0],
        "attempts": [1],
        "ticket": 1,
        "run": {
            "token": "x",
            "pin": {"kind": kind, "devices": 2, "per_device": 2, "threads": 3},
        },
    }
    env = {k: v for k, v in os.environ.items() if k not in (variable,)}
    for rank, device in (("0", "0"), ("1", "0"), ("2", "1"), ("3", "1")):
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(job)],
            env=env | {"PARSL_WORKER_RANK": rank},
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
        result = json.loads(done.stdout)
        assert result["counters"][variable] == device
        assert result["counters"]["OMP_NUM_THREADS"] == "3"
        assert result["counters"]["loaded"] == ""
        assert result["device"] == kind
