"""Sites: where blocks run, as a small YAML, and the Parsl configuration made from it.

    petavox plan --site aurora --nodes 1024      # shows what would be started

What it is: the settings of a machine (scheduler, workers per node, accelerators, walltime) and
the one place that builds Parsl's executor and provider. What it is not: a start of anything.

The sites that come with petavox are the YAML files in `site_files/`; a path to a file of your own
does as well.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from petavox.errors import BadInput, MissingExtra
from petavox.settings import Settings, parse, read_yaml_mapping

FILES = Path(__file__).parent / "site_files"


class Accelerators(Settings):
    """The devices of one node."""

    kind: Literal["none", "cuda", "xpu", "rocm"] = "none"
    per_node: int = Field(0, ge=0)
    processes_each: int = Field(1, ge=1, le=16)


class Site(Settings):
    """A machine to run blocks on."""

    name: str
    scheduler: Literal["local", "slurm", "pbs", "kubernetes"] = "local"
    workers_per_node: int = Field(1, ge=1, description="processes that run blocks, on each node")
    cores_per_node: int | None = Field(None, ge=1)
    memory_gb_per_node: float | None = Field(None, gt=0)
    accelerators: Accelerators = Accelerators()
    nodes_per_job: int = Field(1, ge=1)
    jobs_min: int = Field(0, ge=0, description="jobs kept even when there is no work")
    jobs_max: int = Field(1, ge=1, description="jobs at most at one time; workers come and go")
    walltime_s: float | None = Field(None, gt=0)
    drain_s: float = Field(300, ge=0, description="no block is sent later than this before the end")
    queue: str | None = None
    account: str | None = None
    options: str = Field("", description="lines added to the job script, such as #PBS -l ...")
    select: str = Field("", description="added to PBS's select line")
    constraint: str | None = None
    launcher: Literal["single", "srun", "mpiexec"] = "single"
    launcher_options: str = ""
    setup: str = Field("", description="shell lines run on a node before its workers start")
    python: str | None = Field(None, description="the interpreter on the nodes; default: this one")
    environment: dict[str, str] = Field(default_factory=dict)
    scratch: str | None = Field(None, description="node-local folder; variables are expanded there")
    address: str | None = Field(None, description="address of this host as the nodes see it")
    heartbeat_s: int = Field(30, ge=1)
    lost_after_s: int = Field(120, ge=2, description="a silent node is given up after this")
    prefetch: int = Field(0, ge=0, description="bundles a node holds beyond one per worker")
    beacons: bool = Field(True, description="workers say in a shared folder which block they run")
    node_mtbf_hours: float = Field(
        50_000.0, gt=0, description="mean hours between losses of a node"
    )
    image: str | None = Field(None, description="container image (kubernetes)")
    namespace: str = "default"

    @model_validator(mode="after")
    def _fits(self) -> Site:
        a = self.accelerators
        if a.kind != "none" and self.workers_per_node > a.per_node * a.processes_each:
            raise ValueError(
                f"workers_per_node {self.workers_per_node} is more than {a.per_node} devices x "
                f"{a.processes_each} processes each"
            )
        if self.lost_after_s < 2 * self.heartbeat_s:
            raise ValueError(
                f"lost_after_s {self.lost_after_s} must be at least twice heartbeat_s "
                f"{self.heartbeat_s}"
            )
        if self.scheduler == "kubernetes" and not self.image:
            raise ValueError("a kubernetes site needs `image`, the container with petavox in it")
        if self.scheduler in ("slurm", "pbs") and self.walltime_s is None:
            raise ValueError(f"a {self.scheduler} site needs walltime_s")
        if self.walltime_s is not None and self.drain_s >= self.walltime_s:
            raise ValueError(f"drain_s {self.drain_s} leaves nothing of walltime_s")
        return self

    @property
    def workers(self) -> int:
        """Workers at most, with all jobs running."""
        return self.workers_per_node * self.nodes_per_job * self.jobs_max

    def threads(self) -> int:
        """Processor threads for one worker."""
        return max(1, (self.cores_per_node or os.cpu_count() or 1) // self.workers_per_node)

    def pin(self) -> dict[str, Any]:
        """Plain values for pinning, sent to the workers."""
        a = self.accelerators
        return {
            "kind": a.kind,
            "devices": a.per_node,
            "per_device": a.processes_each,
            "threads": self.threads(),
        }


def names() -> list[str]:
    """Sites that come with petavox."""
    return sorted(p.stem for p in FILES.glob("*.yaml"))


def load(site: str | Path, **changes: Any) -> Site:
    """A site by name, or from a YAML file; `changes` replace keys (None: leave as it is)."""
    path = FILES / f"{site}.yaml"
    if not path.is_file():
        path = Path(site)
    if not path.is_file():
        raise BadInput(
            f"there is no site '{site}': the names are {', '.join(names())}, or give a YAML file."
        )
    values = read_yaml_mapping(path) | {k: v for k, v in changes.items() if v is not None}
    return parse(Site, values, str(path))


def local(workers: int) -> Site:
    """This machine with `workers` processes."""
    return load("laptop", workers_per_node=workers)


def provider(site: Site) -> Any:
    """Parsl's provider: who starts the pools of workers."""
    from parsl.launchers import MpiExecLauncher, SimpleLauncher, SingleNodeLauncher, SrunLauncher
    from parsl.providers import LocalProvider, PBSProProvider, SlurmProvider

    exports = "\n".join(f"export {k}={_quoted(v)}" for k, v in site.environment.items())
    setup = "\n".join(part for part in (site.setup.rstrip(), exports) if part)
    jobs: dict[str, Any] = {
        "init_blocks": max(1, site.jobs_min) if site.scheduler == "local" else site.jobs_min or 1,
        "min_blocks": site.jobs_min,
        "max_blocks": site.jobs_max,
        "nodes_per_block": site.nodes_per_job,
        "worker_init": setup,
    }
    launcher = {
        "single": lambda: SingleNodeLauncher(debug=False),
        "srun": lambda: SrunLauncher(debug=False, overrides=site.launcher_options),
        "mpiexec": lambda: MpiExecLauncher(
            debug=False,
            bind_cmd="--cpu-bind",
            overrides=site.launcher_options or "--ppn 1 --depth=1",
        ),
    }[site.launcher]()
    if site.scheduler == "local":
        return LocalProvider(launcher=SimpleLauncher(), **jobs)
    walltime = clock(site.walltime_s or 0)
    if site.scheduler == "slurm":
        gpus = site.accelerators.per_node if site.accelerators.kind != "none" else None
        return SlurmProvider(
            partition=site.queue,
            account=site.account,
            constraint=site.constraint,
            walltime=walltime,
            scheduler_options=site.options,
            cores_per_node=site.cores_per_node,
            mem_per_node=int(site.memory_gb_per_node) if site.memory_gb_per_node else None,
            gpus_per_node=gpus,
            launcher=launcher,
            **jobs,
        )
    if site.scheduler == "pbs":
        return PBSProProvider(
            queue=site.queue,
            account=site.account,
            walltime=walltime,
            scheduler_options=site.options,
            select_options=site.select,
            cpus_per_node=site.cores_per_node or 1,
            launcher=launcher,
            **jobs,
        )
    return _kubernetes(site, setup)


def _kubernetes(site: Site, setup: str) -> Any:
    from parsl.errors import OptionalModuleMissing
    from parsl.providers import KubernetesProvider

    cores = site.cores_per_node or 1
    memory = f"{int(site.memory_gb_per_node or 4)}Gi"
    a = site.accelerators
    extra = {"nvidia.com/gpu": str(a.per_node)} if a.kind == "cuda" else {}
    try:
        return KubernetesProvider(
            image=site.image or "",
            namespace=site.namespace,
            nodes_per_block=site.nodes_per_job,
            init_blocks=site.jobs_min or 1,
            min_blocks=site.jobs_min,
            max_blocks=site.jobs_max,
            init_cpu=cores,
            max_cpu=cores,
            init_mem=memory,
            max_mem=memory,
            extra_requests=extra,
            extra_limits=extra,
            worker_init=setup + "\n" if setup else "",
        )
    except OptionalModuleMissing as e:
        raise MissingExtra(
            "the kubernetes site needs the kubernetes client: pip install kubernetes."
        ) from e


def executor(site: Site, *, run_dir: Path) -> Any:
    """Parsl's HighThroughputExecutor for a site; not started.

    The worker pool and the interchange run as modules of this (or the site's) interpreter, so
    that nothing depends on PATH.
    """
    from parsl.executors import HighThroughputExecutor
    from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
    from parsl.jobs.error_handlers import windowed_error_handler

    python = site.python or sys.executable
    pool = "-m parsl.executors.high_throughput.process_worker_pool"
    here = site.scheduler == "local"
    drain = None
    if site.walltime_s is not None:
        drain = int(site.walltime_s - site.drain_s)
    made = HighThroughputExecutor(
        label="blocks",
        provider=provider(site),
        address="127.0.0.1" if here else site.address,
        max_workers_per_node=site.workers_per_node,
        # the cap above decides; cores only shape the threads of a worker
        cores_per_worker=1e-6,
        prefetch_capacity=site.prefetch,
        heartbeat_period=site.heartbeat_s,
        heartbeat_threshold=site.lost_after_s,
        drain_period=drain,
        # messages wake it at once; the period only bounds how soon silence is noticed
        poll_period=100,
        address_probe_timeout=5 if here else 30,
        encrypted=True,
        launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", f"{python} {pool}"),
        interchange_launch_cmd=[sys.executable, "-m", "petavox.blocks.interchange"],
        block_error_handler=windowed_error_handler,
        worker_logdir_root=str(run_dir),
    )
    made.run_dir, made.run_id = str(run_dir), run_dir.name
    return made


def shown(site: Site) -> dict[str, str]:
    """What would be started, as text: for people to check before a job is sent."""
    made = executor(site, run_dir=Path("RUN"))
    facts = {
        "scheduler": site.scheduler,
        "provider": type(made.provider).__name__,
        "workers": f"{site.workers_per_node} a node x {site.nodes_per_job} nodes a job x "
        f"{site.jobs_min}..{site.jobs_max} jobs",
        "threads_per_worker": str(site.threads()),
    }
    if site.accelerators.kind != "none":
        from petavox.blocks.pinning import environment

        facts |= {
            f"worker_{r}": " ".join(f"{k}={v}" for k, v in environment(r, **site.pin()).items())
            for r in range(min(site.workers_per_node, 3))
        }
    facts["launch"] = launch_command(made)
    if site.scheduler in ("slurm", "pbs"):
        facts["submit"], facts["script"] = submit_script(made)
    return facts


def launch_command(made: Any) -> str:
    """What starts the workers of one node, with names in place of ports and keys."""
    made.cert_dir, made.logconf_path, made.worker_port = "RUN/certificates", None, "PORT"
    made.initialize_scaling()
    command = str(made.launch_cmd).replace(sys.executable, "python")
    return command.replace("{block_id}", "N")


def submit_script(made: Any) -> tuple[str, str]:
    """(command, job script) that Parsl would give to Slurm or PBS; nothing is submitted."""
    said: list[str] = []

    def caught(command: str, *_more: Any, **_named: Any) -> tuple[int, str, str]:
        said.append(command)
        return 0, "Submitted batch job 1", ""

    with tempfile.TemporaryDirectory() as folder:
        made.provider.script_dir = folder
        made.provider.execute_wait = caught
        made.provider.submit(made.launch_cmd.replace("{block_id}", "0"), 1, "petavox")
        script = next(p for p in Path(folder).iterdir() if p.is_file())
        text = script.read_text().replace(folder, "RUN/submit_scripts").strip()
    return " ".join(said[0].replace(folder, "RUN/submit_scripts").split()), text


def clock(seconds: float) -> str:
    """HH:MM:SS."""
    s = int(seconds)
    return f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}"


def _quoted(value: str) -> str:
    """A value for `export`: variables stay live, quotes do not break out."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`")
    return f'"{escaped}"'
