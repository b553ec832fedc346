"""`petavox export`: a volume into a format for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: petavox export objects.zarr objects.h5/labels --format hdf5; "
    "petavox export image.zarr sections --format tiff --box 0:10,0:512,0:512"
)
@command
def export(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Volume, file, folder or URL.")],
    target: Annotated[
        str, typer.Argument(metavar="DST", help="file.h5/NAME, or the folder to make.")
    ],
    format: Annotated[str, typer.Option(help="hdf5, tiff, precomputed, ome-zarr or webknossos.")],
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Voxel size in nm, z y x; needed where the source does not say it."),
    ] = None,
    box: Annotated[
        str | None, typer.Option(help="Part to copy, z0:z1,y0:y1,x0:x1 in voxels; default all.")
    ] = None,
    resolution: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Take the level with this voxel size, nm, z y x; default the finest."),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="A wider type of whole numbers.")] = None,
    memory: Annotated[int, typer.Option(help="Memory for voxels on the way, in MB.")] = 1024,
    overwrite: Annotated[bool, typer.Option(help="Replace DST if it is there.")] = False,
) -> Figures:
    """Copy a volume, or a part of it, into HDF5, TIFF sections, precomputed or OME-Zarr."""
    from petavox.space import Box
    from petavox.volume import open, transfer

    return transfer.export_volume(
        open(source, voxel_size=voxel_size, resolution=resolution),
        target,
        format=format,
        box=None if box is None else Box.parse(box),
        dtype=dtype,
        memory_mb=memory,
        overwrite=overwrite,
    )
