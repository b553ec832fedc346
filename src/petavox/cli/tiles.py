"""`petavox tiles`: a tile table from file names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def tiles(
    folder: Annotated[Path, typer.Argument(help="Folder of tile images.")],
    pattern: Annotated[
        str,
        typer.Option(help="Path below FOLDER with {column}, {row}, {section} and *."),
    ],
    pixel_size: Annotated[float, typer.Option(help="Edge of a pixel, nm.")],
    overlap: Annotated[
        float, typer.Option(help="Share of a tile's width that neighbours have in common.")
    ] = 0.1,
    overlap_rows: Annotated[
        float | None, typer.Option(help="The same for height, where it differs.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Table to write; default FOLDER/tiles.csv.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the table if it is there.")] = False,
) -> Figures:
    """Write the tile table of a folder whose file names say row and column.

    Example: petavox tiles block_a --pattern "col{column}_row{row}_*.tif" --pixel-size 8
    """
    from petavox.align import tiles as tables
    from petavox.errors import AlreadyExists, BadInput

    place = out or folder / "tiles.csv"
    if place.exists() and not overwrite:
        raise AlreadyExists(
            f"{place} is there already, and may have been edited; choose another name with --out, "
            "or pass --overwrite."
        )
    rows = overlap if overlap_rows is None else overlap_rows
    if not (0 <= overlap < 0.9 and 0 <= rows < 0.9):
        raise BadInput(f"overlap is {overlap}, {rows}: give shares between 0 and 0.9.")
    table = tables.from_pattern(folder, pattern, pixel_nm=pixel_size, overlap=(rows, overlap))
    table = tables.check(table, pixel_size)
    tables.write(place, table)
    return {"table": str(place), "tiles": len(table.tiles), "sections": len(table.sections)}
