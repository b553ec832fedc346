"""`petavox check`: axes, offsets and units of volumes."""

from __future__ import annotations

from typing import Annotated

import typer

from petavox.cli.common import command, show

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: petavox check image.zarr objects.zarr; "
    "petavox check block.h5/raw --labels block.h5/masks"
)
@command
def check(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Volumes to check.")],
    labels: Annotated[
        list[str] | None,
        typer.Option(help="A labels volume, also if its type is that of an image; repeatable."),
    ] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Voxel size in nm, z y x; for files that do not say it."),
    ] = None,
    sample: Annotated[
        int, typer.Option(help="Voxels along each axis to read, from the middle.")
    ] = 256,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON object.")
    ] = False,
) -> None:
    """Check axes, offsets and units: the format, the voxel size, and labels against the image.

    The exit code is 1 if anything does not fit.
    """
    from petavox.errors import PetavoxError
    from petavox.volume.check import check

    report = check(paths, labels=labels or (), voxel_size=voxel_size, sample=sample)
    findings = [f"{'fits' if fits else 'WRONG'}: {text}" for fits, text in report.findings]
    if as_json:
        wrong = report.wrong
        show({**report.figures, "findings": findings, "wrong": len(wrong)}, as_json=True)
    else:
        show({str(i): text for i, text in enumerate(findings, 1)}, as_json=False)
    if report.wrong:
        raise PetavoxError(f"{len(report.wrong)} of {len(findings)} checks do not fit.")
