"""`petavox status`: where a project or a run stands."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from petavox.cli.common import Figures, command, show
from petavox.cli.running import find_ledger
from petavox.errors import BadInput

app = typer.Typer(add_completion=False)


@app.command()
@command
def status(
    place: Annotated[Path, typer.Argument(help="Project, run folder, or output of a run.")] = Path(
        "."
    ),
    errors: Annotated[int, typer.Option(help="Blocks in trouble to show, with tracebacks.")] = 3,
    subset: Annotated[str | None, typer.Option(help="Project: of a run of this box.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Project: show it again until the run ends.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between looks.")] = 5.0,
) -> Figures:
    """Show every stage: done, running, failed; its blocks, rate, time left, first errors.

    Examples: petavox status cortex --watch; petavox status segmentation.zarr
    """
    from petavox.project.settings import FILE

    if not (place / FILE).is_file() and place.name != FILE:
        if subset or watch:
            raise BadInput(f"{place} is no project (no {FILE}): --subset and --watch need one.")
        return _of_ledger(place, errors)
    from petavox.project import load
    from petavox.project.driver import is_running
    from petavox.project.standing import standing
    from petavox.space import Box

    project = load(place, subset=None if subset is None else Box.parse(subset))
    while watch and is_running(project):
        if sys.stdout.isatty():
            typer.echo("\033[2J\033[H", nl=False)  # an empty page, from its top
        show(standing(project, errors=errors), as_json=False)
        time.sleep(every)
    return standing(project, errors=errors)


def _of_ledger(place: Path, errors: int) -> dict[str, Any]:
    from petavox.blocks.ledger import Ledger

    figures: dict[str, Any] = {}
    with Ledger(find_ledger(place), readonly=True) as ledger:
        for task in ledger.tasks():
            n = task["done"]
            runs = ledger.runs(task["name"])
            figures[task["name"]] = {
                "state": "complete" if task["complete"] else "not complete",
                "blocks": task["total"],
                "done": n,
                **{s: task[s] for s in ("failed", "quarantined", "lost") if task[s]},
                "seconds_a_block": task["block_seconds"] / n if n else None,
                "runs": len(runs),
                "last_run": _said(runs),
                "trouble": _trouble(ledger, task["name"], errors),
            }
            if not figures[task["name"]]["trouble"]:
                del figures[task["name"]]["trouble"]
    return figures


def _trouble(ledger: Any, task: str, most: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for state in ("quarantined", "failed", "lost"):
        for row in ledger.rows(task, state):
            if len(found) >= most:
                return found
            where = f" on {row.host}" if row.host else ""
            text = f"{state} after {row.attempts} attempts{where}: {row.error}"
            found[f"block {row.number}"] = f"{text}\n{row.trace}".rstrip()
    return found


def _said(runs: list[dict[str, Any]]) -> str:
    if not runs:
        return "under way, or killed"
    r = runs[-1]
    line = f"{r['engine']}, {r['workers']} workers, {r['seconds']:.1f} s"
    return line + (f"; {r['note']}" if r["note"] else "")
