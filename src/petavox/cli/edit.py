"""`petavox edit`: splits and merges by hand, on the graph beside an agglomerated volume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command
from petavox.cli.running import BlockTimeout, RunFolder, SiteName, Workers, run_folder, running

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Split and merge by hand.")

Out = Annotated[Path, typer.Argument(help="Labels made by `petavox agglomerate`.")]
_NAMED = "Id before agglomeration, or a voxel z,y,x in it."


@app.command()
@command
def merge(
    out: Out,
    a: Annotated[str, typer.Argument(help=_NAMED)],
    b: Annotated[str, typer.Argument(help=_NAMED)],
) -> Figures:
    """Join two objects.

    petavox edit merge neurons.zarr 17 42
    """
    from petavox.stages.edit import merge as go

    return go(out, a, b)


@app.command()
@command
def split(
    out: Out,
    these: Annotated[str, typer.Argument(help=f"{_NAMED} Several: joined by '+'.")],
    those: Annotated[str, typer.Argument(help="The same, for the other side.")],
) -> Figures:
    """Part an object by its weakest pairs between two sides (minimum cut).

    petavox edit split neurons.zarr 17+20 100,250,96
    """
    from petavox.stages.edit import split as go

    return go(out, these.split("+"), those.split("+"))


@app.command()
@command
def undo(out: Out) -> Figures:
    """Take back the last edit.

    petavox edit undo neurons.zarr
    """
    from petavox.stages.edit import undo as go

    return go(out)


@app.command()
@command
def log(out: Out) -> Figures:
    """List all edits, with those that were undone.

    petavox edit log neurons.zarr
    """
    from petavox.stages.edit import log as go

    return {str(e.pop("edit")): e for e in go(out)} or {"edits": 0}


@app.command()
@command
def mapping(
    out: Out,
    file: Annotated[Path, typer.Argument(help="Table to write, id and neuron: .csv, .parquet.")],
) -> Figures:
    """Write which neuron each object belongs to after all edits, for `petavox connectome`.

    petavox edit mapping neurons.zarr edits.csv
    """
    from petavox.stages.edit import mapping as go

    return go(out, file)


@app.command()
@command
def apply(
    out: Out,
    new: Annotated[Path, typer.Argument(help="Labels volume to make (OME-Zarr).")],
    block: Annotated[
        tuple[int, int, int], typer.Option(help="Voxels of one piece of work, z y x.")
    ] = (128, 128, 128),
    workers: Workers = 0,
    site: SiteName = None,
    block_timeout: BlockTimeout = None,
    run: RunFolder = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what is at NEW.")] = False,
) -> Figures:
    """Write the volume as it is after all edits.

    petavox edit apply neurons.zarr proofread.zarr
    """
    from petavox.stages.edit import apply as go

    folder = run_folder(new, run)
    with running(folder, workers=workers, site=site, block_timeout=block_timeout) as how:
        return go(out, new, block=block, overwrite=overwrite, **how)
