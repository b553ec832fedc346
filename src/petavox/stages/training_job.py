"""Job scripts that train on many nodes, for Slurm and PBS.

What it is: a site (petavox.blocks.sites), a number of nodes and a command, filled into a template
of `job_templates/`. What it is not: a submission; the script is for a person to read and submit.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from petavox.blocks.sites import Site, clock, load
from petavox.errors import BadInput

TEMPLATES = Path(__file__).parent / "job_templates"
PORT = 29531


def tiles_per_device(site: Site) -> int:
    """Tiles with a rank each on one card; Intel cards of two tiles when shown flat."""
    flat = site.environment.get("ZE_FLAT_DEVICE_HIERARCHY", "").upper() == "FLAT"
    return 2 if site.accelerators.kind == "xpu" and flat else 1


def job_script(
    site_name: str | Path,
    nodes: int,
    *,
    settings: Path,
    out: Path,
    init: Path | None = None,
    options: Mapping[str, str | int | float | bool | None] | None = None,
) -> str:
    """The text of a job script that runs `petavox train` on `nodes` nodes of a site.

    options: further options of the command by name; they win over the site's. None and False are
    not written, True is a flag.
    Raises BadInput for a site without Slurm or PBS.
    """
    site = load(site_name)
    if site.scheduler not in ("slurm", "pbs"):
        raise BadInput(
            f"site {site.name} has the scheduler '{site.scheduler}': job scripts are for slurm and "
            "pbs. On one machine run `torchrun --nproc-per-node N -m petavox train ...`."
        )
    if nodes < 1:
        raise BadInput(f"--nodes is {nodes}; give at least 1.")
    kind = site.accelerators.kind
    ranks = site.accelerators.per_node if kind != "none" else 1
    device = {"none": "cpu", "rocm": "cuda"}.get(kind, kind)
    command = [site.python or sys.executable, "-m", "petavox", "train", str(settings)]
    of_site = {"out": str(out), "device": device, "tiles-per-device": tiles_per_device(site)}
    given = {k: v for k, v in (options or {}).items() if v is not None and v is not False}
    command += _words({**of_site, "init": init, **given})
    exports = "\n".join(f"export {k}={shlex.quote(v)}" for k, v in site.environment.items())
    template = (TEMPLATES / f"{site.scheduler}.sh").read_text()
    values = {
        "nodes": nodes,
        "ranks_per_node": ranks,
        "total_ranks": nodes * ranks,
        "threads": max(1, (site.cores_per_node or ranks) // ranks),
        "walltime": clock(site.walltime_s or 3600),
        "select": f":{site.select}" if site.select else "",
        "scheduler_lines": "\n".join(_lines(site, ranks)),
        "kind": "processors" if kind == "none" else kind,
        "setup": "\n".join(part for part in (site.setup.rstrip(), exports) if part),
        "port": PORT,
        "out": shlex.quote(str(out)),
        "command": shlex.join(command),
    }
    for name, value in values.items():
        template = template.replace(f"{{{name}}}", str(value))
    return template


def _words(options: Mapping[str, Any]) -> list[str]:
    """Options as words of a command line."""
    words: list[str] = []
    for name, value in options.items():
        if value is not None:
            words += [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return words


def _lines(site: Site, ranks: int) -> list[str]:
    """Lines for the scheduler: queue, account, devices, and what the site adds."""
    pbs = site.scheduler == "pbs"
    lines = []
    if site.queue:
        lines.append(f"#PBS -q {site.queue}" if pbs else f"#SBATCH --partition={site.queue}")
    if site.account:
        lines.append(f"#PBS -A {site.account}" if pbs else f"#SBATCH --account={site.account}")
    else:
        lines.append("##PBS -A ACCOUNT" if pbs else "##SBATCH --account=ACCOUNT")
    if not pbs and site.accelerators.kind != "none":
        lines.append(f"#SBATCH --gpus-per-node={ranks}")
    if not pbs and site.constraint:
        lines.append(f"#SBATCH --constraint={site.constraint}")
    lines += [x for x in site.options.splitlines() if x.strip()]
    return lines
