"""`petavox tune`: measure what is fastest on this machine and write it into the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False, no_args_is_help=True)

_Settings = Annotated[Path, typer.Argument(help="Settings file (YAML) to read and to change.")]
_Model = Annotated[Path | None, typer.Option("--model", "-m", help="Model file to measure with.")]
_Memory = Annotated[
    float | None, typer.Option("--memory", help="Memory bound, GB; default 80 % of what is free.")
]
_Seconds = Annotated[float, typer.Option(help="Seconds of each measurement.", min=0.1)]
_Device = Annotated[str | None, typer.Option(help="cpu, cuda, xpu; default: as the settings say.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Leave the settings as they are.")]


@app.command("train")
@command
def train(
    settings: _Settings,
    model: _Model = None,
    memory: _Memory = None,
    seconds: _Seconds = 3.0,
    device: _Device = None,
    dry_run: _DryRun = False,
) -> Figures:
    """Tune training: batch, live patches, threads, precision, memory format, compile, processes.

    Example: petavox tune train train.yaml --memory 4
    """
    return _tune("train", settings, model, memory, seconds, device, dry_run)


@app.command("segment")
@command
def segment(
    settings: _Settings,
    model: _Model = None,
    memory: _Memory = None,
    seconds: _Seconds = 3.0,
    device: _Device = None,
    dry_run: _DryRun = False,
) -> Figures:
    """Tune flooding: precision, threads, memory format, lanes, fields of view a call, processes.

    The best number of lanes is for `petavox segment --blocks --lanes N`.

    Example: petavox tune segment segment.yaml --model model.safetensors
    """
    return _tune("segment", settings, model, memory, seconds, device, dry_run)


def _tune(
    work: Literal["train", "segment"],
    settings: Path,
    model: Path | None,
    memory: float | None,
    seconds: float,
    device: str | None,
    dry_run: bool,
) -> dict[str, Any]:
    from petavox.stages.tune import tune

    found = tune(
        work, settings, model=model, memory_gb=memory, seconds=seconds, device=device,
        write=not dry_run, said=_say,
    )  # fmt: skip
    _print(found["table"])
    return {k: v for k, v in found.items() if k != "table"} | {"measured": len(found["table"])}


def _say(one: Any) -> None:
    typer.echo(f"  {one.candidate!r}: {one.why_not or f'{one.fov_per_s:.1f} FOV/s'}", err=True)


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = [
        "precision",
        "memory_format",
        "threads",
        "batch",
        "lanes",
        "live",
        "processes",
        "compile",
    ]
    shown = Table("FOV/s", "ratio", "MiB", *(n.replace("_", " ") for n in names), box=None)
    for row in rows:
        rate = row["why_not"] or f"{row['fov_per_s']:.2f}"
        figures = [rate, f"{row['ratio']:.2f}", f"{row['memory_mb']:,.0f}"]
        shown.add_row(*figures, *(str(row[n]) for n in names))
    Console(stderr=True).print(shown)
