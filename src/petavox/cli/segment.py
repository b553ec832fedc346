"""`petavox segment`: flood one subvolume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def segment(
    image: Annotated[str, typer.Argument(help="Image volume (folder, block.h5/raw, URL).")],
    out: Annotated[Path, typer.Argument(help="Labels volume to make (OME-Zarr).")],
    model: Annotated[Path, typer.Option("--model", "-m", help="Model file (.safetensors).")],
    settings: Annotated[
        Path | None, typer.Option(help="YAML of SegmentSettings; options here override it.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="Subvolume, z0:z1,y0:y1,x0:x1.")] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None, typer.Option(help="nm, z y x, if the image has none.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, xpu, mps.")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, f32 or bf16.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="peaks, peaks-2d, grid, fill, or points.")
    ] = None,
    points: Annotated[
        str | None, typer.Option(help="origins.json or CSV of z,y,x, for --seeds points.")
    ] = None,
    reverse: Annotated[bool, typer.Option(help="Try the seeds from last to first.")] = False,
    earlier: Annotated[
        str | None, typer.Option(help="Labels of an earlier pass: obstacles, ids kept.")
    ] = None,
    mask: Annotated[str | None, typer.Option(help="Volume, nonzero where nothing may be.")] = None,
    seed_mask: Annotated[
        str | None, typer.Option(help="Volume, nonzero where no object may start.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what is at OUT.")] = False,
) -> Figures:
    """Flood one subvolume of IMAGE into the labels OUT.

    Interrupted, the same command goes on where it was. Example:

    petavox segment block.h5/raw objects.zarr --model fib25.safetensors --box 0:128,0:128,0:128
    """
    from petavox.settings import parse, read_yaml_mapping
    from petavox.stages.segment import SegmentSettings
    from petavox.stages.segment import segment as run

    values: dict[str, Any] = {} if settings is None else read_yaml_mapping(settings)
    given = {
        "box": box,
        "device": device,
        "precision": precision,
        "points": points,
        "earlier": earlier,
        "mask": mask,
        "seed_mask": seed_mask,
    }
    values |= {k: v for k, v in given.items() if v is not None}
    order = dict(values.get("seeds") or {})
    if points is not None and seeds is None:
        seeds = "points"
    order |= ({"policy": seeds} if seeds else {}) | ({"reverse": True} if reverse else {})
    if order:
        values["seeds"] = order
    request = parse(SegmentSettings, values, str(settings) if settings else "the options")
    return run(image, out, model, request, voxel_size=voxel_size, overwrite=overwrite)
