"""`petavox doctor`: this machine as petavox sees it, and whether a project can run on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)

LIBRARIES = ("numpy", "torch", "tensorstore", "parsl", "pyarrow", "scipy", "pydantic")
EXTRAS = {
    "neuroglancer": "views: petavox[view]",
    "kimimaro": "skeletons: petavox[skeletons]",
    "matplotlib": "plots: petavox[plots]",
    "tensorboard": "training curves: petavox[tensorboard]",
}


@app.command()
@command
def doctor(
    place: Annotated[
        Path, typer.Argument(help="A project, or a folder whose disk is looked at.")
    ] = Path("."),
) -> Figures:
    """Show processors, memory, devices, versions, disk, sites; check the project that is here.

    Example: petavox doctor cortex
    """
    from petavox.project import FILE

    figures: dict[str, Any] = {
        "machine": _machine(),
        "devices": _devices(),
        "versions": _versions(),
        "extras": {
            name: _version(name) or f"not installed ({why})" for name, why in EXTRAS.items()
        },
        "disk": _disk(place),
        "sites": _sites(),
    }
    if (place / FILE).is_file() or place.name == FILE:
        figures["project"] = _project(place)
    return figures


def _machine() -> dict[str, Any]:
    from petavox.blocks.plan import memory_available

    free = memory_available()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_usable": usable,
        "memory_free_gib": None if free is None else round(free / 2**30, 1),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.partition(":")[2].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _devices() -> dict[str, Any]:
    import torch

    found: dict[str, Any] = {"cpu": f"{torch.get_num_threads()} threads"}
    for kind in ("cuda", "xpu"):
        api = getattr(torch, kind, None)
        if api is not None and api.is_available():
            for n in range(api.device_count()):
                size = api.get_device_properties(n).total_memory / 2**30
                found[f"{kind}:{n}"] = f"{api.get_device_name(n)}, {size:.0f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple"
    return found


def _versions() -> dict[str, str]:
    import petavox

    known = {name: _version(name) or "not installed" for name in LIBRARIES}
    return {"petavox": petavox.__version__, "python": sys.version.split()[0], **known}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _disk(place: Path) -> dict[str, Any]:
    from petavox.errors import BadInput

    folder = place if place.is_dir() else place.parent
    try:
        usage = shutil.disk_usage(folder)
    except OSError as e:
        raise BadInput(f"there is no folder {folder} to look at: {e.strerror}.") from None
    return {
        "folder": str(folder.absolute()),
        "free_gib": round(usage.free / 2**30, 1),
        "size_gib": round(usage.total / 2**30, 1),
        "writable": os.access(folder, os.W_OK),
    }


def _sites() -> dict[str, str]:
    from petavox.blocks import sites

    tools = {"slurm": "sbatch", "pbs": "qsub", "kubernetes": "kubectl"}
    found = {}
    for name in sites.names():
        scheduler = sites.load(name).scheduler
        tool = tools.get(scheduler)
        there = tool is None or shutil.which(tool) is not None
        found[name] = scheduler if there else f"{scheduler}: there is no {tool} here"
    return found


def _project(place: Path) -> str:
    from petavox.errors import PetavoxError
    from petavox.project import checks, load

    try:
        project = load(place)
        checks.check(project)
    except PetavoxError as e:
        return f"cannot run: {e}"
    return f"{project.name}: can run {', '.join(s.name for s in project.steps)}"
