"""`petavox export`: a volume into a format for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from petavox.cli.common import Figures, command
from petavox.errors import BadInput

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
    format: Annotated[
        str, typer.Option(help="hdf5, tiff, precomputed, ome-zarr, webknossos or pychunkedgraph.")
    ],
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
    chunk: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="pychunkedgraph: voxels of a chunk, z y x [128 256 256]."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace DST if it is there.")] = False,
) -> Figures:
    """Copy a volume, or a part of it, into a format for other programs.

    HDF5, TIFF sections, precomputed, OME-Zarr, or DATASET/LAYER of webKnossos; pychunkedgraph: the
    graph of labels made by `petavox agglomerate`, to be ingested.
    """
    if format == "pychunkedgraph":
        return _graph(source, target, chunk, (voxel_size, box, resolution, dtype), overwrite)
    if chunk is not None:
        raise BadInput("--chunk belongs to --format pychunkedgraph.")
    from petavox.space import Box
    from petavox.volume import export, open

    return export.export_volume(
        open(source, voxel_size=voxel_size, resolution=resolution),
        target,
        format=format,
        box=None if box is None else Box.parse(box),
        dtype=dtype,
        memory_mb=memory,
        overwrite=overwrite,
    )


def _graph(
    source: str,
    target: str,
    chunk: tuple[int, int, int] | None,
    others: tuple[object, ...],
    overwrite: bool,
) -> Figures:
    from petavox.settings import parse
    from petavox.stages.chunkedgraph import ChunkedGraphSettings, export

    if any(o is not None for o in others):
        raise BadInput(
            "a graph is exported whole: leave out --voxel-size, --box, --resolution and --dtype."
        )
    given = {} if chunk is None else {"chunk": chunk}
    return export(
        source, target, parse(ChunkedGraphSettings, given, "the options"), overwrite=overwrite
    )
