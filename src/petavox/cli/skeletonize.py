"""`petavox skeletonize`: the skeletons of all objects of a label volume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def skeletonize(
    labels: Annotated[str, typer.Argument(help="Label volume: a folder, a file, or FILE.h5/NAME.")],
    out: Annotated[Path, typer.Argument(help="Folder of skeletons to write (precomputed).")],
    block: Annotated[
        tuple[int, int, int], typer.Option(help="Voxels of one piece of work, z y x.")
    ] = (128, 256, 256),
    box: Annotated[str | None, typer.Option(help="Only this box: z0:z1,y0:y1,x0:x1.")] = None,
    scale: Annotated[float, typer.Option(help="TEASAR: ball radius = scale * r + const.")] = 1.5,
    const_nm: Annotated[float, typer.Option(help="TEASAR: see --scale.")] = 300.0,
    dust_nm3: Annotated[
        float, typer.Option(help="Leave out connected parts of less volume than this.")
    ] = 1e7,
    tick_nm: Annotated[float, typer.Option(help="Remove end branches shorter than this.")] = 0.0,
    swc: Annotated[bool, typer.Option("--swc", help="Also write OUT/swc/ID.swc.")] = False,
    only: Annotated[list[int] | None, typer.Option(help="Only this id; may be repeated.")] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="nm, z y x; for files that do not say."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 is this one.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> Figures:
    """Make the skeleton of every object by TEASAR, with radius; needs petavox[skeletons].

    Example: petavox skeletonize labels.zarr skeletons --workers 4 --swc
    """
    from petavox.blocks import open_engine
    from petavox.settings import parse
    from petavox.stages import skeletonize as stage

    settings = parse(
        stage.SkeletonSettings,
        {
            "block": block,
            "box": box,
            "voxel_size": voxel_size,
            "only": only or None,
            "teasar": {"scale": scale, "const_nm": const_nm},
            "dust_nm3": dust_nm3,
            "tick_nm": tick_nm,
            "swc": swc,
        },
        "the options of petavox skeletonize",
    )
    with open_engine(workers=workers) as engine:
        return stage.run(labels, out, settings, engine=engine, overwrite=overwrite)
