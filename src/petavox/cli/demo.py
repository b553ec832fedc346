"""`petavox demo`: see petavox work on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False)


@app.command()
@command
def demo(
    out: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("demo"),
    sections: Annotated[int, typer.Option(help="Sections of the synthetic tissue.")] = 32,
    tile: Annotated[int, typer.Option(help="Side of its tiles, pixels.")] = 150,
    seed: Annotated[int, typer.Option(help="Of the synthetic tissue.")] = 7,
    workers: Annotated[int, typer.Option(help="Processes; 0: this one only.")] = 2,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a folder that is no demonstration.")
    ] = False,
) -> Figures:
    """Make tiles of synthetic tissue, with damage, and run all stages on them; score each.

    It is a project like any other: the folder holds petavox.yaml, and `petavox run` goes on with
    it. Example: petavox demo demo
    """
    from petavox.demo import DemoSettings, run
    from petavox.settings import parse

    given = {"sections": sections, "tile": tile, "seed": seed, "workers": workers}
    found = run(out, parse(DemoSettings, given, "the options"), overwrite=overwrite)
    last = {"report": found["report"]} if found["report"] else {}
    look = {"look_at_it": f"petavox view {out}"}
    return {"stages": found["stages"], "scores": summary(found["scores"]), **last, **look}


def summary(scores: dict[str, Any]) -> dict[str, Any]:
    """The few figures of a run's scores that are shown; scores.json holds all."""
    shown: dict[str, Any] = {}
    for name in ("seam_px", "adjacent_px", "span_px"):
        if name in scores:
            shown[name] = scores[name]["mean"]
    for name in ("objects", "neurons"):
        if name in scores:
            raw = scores[name]["raw"]
            shown[name] = {
                "vi": raw["vi"], "adapted_rand_error": raw["adapted_rand_error"],
                "fill": scores[name]["fill"],
            }  # fmt: skip
    if "synapses" in scores:
        shown["synapses"] = {k: scores["synapses"][k] for k in ("found", "true", "f1")}
        shown["edges"] = {"f1": scores["edges"].get("edges", {}).get("f1")}
    return shown
