"""`petavox stitch`: tiles to sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def stitch(
    table: Annotated[
        Path, typer.Argument(help="Tile table (CSV, TSV), FEABAS coordinate file or folder.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    pixel_size: Annotated[
        float | None, typer.Option(help="Edge of a pixel, nm; FEABAS files say it.")
    ] = None,
    thickness: Annotated[float | None, typer.Option(help="Section thickness, nm.")] = None,
    search: Annotated[int | None, typer.Option(help="Error of stage positions, pixels.")] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML with settings (docs/alignment.md).")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Pairs and blocks done at once.")] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Tiles held in memory.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, xpu, mps.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> Figures:
    """Stitch the tiles of every section into one volume of sections.

    Example: petavox stitch tiles.csv stitched --pixel-size 4 --thickness 40
    """
    from petavox.settings import parse, read_yaml_mapping
    from petavox.stages import stitch as stage

    given = {} if settings is None else read_yaml_mapping(settings)
    options = {
        "pixel_nm": pixel_size,
        "thickness_nm": thickness,
        "threads": threads,
        "memory_mb": memory_mb,
        "device": device,
    }
    given |= {k: v for k, v in options.items() if v is not None}
    if search is not None:
        given["match"] = {**given.get("match", {}), "search_px": search}
    parsed = parse(stage.StitchStageSettings, given, "the options of petavox stitch")
    return stage.run(table, out, parsed, overwrite=overwrite)
