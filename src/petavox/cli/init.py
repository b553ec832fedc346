"""`petavox init`: describe a project, and check its data."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from petavox.cli.common import Figures, command
from petavox.errors import BadInput

app = typer.Typer(add_completion=False)


@app.command()
@command
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the project; made if need be.")],
    tiles: Annotated[str | None, typer.Option(help="Begin at a tile table.")] = None,
    sections: Annotated[
        str | None, typer.Option(help="Begin at a volume of sections that are not aligned.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="Begin at an aligned image volume.")] = None,
    mask: Annotated[
        str | None, typer.Option(help="Volume over the image: nonzero is not segmented.")
    ] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="nm, z y x: thickness of a section, pixel, pixel."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="Segmentation model (.safetensors), or shipped.")
    ] = "shipped",
    synapse_model: Annotated[
        str | None, typer.Option(help="Synapse model, or shipped; without one none are sought.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="True objects over the image, to score against.")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", "-w", min=0, help="Processes here.")] = 0,
    name: Annotated[str | None, typer.Option(help="Default: the folder's name.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace petavox.yaml, if there is one.")] = False,
) -> Figures:
    """Write FOLDER/petavox.yaml, with comments, and check that the data can be used.

    Without --tiles, --sections or --image it asks. Examples:

    petavox init cortex --tiles tiles.csv --voxel-size 40 4 4

    petavox init block --image image.zarr --model fib25.safetensors
    """
    from petavox.project import template

    data = {"tiles": tiles, "sections": sections, "image": image}
    if not any(data.values()):
        data, voxel_size = _asked(voxel_size)
    given = {k: template.from_here(folder, v) for k, v in (data | {"mask": mask}).items() if v}

    def place(path: str | None) -> str | None:
        return path if path in (None, "shipped") else template.from_here(folder, str(path))

    values: dict[str, Any] = {"name": name or folder.absolute().name}
    if voxel_size is not None:
        values["voxel_size"] = list(voxel_size)
    values |= {
        "input": given,
        "models": {"segmentation": place(model), "synapses": place(synapse_model)},
        "workers": workers,
        "stages": {"segment": template.blocks_for(data["image"], voxel_size)},
    }
    if labels is not None:
        values["truth"] = {"labels": place(labels)}
    project = template.make(folder, values, overwrite=overwrite)
    return {
        "project": str(project.file),
        "stages": [s.name for s in project.steps],
        "left_out": {k: v for k, v in project.left_out.items() if not v.startswith("off")},
        "next": f"petavox run {folder}",
    }


def _asked(
    voxel_size: tuple[float, float, float] | None,
) -> tuple[dict[str, str | None], tuple[float, float, float] | None]:
    """Ask where the run begins. Raises BadInput where nobody can answer."""
    if not _can_ask():
        raise BadInput("say where the run begins: --tiles, --sections or --image.")
    kinds = {"tiles": "a tile table", "sections": "sections not aligned", "image": "aligned volume"}
    listed = "; ".join(f"{k}: {v}" for k, v in kinds.items())
    kind = ""
    while kind not in kinds:
        kind = typer.prompt(f"Where does the run begin? ({listed})")
    path = typer.prompt("Path of it")
    if voxel_size is None and (kind == "tiles" or typer.confirm("Say the voxel size here?")):
        thickness = typer.prompt("Thickness of a section, nm", type=float)
        pixel = typer.prompt("Edge of a pixel, nm", type=float)
        voxel_size = (thickness, pixel, pixel)
    return {k: (path if k == kind else None) for k in kinds}, voxel_size


def _can_ask() -> bool:
    return sys.stdin.isatty()
