"""`petavox reconcile`: one segmentation from blocks segmented each by itself."""

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

app = typer.Typer(add_completion=False)


@app.command()
@command
def reconcile(
    objects: Annotated[Path, typer.Argument(help="Labels of blocks, or a volume cut in blocks.")],
    out: Annotated[Path, typer.Argument(help="Labels volume to make (OME-Zarr).")],
    block: Annotated[
        tuple[int, int, int] | None,
        typer.Option(help="For one volume: the blocks it was segmented in, z y x."),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML of ReconcileSettings; options here override it.")
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="Overlap over the smaller object, from which they join.")
    ] = None,
    min_overlap: Annotated[int | None, typer.Option(help="Voxels that must overlap.")] = None,
    min_contact: Annotated[
        int | None, typer.Option(help="Voxels from which an object counts as reaching a face.")
    ] = None,
    workers: Workers = 0,
    site: SiteName = None,
    block_timeout: BlockTimeout = None,
    run: RunFolder = None,
    retry_quarantined: RetryQuarantined = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is at OUT.")] = False,
) -> Figures:
    """Join the objects of neighbouring blocks, write OUT, print the proof.

    Interrupted, the same command goes on where it was. Example:

    petavox reconcile objects.blocks segmentation.zarr --workers 2
    """
    from petavox.settings import parse, read_yaml_mapping
    from petavox.stages.reconcile import ReconcileSettings
    from petavox.stages.reconcile import reconcile as go

    values: dict[str, Any] = {} if settings is None else read_yaml_mapping(settings)
    given = {
        "block": block,
        "share": share,
        "min_overlap": min_overlap,
        "min_contact": min_contact,
    }
    values |= {k: v for k, v in given.items() if v is not None}
    request = parse(ReconcileSettings, values, str(settings) if settings else "the options")
    folder = run_folder(out, run)
    with running(folder, workers=workers, site=site, block_timeout=block_timeout) as how:
        return go(
            objects,
            out,
            settings=request,
            overwrite=overwrite,
            retry_quarantined=retry_quarantined,
            **how,
        )
