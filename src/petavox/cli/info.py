"""`petavox info`: what a volume is."""

from __future__ import annotations

from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: petavox info image.zarr; petavox info block.h5")
@command
def info(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Volume, file, folder or URL.")],
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Voxel size in nm, z y x; for files that do not say it."),
    ] = None,
) -> Figures:
    """Box, voxel size, type, levels, state, provenance of a volume; data sets of an HDF5 file."""
    from petavox.volume.about import about

    return about(path, voxel_size=voxel_size)
