"""`petavox connectome`: tables and graph of neurons and synapses; questions to them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from petavox.cli.common import command
from petavox.errors import BadInput

app = typer.Typer(add_completion=False)


@app.command()
@command
def connectome(
    out: Annotated[Path, typer.Argument(help="Folder of the connectome: to make, update or ask.")],
    labels: Annotated[str | None, typer.Option(help="Label volume of the neurons.")] = None,
    synapses: Annotated[
        Path | None, typer.Option(help="Table of synapses: Parquet or CSV, see docs/connectome.md.")
    ] = None,
    skeletons: Annotated[
        Path | None, typer.Option(help="Folder of petavox skeletonize: cable and soma.")
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="Table id, neuron after proofreading; alone, it updates OUT."),
    ] = None,
    query: Annotated[
        str | None, typer.Option(help='Print the rows that match, such as "pre=17, count>=3".')
    ] = None,
    table: Annotated[str, typer.Option(help="Table to ask: edges, neurons or synapses.")] = "edges",
    box: Annotated[str | None, typer.Option(help="Only this box: z0:z1,y0:y1,x0:x1.")] = None,
    block: Annotated[
        tuple[int, int, int], typer.Option(help="Voxels of one piece of work, z y x.")
    ] = (256, 256, 256),
    plots: Annotated[bool, typer.Option("--plots", help="Also draw OUT/plots/*.png.")] = False,
    workers: Annotated[int, typer.Option(help="Processes; 0 is this one.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> dict[str, Any] | None:
    """Make a connectome, update it after proofreading, or ask it.

    Examples:
    petavox connectome wiring --labels neurons.zarr --synapses synapses.parquet
    petavox connectome wiring --mapping edits.csv
    petavox connectome wiring --query "pre=17, count>=3"
    """
    if query is not None:
        from petavox.stages.asking import ask

        _print(ask(out, query, table=table))
        return None

    from petavox.stages import connectome as stage

    if labels is None and synapses is None:
        if mapping is None:
            raise BadInput(
                "say what to do: --labels and --synapses make a connectome, --mapping updates "
                "one, --query asks one."
            )
        return stage.update(out, mapping, plots=plots)
    if labels is None or synapses is None:
        raise BadInput("a connectome is made from both --labels and --synapses; one is missing.")

    from petavox.blocks import open_engine
    from petavox.settings import parse

    settings = parse(
        stage.ConnectomeSettings,
        {"box": box, "block": block, "plots": plots},
        "the options of petavox connectome",
    )
    with open_engine(workers=workers) as engine:
        return stage.run(
            labels,
            synapses,
            out,
            settings,
            skeletons=skeletons,
            mapping=mapping,
            engine=engine,
            overwrite=overwrite,
        )


def _print(rows: Any) -> None:
    """The rows as CSV on stdout, with a header."""
    import pyarrow.csv as pa_csv

    pa_csv.write_csv(rows, sys.stdout.buffer)
