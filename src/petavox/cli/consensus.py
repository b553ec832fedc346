"""`petavox consensus`: what two segmentations of the same voxels both hold together."""

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
def consensus(
    a: Annotated[str, typer.Argument(help="Labels; the larger parts of its objects keep ids.")],
    b: Annotated[str, typer.Argument(help="Labels of the same voxels, made in another way.")],
    out: Annotated[Path, typer.Argument(help="Labels volume to make (OME-Zarr).")],
    min_size: Annotated[
        int | None, typer.Option(help="Voxels from which a pair of objects is kept [1000].")
    ] = None,
    block: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Voxels of one piece of work, z y x.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="YAML of ConsensusSettings; options here override it.")
    ] = None,
    workers: Workers = 0,
    site: SiteName = None,
    block_timeout: BlockTimeout = None,
    run: RunFolder = None,
    retry_quarantined: RetryQuarantined = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is at OUT.")] = False,
) -> Figures:
    """Keep together only what both A and B hold together; print the proof of counts.

    Mergers that one of the two made disappear; splits of either stay. A and B may be forward and
    reverse seed orders, two checkpoints or two resolutions; volumes, or labels of blocks. Example:

    petavox consensus forward.zarr reverse.zarr agreed.zarr --min-size 1000
    """
    from petavox.settings import parse, read_yaml_mapping
    from petavox.stages.consensus import ConsensusSettings, consensus_of

    values: dict[str, Any] = {} if settings is None else read_yaml_mapping(settings)
    values |= {k: v for k, v in {"min_size": min_size, "block": block}.items() if v is not None}
    request = parse(ConsensusSettings, values, str(settings) if settings else "the options")
    folder = run_folder(out, run)
    with running(folder, workers=workers, site=site, block_timeout=block_timeout) as how:
        return consensus_of(
            a,
            b,
            out,
            settings=request,
            overwrite=overwrite,
            retry_quarantined=retry_quarantined,
            **how,
        )
