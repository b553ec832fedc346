"""`petavox import`: a volume of any format into OME-Zarr or precomputed."""

from __future__ import annotations

from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: petavox import sections/ image.zarr --voxel-size 40 4 4; "
    "petavox import block.h5/labels objects.zarr --kind labels --dtype uint64"
)
@command
def import_(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Volume, file, folder or URL.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Volume to make.")],
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Voxel size in nm, z y x; needed where the source does not say it."),
    ] = None,
    box: Annotated[
        str | None, typer.Option(help="Part to copy, z0:z1,y0:y1,x0:x1 in voxels; default all.")
    ] = None,
    format: Annotated[str, typer.Option(help="ome-zarr or precomputed.")] = "ome-zarr",
    kind: Annotated[
        str | None, typer.Option(help="image or labels; default what the source says.")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="A wider type of whole numbers, such as uint64 for labels.")
    ] = None,
    chunk: Annotated[
        tuple[int, int, int], typer.Option(help="Voxels read as one piece, z y x.")
    ] = (64, 64, 64),
    shard: Annotated[
        tuple[int, int, int], typer.Option(help="Voxels in one file, z y x: one writer's piece.")
    ] = (512, 512, 512),
    memory: Annotated[int, typer.Option(help="Memory for voxels on the way, in MB.")] = 1024,
    pyramid: Annotated[bool, typer.Option(help="Make the coarser levels too.")] = True,
    overwrite: Annotated[bool, typer.Option(help="Replace DST if it is there.")] = False,
) -> Figures:
    """Copy a volume into OME-Zarr or precomputed, with a pyramid.

    SRC: OME-Zarr, zarr, N5, precomputed, an HDF5 data set (file.h5/name), MRC, or a folder of
    TIFF, PNG or JPEG sections. Nothing is rescaled; the voxel size is never guessed.
    """
    from petavox.space import Box
    from petavox.volume import open, transfer

    return transfer.import_volume(
        open(source, voxel_size=voxel_size),
        target,
        box=None if box is None else Box.parse(box),
        kind=kind,
        dtype=dtype,
        format=format,
        chunk=chunk,
        shard=shard,
        memory_mb=memory,
        pyramid_too=pyramid,
        overwrite=overwrite,
    )
