"""`petavox status`: where a run stands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from petavox.cli.common import Figures, command
from petavox.cli.running import find_ledger

app = typer.Typer(add_completion=False)


@app.command()
@command
def status(
    place: Annotated[Path, typer.Argument(help="Project, run folder, or output of a run.")],
    errors: Annotated[int, typer.Option(help="Blocks in trouble to show, with tracebacks.")] = 3,
) -> Figures:
    """Show every stage's blocks: done, failed, quarantined; and the first tracebacks.

    Example: petavox status segmentation.zarr
    """
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
