"""`petavox run`: a project, from its data to its connectome, or as far as it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command
from petavox.cli.running import BlockTimeout, RetryQuarantined

app = typer.Typer(add_completion=False)


@app.command()
@command
def run(
    project: Annotated[Path, typer.Argument(help="Folder with petavox.yaml.")] = Path("."),
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    only: Annotated[str | None, typer.Option(help="This stage alone.")] = None,
    subset: Annotated[
        str | None,
        typer.Option(help="Segment only this box, z0:z1,y0:y1,x0:x1, beside the rest."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", min=0, help="Processes here; 0: this one only."),
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", help="laptop, slurm, polaris, ... or a YAML.")
    ] = None,
    block_timeout: BlockTimeout = None,
    retry_quarantined: RetryQuarantined = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all, say what would be done and why; end.")
    ] = False,
) -> Figures:
    """Do every stage that is not done yet, or not with this code, these settings and these data.

    What matches is kept. Interrupted, the same command goes on where it was. Examples:

    petavox run cortex --workers 4

    petavox run cortex --until segment --subset 0:128,0:512,0:512
    """
    from petavox.project import load
    from petavox.project.driver import run as go
    from petavox.space import Box

    found = load(project, subset=None if subset is None else Box.parse(subset))
    done = go(
        found,
        until=until,
        only=only,
        workers=workers,
        site=site,
        dry_run=dry_run,
        block_timeout=block_timeout,
        retry_quarantined=retry_quarantined,
    )
    page = found.find("report")
    last = {} if dry_run or page is None else {"report": page}
    look = {} if dry_run else {"look_at_it": f"petavox view {project}"}
    return {"stages": done, **last, **look}
