"""`petavox segment`: flood one subvolume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from petavox.cli.common import Figures, command
from petavox.cli.running import (
    BlockTimeout,
    RetryQuarantined,
    RunFolder,
    SiteName,
    Workers,
    run_folder,
    running,
)
from petavox.errors import BadInput

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
    precision: Annotated[str | None, typer.Option(help="auto, f32, bf16 or int8.")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="peaks, peaks-2d, grid, fill, or points.")
    ] = None,
    points: Annotated[
        str | None, typer.Option(help="origins.json or CSV of z,y,x, for --seeds points.")
    ] = None,
    reverse: Annotated[bool, typer.Option(help="Try the seeds from last to first.")] = False,
    deltas: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Step of the field of view, z y x voxels; longer is faster [model's]."),
    ] = None,
    flip: Annotated[
        str | None,
        typer.Option(help="Axes to mirror while flooding, such as zx: another pass."),
    ] = None,
    earlier: Annotated[
        str | None, typer.Option(help="Labels of an earlier pass: obstacles, ids kept.")
    ] = None,
    mask: Annotated[str | None, typer.Option(help="Volume, nonzero where nothing may be.")] = None,
    seed_mask: Annotated[
        str | None, typer.Option(help="Volume, nonzero where no object may start.")
    ] = None,
    shift: Annotated[
        tuple[str, str] | None,
        typer.Option(help="Two volumes: displacement along y and x, from `petavox qc`."),
    ] = None,
    blocks: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Cut the volume into subvolumes of this shape, z y x voxels."),
    ] = None,
    context: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="Voxels around each block that are flooded too, z y x."),
    ] = None,
    lanes: Annotated[
        int | None, typer.Option(help="With --blocks: blocks that one worker floods at once.")
    ] = None,
    workers: Workers = 0,
    site: SiteName = None,
    block_timeout: BlockTimeout = None,
    run: RunFolder = None,
    retry_quarantined: RetryQuarantined = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is at OUT.")] = False,
) -> Figures:
    """Flood IMAGE into the labels OUT: one subvolume, or with --blocks many.

    With --blocks, OUT holds the labels of each block; `petavox reconcile` joins them.
    Interrupted, the same command goes on where it was. Examples:

    petavox segment block.h5/raw objects.zarr --model fib25.safetensors --box 0:128,0:128,0:128

    petavox segment image.zarr objects.blocks --model m.safetensors --blocks 256 256 256 -w 4
    """
    from petavox.settings import parse, read_yaml_mapping

    values: dict[str, Any] = {} if settings is None else read_yaml_mapping(settings)
    where = str(settings) if settings else "the options"
    order = dict(values.get("seeds") or {})
    if points is not None and seeds is None:
        seeds = "points"
    order |= ({"policy": seeds} if seeds else {}) | ({"reverse": True} if reverse else {})
    how_flooded = dict(values.get("flood") or {}) | ({"deltas": deltas} if deltas else {})
    how_flooded |= {"flip": flip} if flip else {}
    given: dict[str, Any] = {
        "box": box,
        "precision": precision,
        "seeds": order or None,
        "flood": how_flooded or None,
    }
    values |= {k: v for k, v in given.items() if v is not None}
    if blocks is None:
        from petavox.stages.segment import SegmentSettings, segment

        if workers or site or context or lanes:
            raise BadInput("--workers, --site, --context and --lanes need --blocks.")
        given = {
            "device": device,
            "points": points,
            "earlier": earlier,
            "mask": mask,
            "seed_mask": seed_mask,
            "shift": shift,
        }
        values |= {k: v for k, v in given.items() if v is not None}
        request = parse(SegmentSettings, values, where)
        return segment(image, out, model, request, voxel_size=voxel_size, overwrite=overwrite)

    from petavox.stages.blockwise_segment import BlockwiseSettings, segment_blocks

    if points is not None or earlier is not None or device is not None:
        raise BadInput(
            "--points, --earlier and --device do not go with --blocks: points and earlier objects "
            "belong to one subvolume, and devices to the site (--site)."
        )
    given = {"block": blocks, "context": context, "voxel_size": voxel_size, "lanes": lanes}
    values |= {k: v for k, v in given.items() if v is not None}
    cut = parse(BlockwiseSettings, values, where)
    restrict = {"mask": mask, "seed_mask": seed_mask}
    if shift is not None:
        restrict |= {"shift_y": shift[0], "shift_x": shift[1]}
    folder = run_folder(out, run)
    with running(folder, workers=workers, site=site, block_timeout=block_timeout) as how:
        done = segment_blocks(
            image,
            out,
            model=model,
            restrict={k: v for k, v in restrict.items() if v is not None},
            settings=cut,
            overwrite=overwrite,
            retry_quarantined=retry_quarantined,
            **how,
        )
        sums = how["ledger"].counters("segment-blocks")
        return (
            done.figures()
            | {k: int(sums[k]) for k in ("objects", "fovs", "leaks") if k in sums}
            | {"filled": sums["filled_voxels"] / sums["voxels"]}
            | {"next": f"petavox reconcile {out} FINAL"}
        )
