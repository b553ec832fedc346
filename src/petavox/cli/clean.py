"""`petavox clean`: remove what a stage of a project made, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def clean(
    stage: Annotated[str, typer.Argument(help="The first stage whose outputs go.")],
    project: Annotated[Path, typer.Argument(help="Folder with petavox.yaml.")] = Path("."),
    subset: Annotated[str | None, typer.Option(help="Of a run of this box.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> Figures:
    """Remove the outputs of a stage and of all that read them; the next run makes them again.

    Only what the project's records say it made is removed. Example: petavox clean segment cortex
    """
    from petavox.errors import BadInput
    from petavox.project import cleaning, load
    from petavox.space import Box

    found = load(project, subset=None if subset is None else Box.parse(subset))
    steps = cleaning.following(found, stage)
    paths = [p for s in steps for p in cleaning.made_by(found, s)]
    if not paths:
        return {"removed": "nothing: it is not there"}
    if not yes:
        typer.echo("\n".join(str(p) for p in paths), err=True)
        if not typer.confirm("Remove these?", err=True):
            raise BadInput("nothing was removed; pass --yes to remove without a question.")
    cleaning.clean(found, steps)
    return {"stages": [s.name for s in steps], "removed": [p.name for p in paths]}
