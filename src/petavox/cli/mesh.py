"""`petavox mesh`: the surfaces of all objects of a label volume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def mesh(
    labels: Annotated[str, typer.Argument(help="Label volume: a folder, a file, or FILE.h5/NAME.")],
    out: Annotated[Path, typer.Argument(help="Folder of meshes to write (precomputed, sharded).")],
    block: Annotated[
        tuple[int, int, int], typer.Option(help="Voxels of one piece of work, z y x.")
    ] = (256, 256, 256),
    box: Annotated[str | None, typer.Option(help="Only this box: z0:z1,y0:y1,x0:x1.")] = None,
    error_nm: Annotated[
        float | None,
        typer.Option(
            help="How far vertices of the finest level may move; default: the longest voxel edge."
        ),
    ] = None,
    levels: Annotated[int, typer.Option(help="Most levels of detail of an object.")] = 4,
    most_faces: Annotated[
        int, typer.Option(help="Objects of more faces are made coarser first, to save memory.")
    ] = 8_000_000,
    open_border: Annotated[
        bool, typer.Option(help="Leave surfaces open where the volume ends.")
    ] = False,
    only: Annotated[list[int] | None, typer.Option(help="Only this id; may be repeated.")] = None,
    export: Annotated[
        str | None, typer.Option(help="Also write each object: obj, ply or glb.")
    ] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="nm, z y x; for files that do not say."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 is this one.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> Figures:
    """Make the mesh of every object: closed, simplified, in levels of detail, for Neuroglancer.

    Example: petavox mesh labels.zarr meshes --workers 4
    """
    from petavox.blocks import open_engine
    from petavox.settings import parse
    from petavox.stages import mesh as stage

    settings = parse(
        stage.MeshSettings,
        {
            "block": block,
            "box": box,
            "voxel_size": voxel_size,
            "only": only or None,
            "error_nm": error_nm,
            "levels": levels,
            "most_faces": most_faces,
            "close_border": not open_border,
            "export": export,
        },
        "the options of petavox mesh",
    )
    with open_engine(workers=workers) as engine:
        return stage.run(labels, out, settings, engine=engine, overwrite=overwrite)
