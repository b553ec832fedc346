"""`petavox phantom`: synthetic tissue with exact truth.

What it is: the command's options. What it is not: the tissue (petavox.phantom).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    shape: Annotated[tuple[int, int, int], typer.Option(help="Voxels, z y x.")] = (128, 256, 256),
    offset: Annotated[
        tuple[int, int, int], typer.Option(help="First voxel, z y x: another part of the world.")
    ] = (0, 0, 0),
    voxel_size: Annotated[
        tuple[float, float, float], typer.Option(help="Voxel size in nm, z y x.")
    ] = (8.0, 8.0, 8.0),
    seed: Annotated[int, typer.Option(help="The world.")] = 1,
    look: Annotated[
        str, typer.Option(help="fib-sem, serial-section or x-ray (16 bit).")
    ] = "fib-sem",
    grain: Annotated[
        float, typer.Option(help="nm between fine neurites: larger makes larger profiles.")
    ] = 190.0,
    scale: Annotated[
        float, typer.Option(help="Enlarge all of the tissue, organelles included.")
    ] = 1.0,
    synapse_density: Annotated[
        float, typer.Option(help="Share of boutons that have a synapse.")
    ] = 0.12,
    soma: Annotated[
        float, typer.Option(help="Radius in nm of a soma in the middle; 0: none.")
    ] = 0.0,
    vessel: Annotated[float, typer.Option(help="Radius in nm of a vessel along z; 0: none.")] = 0.0,
    swc: Annotated[bool, typer.Option("--swc", help="Also write an SWC file per neurite.")] = False,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> Figures:
    """Make synthetic neuropil with exact truth: image, labels, synapses, skeletons, connectome.

    Example: petavox phantom tissue --shape 128 256 256 --voxel-size 8 8 8 --seed 7
    """
    from petavox.settings import parse
    from petavox.stages.phantom import PhantomSettings, write

    settings = parse(
        PhantomSettings,
        {
            "shape": shape,
            "offset": offset,
            "voxel_size": voxel_size,
            "seed": seed,
            "look": look,
            "grain": grain,
            "scale": scale,
            "synapse_density": synapse_density,
            "soma": soma,
            "vessel": vessel,
        },
        "the options of petavox phantom",
    )
    return write(out, settings, workers=workers, swc=swc, overwrite=overwrite)
