"""`petavox demo`: see petavox work on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("demo"),
    shape: Annotated[
        tuple[int, int, int], typer.Option(help="Voxels of the synthetic tissue, z y x.")
    ] = (64, 128, 128),
    seed: Annotated[int, typer.Option(help="Of the synthetic tissue.")] = 99,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, xpu, mps.")] = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
) -> Figures:
    """Make synthetic tissue, flood it with the shipped model, score it, draw it.

    Example: petavox demo demo --shape 64 128 128
    """
    from petavox.demo import DemoSettings, run
    from petavox.settings import parse

    settings = parse(DemoSettings, {"shape": shape, "seed": seed, "device": device}, "the options")
    figures = run(out, settings, overwrite=overwrite)
    phantom, score = figures["phantom"], figures["score"]
    return {
        "voxels": phantom["voxels"],
        "objects": figures["segment"]["objects"],
        "filled": score["fill"],
        "scored_where": "both label; VI in bits; `petavox score` shows all",
        **{k: score["raw"][k] for k in ("vi_split", "vi_merge", "adapted_rand_error")},
        "seconds": {name: f["step_seconds"] for name, f in figures.items()},
        "picture": figures["picture"]["picture"],
        "look_at_it": f"petavox view {out}/phantom/image.zarr {out}/objects.zarr",
    }
