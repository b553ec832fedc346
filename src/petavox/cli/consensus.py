"""`petavox consensus`: what several segmentations of the same voxels hold together."""

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
    labels: Annotated[
        list[str],
        typer.Argument(help="Labels of the same voxels, made in different ways; two or more."),
    ],
    out: Annotated[Path, typer.Argument(help="Labels volume to make (OME-Zarr).")],
    min_size: Annotated[
        int | None, typer.Option(help="Voxels from which a part is kept [1000].")
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(help="Join parts that over this share of the segmentations hold together."),
    ] = None,
    least: Annotated[
        int | None, typer.Option(help="With --share: segmentations that must label a voxel [1].")
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
    """Make one segmentation from several of the same voxels; print the proof of counts.

    Two, without --share: the published oversegmentation consensus. Wherever one has a boundary so
    has OUT: mergers that one made disappear, splits of either stay. With --share: parts are joined
    that enough of the segmentations hold together, so that splits disappear too.
    LABELS may be forward and reverse seed orders, other steps (--deltas), checkpoints or
    resolutions; volumes, or labels of blocks. Examples:

    petavox consensus forward.zarr reverse.zarr agreed.zarr --min-size 1000

    petavox consensus one.zarr two.zarr three.zarr agreed.zarr --share 0.34 --least 2
    """
    from petavox.settings import parse, read_yaml_mapping
    from petavox.stages.consensus import consensus_of
    from petavox.stages.consensus_stages import ConsensusSettings

    values: dict[str, Any] = {} if settings is None else read_yaml_mapping(settings)
    given = {"min_size": min_size, "share": share, "least": least, "block": block}
    values |= {k: v for k, v in given.items() if v is not None}
    request = parse(ConsensusSettings, values, str(settings) if settings else "the options")
    folder = run_folder(out, run)
    with running(folder, workers=workers, site=site, block_timeout=block_timeout) as how:
        return consensus_of(
            labels,
            out,
            settings=request,
            overwrite=overwrite,
            retry_quarantined=retry_quarantined,
            **how,
        )
