"""`petavox train`: learn a network from annotated volumes, on one machine or many."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command
from petavox.errors import BadInput

app = typer.Typer(add_completion=False)


@app.command()
@command
def train(
    settings: Annotated[Path, typer.Argument(help="Settings (YAML); docs/training.md has all.")],
    out: Annotated[Path, typer.Option(help="Folder of the training.")] = Path("training"),
    init: Annotated[
        Path | None, typer.Option(help="Model to start from: fine-tuning keeps its geometry.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint in --out.")
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, xpu; a rank each.")] = None,
    threads: Annotated[int | None, typer.Option(help="Processor threads.", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps in all.", min=1)] = None,
    minutes: Annotated[float | None, typer.Option(help="Minutes in all.")] = None,
    precision: Annotated[str | None, typer.Option(help="f32 or bf16.")] = None,
    tiles_per_device: Annotated[
        int | None, typer.Option(help="Tiles of a card that have a rank each.", min=1)
    ] = None,
    site: Annotated[
        str | None, typer.Option(help="With --write-job: slurm, polaris, aurora or a YAML file.")
    ] = None,
    nodes: Annotated[int, typer.Option(help="With --write-job: nodes.", min=1)] = 1,
    write_job: Annotated[
        Path | None, typer.Option(help="Write a job script here instead of training.")
    ] = None,
) -> Figures:
    """Train a network; under torchrun, mpiexec or srun, one rank of many.

    A flood-filling network, or with `kind: synapses` in the settings one that sees synapses.

    Example: petavox train train.yaml --out training

    Example: petavox train train.yaml --site aurora --nodes 8 --write-job train.sh
    """
    from petavox.stages import train as stage
    from petavox.stages import training_settings as settings_of

    if write_job is None and (site is not None or nodes != 1):
        raise BadInput("--site and --nodes are for --write-job FILE; give that too.")
    changes = {
        "device": device,
        "threads": threads,
        "trainer.steps": steps,
        "trainer.minutes": minutes,
        "trainer.precision": precision,
        "trainer.tiles_per_device": tiles_per_device,
    }
    if settings_of.kind_of(settings) == "synapses":
        from petavox.stages import synapses_train

        if write_job is not None:
            raise BadInput("--write-job is for flood-filling networks; start this one by torchrun.")
        values = settings_of.changed(settings, changes)
        return synapses_train.train(
            values, out, where=str(settings), base=settings.parent, init=init, resume=resume
        )
    read = settings_of.read_settings(settings, changes)
    if write_job is not None:
        from petavox.provenance import write_atomically
        from petavox.stages.training_job import job_script

        if site is None:
            raise BadInput("--write-job needs --site: slurm, polaris, aurora, or a YAML file.")
        options = {
            "device": device,
            "threads": threads,
            "steps": steps,
            "minutes": minutes,
            "precision": precision,
            "tiles-per-device": tiles_per_device,
            "resume": resume,
        }
        text = job_script(site, nodes, settings=settings, out=out, init=init, options=options)
        write_atomically(write_job, text)
        return {"job": str(write_job), "site": site, "nodes": nodes}
    return stage.train(read, out, base=settings.parent, init=init, resume=resume)
