"""`petavox render`: aligned sections to a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def render(
    sections: Annotated[str, typer.Argument(help="Folder of petavox stitch, or an image volume.")],
    aligned: Annotated[Path, typer.Argument(help="Folder of petavox align, or an npz of fields.")],
    out: Annotated[Path, typer.Argument(help="Volume to write (OME-Zarr).")],
    box: Annotated[str | None, typer.Option(help="Only this box: z0:z1,y0:y1,x0:x1.")] = None,
    render_mask: Annotated[
        str | None, typer.Option(help="Volume, 0 where pixels are not to be shown.")
    ] = None,
    fill_missing: Annotated[
        bool, typer.Option(help="Show the nearest section in place of a missing one.")
    ] = False,
    fill_gaps: Annotated[
        int | None,
        typer.Option(help="Where a section has no image, show one at most this many away."),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML with settings (docs/alignment.md).")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Shards rendered at once.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, xpu, mps.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> Figures:
    """Render the sections through their fields into one volume.

    Example: petavox render stitched aligned volume.zarr
    """
    from petavox.settings import parse, read_yaml_mapping
    from petavox.stages import render as stage

    given = {} if settings is None else read_yaml_mapping(settings)
    options = {
        "box": box,
        "threads": threads,
        "device": device,
        "fill_missing": fill_missing or None,
        "fill_gaps": fill_gaps,
    }
    given |= {k: v for k, v in options.items() if v is not None}
    parsed = parse(stage.RenderSettings, given, "the options of petavox render")
    return stage.run(sections, aligned, out, parsed, render_mask=render_mask, overwrite=overwrite)
