"""`petavox report`: one HTML file about a project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def report(
    project: Annotated[Path, typer.Argument(help="Folder with petavox.yaml.")] = Path("."),
    out: Annotated[
        Path | None, typer.Option(help="The file; default: report.html in the project.")
    ] = None,
    subset: Annotated[
        str | None, typer.Option(help="Results of `petavox run --subset BOX`: z0:z1,y0:y1,x0:x1.")
    ] = None,
) -> Figures:
    """Write one HTML file with pictures, plots, scores and cost of a project.

    It needs no server and no internet, and works for a project that is not finished: it says what
    is missing. Numbers name the file they were read from.
    Example: petavox report cortex --out cortex.html
    """
    from petavox.errors import BadInput
    from petavox.project import load
    from petavox.space import Box
    from petavox.view import report as pages

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise BadInput(f"the report {out} must end in .html.")
    if out is not None and not out.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {out.absolute().parent} to write {out.name} into.")
    found = load(project, subset=None if subset is None else Box.parse(subset))
    return pages.write(found, out)
