"""`petavox synapses`: clefts, partners and mitochondria of an image."""

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
def synapses(
    image: Annotated[str, typer.Argument(help="Image volume (folder, block.h5/raw, URL).")],
    segmentation: Annotated[
        str, typer.Argument(help="Label volume of the neurons; `none`: clefts without partners.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder to make: table, clefts, mitochondria.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Model file (.safetensors), or `shipped`.")
    ] = "shipped",
    settings: Annotated[
        Path | None, typer.Option(help="YAML of SynapseSettings; options here override it.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="Only this box, z0:z1,y0:y1,x0:x1.")] = None,
    block: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Voxels of one piece of work, z y x.")
    ] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None, typer.Option(help="nm, z y x, if the image has none.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability of a cleft's voxel.")] = None,
    precision: Annotated[str | None, typer.Option(help="f32 or bf16.")] = None,
    workers: Workers = 0,
    site: SiteName = None,
    block_timeout: BlockTimeout = None,
    run: RunFolder = None,
    retry_quarantined: RetryQuarantined = False,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> Figures:
    """Find the synapses of IMAGE and which objects of SEGMENTATION they join.

    Interrupted, the same command goes on where it was; with another segmentation only the partners
    are found anew. Example:

    petavox synapses image.zarr neurons.zarr synapses --model synapses.safetensors
    """
    from petavox.settings import parse, read_yaml_mapping
    from petavox.stages.synapses import SynapseSettings, find_synapses

    values: dict[str, Any] = {} if settings is None else read_yaml_mapping(settings)
    given = {
        "box": box,
        "block": block,
        "voxel_size": voxel_size,
        "threshold": threshold,
        "precision": precision,
    }
    values |= {k: v for k, v in given.items() if v is not None}
    request = parse(SynapseSettings, values, str(settings) if settings else "the options")
    if model == "shipped":
        from petavox.synapse.shipped import MODEL

        model = str(MODEL)
    with running(
        run_folder(out, run), workers=workers, site=site, block_timeout=block_timeout
    ) as how:
        done = find_synapses(
            image,
            None if segmentation == "none" else segmentation,
            out,
            model=model,
            settings=request,
            overwrite=overwrite,
            retry_quarantined=retry_quarantined,
            **how,
        )
    wiring = f"petavox connectome WIRING --labels {segmentation} --synapses {out}/synapses.parquet"
    return done if segmentation == "none" else done | {"next": wiring}
