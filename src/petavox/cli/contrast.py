"""`petavox contrast`: even the contrast of a stack, section by section."""

from __future__ import annotations

from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def contrast(
    image: Annotated[str, typer.Argument(help="Image volume: a folder, a file, or FILE.h5/NAME.")],
    out: Annotated[str, typer.Argument(help="Volume to write (OME-Zarr).")],
    method: Annotated[str, typer.Option(help="normalize, or clahe.")] = "normalize",
    to: Annotated[
        str, typer.Option(help="normalize to: fixed (--low, --high), or neighbours (--window).")
    ] = "fixed",
    low: Annotated[float, typer.Option(help="Place of the 1st percentile, 0..1.")] = 0.12,
    high: Annotated[float, typer.Option(help="Place of the 99th percentile, 0..1.")] = 0.88,
    window: Annotated[int, typer.Option(help="Sections on either side that say what to be.")] = 10,
    tile: Annotated[int, typer.Option(help="clahe: side of a tile, px.")] = 256,
    clip: Annotated[float, typer.Option(help="clahe: 1 changes nothing, 4 is strong.")] = 2.0,
    strength: Annotated[float, typer.Option(help="clahe: share of the result, 0..1.")] = 1.0,
    box: Annotated[str | None, typer.Option(help="Only this box: z0:z1,y0:y1,x0:x1.")] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="nm, z y x; for files that do not say."),
    ] = None,
    memory_mb: Annotated[int, typer.Option(help="Memory of the process.")] = 1024,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> Figures:
    """Even the contrast of every section. Dark stays darker than bright; blank stays blank.

    Example: petavox contrast aligned.zarr even.zarr --method clahe
    """
    from petavox.settings import parse
    from petavox.stages import contrast as stage

    given = {
        "method": method,
        "to": to,
        "low": low,
        "high": high,
        "window": window,
        "tile": tile,
        "clip": clip,
        "strength": strength,
        "box": box,
        "voxel_size": voxel_size,
        "memory_mb": memory_mb,
    }
    settings = parse(stage.ContrastSettings, given, "the options of petavox contrast")
    return stage.run(image, out, settings, overwrite=overwrite)
