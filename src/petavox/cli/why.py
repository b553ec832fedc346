"""`petavox why`: what made one object."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def why(
    out: Annotated[Path, typer.Argument(help="Labels made by `petavox agglomerate`.")],
    number: Annotated[int, typer.Argument(metavar="ID", help="Id of the object.")],
) -> Figures:
    """Show the seeds, blocks, network, scores, merges and edits that made an object. Example:

    petavox why neurons.zarr 17
    """
    from petavox.stages.why import why as go

    return go(out, number)
