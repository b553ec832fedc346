"""`petavox qc`: quality control of a stack of sections, before and after alignment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def qc(
    image: Annotated[str, typer.Argument(help="Image volume: a folder, a file, or FILE.h5/NAME.")],
    out: Annotated[Path, typer.Argument(help="Folder to write: tables, masks, pictures.")],
    aligned: Annotated[
        bool, typer.Option("--aligned", help="Neighbours lie on one another: compare them too.")
    ] = False,
    box: Annotated[str | None, typer.Option(help="Only this box: z0:z1,y0:y1,x0:x1.")] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML with settings of QcSettings (docs/quality.md).")
    ] = None,
    worst: Annotated[int | None, typer.Option(help="Worst pairs to draw.")] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="nm, z y x; for files that do not say."),
    ] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Memory of one process.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 is this one.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> Figures:
    """Judge every section: focus, contrast, damage; with --aligned also how neighbours agree.

    Example: petavox qc aligned.zarr qc --aligned --workers 4
    """
    from petavox.blocks import open_engine
    from petavox.settings import parse, read_yaml_mapping
    from petavox.stages import qc as stage
    from petavox.stages.qc_settings import QcSettings

    given = {} if settings is None else read_yaml_mapping(settings)
    options = {"box": box, "worst": worst, "memory_mb": memory_mb, "voxel_size": voxel_size}
    given |= {k: v for k, v in options.items() if v is not None}
    if aligned:
        given["aligned"] = True
    where = "the options of petavox qc" if settings is None else f"{settings} and the options"
    parsed = parse(QcSettings, given, where)
    with open_engine(workers=workers) as engine:
        return stage.run(image, out, parsed, engine=engine, overwrite=overwrite)
