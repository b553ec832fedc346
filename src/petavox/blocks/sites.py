"""Sites: where blocks run, as a small YAML, and the Parsl configuration made from it.

    petavox plan --site aurora --nodes 1024      # shows what would be started

What it is: the settings of a machine: scheduler, workers per node, accelerators, walltime. What it
is not: what Parsl makes of them (petavox.blocks.launching).

The sites that come with petavox are the YAML files in `site_files/`; a path to a file of your own
does as well.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from petavox.errors import BadInput
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
    logs: Literal["shared", "node"] = Field(
        "shared", description="workers' logs: in the run's folder, or in `scratch` on their node"
    )
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
        if self.logs == "node" and not self.scratch:
            raise ValueError("logs: node needs `scratch`, the folder on a node to keep them in")
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


def clock(seconds: float) -> str:
    """HH:MM:SS."""
    s = int(seconds)
    return f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}"
