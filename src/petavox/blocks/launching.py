"""What Parsl is given to start the workers of a site: provider, executor, commands, job script.

What it is: the one place that makes Parsl's objects from a site, and their showing as text for
`petavox plan`. What it is not: the settings (petavox.blocks.sites), or a start of anything.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from petavox.blocks.sites import Site, clock
from petavox.errors import MissingExtra


def provider(site: Site) -> Any:
    """Parsl's provider: who starts the pools of workers."""
    from parsl.launchers import MpiExecLauncher, SimpleLauncher, SingleNodeLauncher, SrunLauncher
    from parsl.providers import LocalProvider, PBSProProvider, SlurmProvider

    exports = "\n".join(f"export {k}={_quoted(v)}" for k, v in site.environment.items())
    began = "" if site.walltime_s is None else "export PETAVOX_JOB_BEGAN=$(date +%s)"
    setup = "\n".join(part for part in (began, site.setup.rstrip(), exports) if part)
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
    pool = "-m petavox.blocks.pool"
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
        worker_logdir_root=site.scratch if site.logs == "node" else str(run_dir),
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


def _quoted(value: str) -> str:
    """A value for `export`: variables stay live, quotes do not break out."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("`", "\\`")
    return f'"{escaped}"'
