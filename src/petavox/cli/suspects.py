"""`petavox suspects`: where an agglomeration is most likely wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def suspects(
    out: Annotated[Path, typer.Argument(help="Labels made by `petavox agglomerate`.")],
    table: Annotated[Path, typer.Argument(help="Table to make (.csv or .parquet).")],
    top: Annotated[int | None, typer.Option(min=1, help="Only so many, the worst first.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what is at TABLE.")] = False,
) -> Figures:
    """List likely splits and mergers with place, chance and the volume at stake, worst first.

    The column `show` holds the command that opens each place. Example:

    petavox suspects neurons.zarr suspects.csv --top 50
    """
    from petavox.stages.suspects import write_suspects

    return write_suspects(out, table, top=top, overwrite=overwrite)
