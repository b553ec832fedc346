"""`petavox score`: a segmentation against a truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command
from petavox.errors import AlreadyExists, BadInput

app = typer.Typer(add_completion=False)


@app.command()
@command
def score(
    result: Annotated[str, typer.Argument(help="Volume of objects, such as out.zarr.")],
    truth: Annotated[
        str | None, typer.Argument(help="Volume of true bodies, such as block.h5/labels.")
    ] = None,
    box: Annotated[str | None, typer.Option(help="Only these voxels: z0:z1,y0:y1,x0:x1.")] = None,
    intersect: Annotated[
        bool, typer.Option("--intersect", help="If the boxes differ, score where both are.")
    ] = False,
    where: Annotated[
        str | None, typer.Option(help="Count only voxels where this volume is above 0.")
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            help="The tolerant scores ignore voxels within this many voxels of a truth boundary; "
            "0: leave them out."
        ),
    ] = 2.0,
    oracle: Annotated[
        bool,
        typer.Option("--oracle", help="Also the floor: every object given to its majority body."),
    ] = False,
    large: Annotated[
        int, typer.Option(help="Voxels from which an object, split or merger counts.", min=1)
    ] = 1000,
    per_object: Annotated[
        Path | None, typer.Option(help="Write a row per object (.parquet or .csv).")
    ] = None,
    errors: Annotated[
        Path | None,
        typer.Option(help="Write a row per split and merger, with its place (.parquet or .csv)."),
    ] = None,
    skeletons: Annotated[
        Path | None, typer.Option(help="Truth skeletons: an SWC file, or a folder of them.")
    ] = None,
    nm_per_unit: Annotated[
        float, typer.Option(help="nm in one unit of the SWC files; 1000 for micrometres.")
    ] = 1.0,
    merge_nodes: Annotated[
        int, typer.Option(help="Nodes of a skeleton that an object must hold to be on it.", min=1)
    ] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the tables.")] = False,
) -> Figures:
    """Score a segmentation against a truth: VI, adapted Rand, fill, counts, run length.

    Example: petavox score out.zarr block.h5/labels --oracle --errors errors.csv
    """
    import petavox as pv
    from petavox.score import reporting
    from petavox.settings import parse
    from petavox.stages import score as stage
    from petavox.stages import skeleton_scores, table_files

    if truth is None and skeletons is None:
        raise BadInput("nothing to score against: give a TRUTH volume, or --skeletons.")
    if truth is None and (per_object or oracle or box or where or intersect):
        raise BadInput(
            "--per-object, --oracle, --box, --where and --intersect need a TRUTH volume."
        )
    for path in (per_object, errors):
        if path is not None:
            table_files.table_format(path)
            if path.exists() and not overwrite:
                raise AlreadyExists(f"{path} is there already; pass --overwrite to replace it.")
    volume = pv.open(result)
    figures: reporting.Report | None = None
    if truth is not None:
        given = {"intersect": intersect, "tolerance": tolerance, "large": large}
        settings = parse(
            stage.ScoreSettings,
            given | {"places": errors is not None} | ({"box": box} if box else {}),
            "petavox score",
        )
        found = stage.tables(
            volume, pv.open(truth), settings, where=None if where is None else pv.open(where)
        )
        figures = found.report(oracle=oracle)
        if per_object is not None:
            table_files.write_table(per_object, found.objects())
        if errors is not None:
            table_files.write_table(errors, found.errors())
    if skeletons is None:
        assert figures is not None
        return figures
    runs, outside = skeleton_scores.skeleton_scores(
        volume, skeleton_scores.read_skeletons(skeletons, nm_per_unit), merge_nodes=merge_nodes
    )
    along = reporting.run_report(runs, outside, merge_nodes)
    if figures is None:
        if errors is not None:
            table_files.write_table(errors, reporting.run_errors(runs))
        return along
    return reporting.joined(figures, runs=along)
