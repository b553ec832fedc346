"""`petavox align`: sections to fields that align them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def align(
    sections: Annotated[str, typer.Argument(help="Folder of petavox stitch, or an image volume.")],
    out: Annotated[Path, typer.Argument(help="Folder to write: fields, tables, report.")],
    match_mask: Annotated[
        str | None, typer.Option(help="Volume, non-zero where matches may lie.")
    ] = None,
    fixed: Annotated[
        Path | None, typer.Option(help="An older OUT: its sections stay as they are.")
    ] = None,
    landmarks: Annotated[
        Path | None, typer.Option(help="CSV: a,ay_nm,ax_nm,b,by_nm,bx_nm.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML with settings (docs/alignment.md).")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Pairs done at once in a process.")] = None,
    memory_mb: Annotated[int | None, typer.Option(help="Sections held in memory.")] = None,
    workers: Annotated[int, typer.Option(help="Processes that match; 0 is this one.")] = 0,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, xpu, mps.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> Figures:
    """Find the field of every section that brings it into one volume.

    A run that was stopped goes on from OUT.run when it is started again.

    Example: petavox align stitched aligned
    """
    from petavox.blocks import open_engine
    from petavox.settings import parse, read_yaml_mapping
    from petavox.stages import align as stage

    given = {} if settings is None else read_yaml_mapping(settings)
    options = {"threads": threads, "memory_mb": memory_mb, "device": device}
    given |= {k: v for k, v in options.items() if v is not None}
    parsed = parse(stage.AlignStageSettings, given, "the options of petavox align")
    with open_engine(workers=workers) as engine:
        return stage.run(
            sections,
            out,
            parsed,
            matches=match_mask,
            fixed=fixed,
            landmarks=landmarks,
            engine=engine,
            overwrite=overwrite,
        )
