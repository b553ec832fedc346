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
    by: Annotated[
        str,
        typer.Option(help="Order: bits (what a look is expected to gain), or chance of an error."),
    ] = "bits",
    overwrite: Annotated[bool, typer.Option(help="Replace what is at TABLE.")] = False,
) -> Figures:
    """List likely splits and mergers with place, chance and what is at stake, worst first.

    The column `show` holds the command that opens each place. Example:

    petavox suspects neurons.zarr suspects.csv --top 50
    """
    from petavox.errors import BadInput
    from petavox.stages.suspects import write_suspects

    if by not in ("bits", "chance"):
        raise BadInput(f"--by {by}: the list is ordered by bits or by chance.")
    return write_suspects(out, table, top=top, by=by, overwrite=overwrite)  # type: ignore[arg-type]
