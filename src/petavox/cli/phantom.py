"""`petavox phantom`: synthetic tissue with exact truth.

What it is: the command's options. What it is not: the tissue (petavox.phantom).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command
from petavox.errors import BadInput

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
    ] = 165.0,
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
    tiles: Annotated[
        bool, typer.Option("--tiles", help="Make tiles of sections instead of volumes.")
    ] = False,
    damage: Annotated[
        bool,
        typer.Option(
            "--damage", help="Tiles: one of each kind of damage, and three grains of dust."
        ),
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Tiles: a setting as key=value, such as sections=8, grid=[3,3], tile=[900,900], "
            "folds=2, rotation=5; see docs/phantom.md.",
        ),
    ] = None,
    swc: Annotated[bool, typer.Option("--swc", help="Also write an SWC file per neurite.")] = False,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> Figures:
    """Make synthetic neuropil with exact truth: image, labels, synapses, skeletons, connectome.

    Example: petavox phantom tissue --shape 128 256 256 --voxel-size 8 8 8 --seed 7

    Tiles: petavox phantom tiles --tiles --damage --seed 7 --set sections=6 --set grid=[2,2]
    """
    if tiles:
        return _tiles(out, seed, set_ or [], damage=damage, overwrite=overwrite)
    if damage or set_:
        raise BadInput("--damage and --set are options of tiles: add --tiles.")
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


def _tiles(out: Path, seed: int, given: list[str], *, damage: bool, overwrite: bool) -> Figures:
    import yaml

    from petavox.phantom.tile_settings import TileSettings
    from petavox.settings import parse
    from petavox.stages.phantom_tiles import write_tiles

    values: dict[str, object] = {"seed": seed}
    for text in given:
        key, sign, value = text.partition("=")
        if not sign:
            raise BadInput(f"--set {text} is not of the form key=value, such as sections=8.")
        try:
            values[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise BadInput(
                f"--set {text}: the value cannot be read; write it as in YAML."
            ) from None
    settings = parse(TileSettings, values, "--set")
    return write_tiles(out, settings.with_damage() if damage else settings, overwrite=overwrite)
