"""`petavox`: the table of commands, each loaded only when it is called.

What it is: names, one line each, and the module that holds the command. What it is not: code of
a command; `petavox info` must not wait for torch to load.
"""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import petavox

# command -> (module under petavox.cli, one line of help); the order is the order of work
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Describe a project: petavox.yaml, with its data checked."),
    "run": ("run", "Run a project: all stages that are not done yet."),
    "import": ("import_", "Copy a volume of any format into OME-Zarr or precomputed."),
    "export": ("export", "Copy a volume into a foreign format."),
    "info": ("info", "What a volume is: box, voxel size, data type, chunks."),
    "check": ("check", "Check axes, offsets and units of volumes."),
    "phantom": ("phantom", "Make synthetic tissue, or its tiles, with exact truth."),
    "model": ("model", "Import, inspect and export networks."),
    "train": ("train", "Train a network on annotated volumes, on one machine or many."),
    "tune": ("tune", "Measure what is fastest here; write it into the settings."),
    "tiles": ("tiles", "Write the tile table of a folder from its file names."),
    "stitch": ("stitch", "Stitch tiles into sections."),
    "align": ("align", "Find the fields that align sections."),
    "render": ("render", "Render aligned sections into one volume."),
    "contrast": ("contrast", "Even the contrast of sections: normalise, or CLAHE."),
    "qc": ("qc", "Judge sections and their alignment: tables, masks, suspects."),
    "segment": ("segment", "Flood one subvolume with a flood-filling network."),
    "consensus": ("consensus", "Keep together only what two segmentations hold together."),
    "reconcile": ("reconcile", "Join objects across blocks into one segmentation."),
    "agglomerate": ("agglomerate", "Merge objects that the network holds to be one."),
    "suspects": ("suspects", "List where an agglomeration is most likely wrong."),
    "edit": ("edit", "Split and merge by hand; undo, log, apply."),
    "why": ("why", "Show what made one object: seeds, scores, merges, edits."),
    "mesh": ("mesh", "Make the surfaces of all objects, in levels of detail."),
    "skeletonize": ("skeletonize", "Make the skeletons of all objects, with radius."),
    "synapses": ("synapses", "Find synapses and their partners; mitochondria."),
    "connectome": ("connectome", "Tables and graph of neurons and synapses; queries."),
    "score": ("score", "Score a segmentation against a truth."),
    "status": ("status", "Show where a project or a run stands, block by block."),
    "plan": ("plan", "Project what a run costs, here or on a thousand nodes."),
    "clean": ("clean", "Remove what a stage of a project made, and what follows."),
    "doctor": ("doctor", "Look at this machine: devices, versions, disk, sites."),
    "report": ("report", "Write one HTML file about a project: pictures, scores, cost."),
    "view": ("view", "Open a project or volumes in Neuroglancer."),
    "data": ("data", "Public data sets: list them, fetch them."),
    "demo": ("demo", "See petavox work on this machine."),
}


class LazyGroup(TyperGroup):
    """A group that imports a command's module when the command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of work."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load one command."""
        if cmd_name not in COMMANDS:
            return None
        module, line = COMMANDS[cmd_name]
        app = importlib.import_module(f"petavox.cli.{module}").app
        loaded = typer.main.get_command(app)
        loaded.name = cmd_name
        loaded.short_help = line
        return loaded

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands without loading any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


# plain help for the root: the rich one would load every command for its one line
app = typer.Typer(cls=LazyGroup, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"petavox {petavox.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From electron-microscope tiles to a connectome."""


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
