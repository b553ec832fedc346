"""What commands that run blocks share: workers, site, limits, the ledger and the engine.

What it is: option types and one context manager. What it is not: a command.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

Workers = Annotated[
    int, typer.Option("--workers", "-w", min=0, help="Processes on this machine; 0: this one only.")
]
SiteName = Annotated[
    str | None, typer.Option("--site", help="laptop, workstation, slurm, polaris, ... or a YAML.")
]
BlockTimeout = Annotated[
    float | None, typer.Option(help="Seconds one block may take; then its worker is ended.")
]
RunFolder = Annotated[
    Path | None, typer.Option(help="Where the ledger is kept; default OUT.run beside OUT.")
]
RetryQuarantined = Annotated[bool, typer.Option(help="Try blocks again that killed their workers.")]


def run_folder(out: Path, given: Path | None) -> Path:
    """The folder of an output's ledger."""
    return given or out.with_name(out.name + ".run")


@contextmanager
def running(
    folder: Path, *, workers: int = 0, site: str | None = None, block_timeout: float | None = None
) -> Iterator[dict[str, Any]]:
    """The ledger, engine and limits as keyword arguments of a stage's function.

    A command that is refused before any of its work was planned leaves no folder behind, if there
    was none before.
    """
    from petavox.blocks import Ledger, Limits, open_engine
    from petavox.errors import BadInput

    fresh, held, planned = not folder.exists(), False, False
    try:
        with Ledger(folder / "ledger.db") as ledger:
            held = True  # else another command, started at the same time, works in it
            try:
                with open_engine(workers=workers or None, site=site, folder=folder) as engine:
                    limits = Limits(timeout_s=block_timeout)
                    yield {"ledger": ledger, "engine": engine, "limits": limits}
            finally:
                planned = bool(ledger.tasks())
    except BadInput:
        if fresh and held and not planned:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def find_ledger(place: Path) -> Path:
    """The ledger of a project, of a run's folder, or beside an output."""
    from petavox.errors import BadInput

    folder = place.parent if place.name == "petavox.yaml" else place
    tried = [place, place / "ledger.db", folder / "run" / "ledger.db"]
    tried.append(place.with_name(place.name + ".run") / "ledger.db")
    for path in tried:
        if path.is_file() and path.suffix == ".db":
            return path
    raise BadInput(
        f"there is no ledger at {place}: give a project, a folder with ledger.db, or the output "
        "of a blockwise command."
    )


def find_ledgers(place: Path) -> list[Path]:
    """Where blocks of a project were measured: its ledger, and of its subsets, the newest first.

    Of what is no project, its one ledger. May be empty for a project.
    """
    folder = place.parent if place.name == "petavox.yaml" else place
    if not (folder / "petavox.yaml").is_file():
        return [find_ledger(place)]
    run = folder / "run"
    subsets = sorted(run.glob("subset/*/ledger.db"), key=lambda path: -path.stat().st_mtime)
    return [path for path in (run / "ledger.db", *subsets) if path.is_file()]
