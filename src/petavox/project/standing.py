"""How far a project is, from its records and its ledger: for people who wait.

What it is: per step the state, blocks, rate, time left, and the first error. What it is not: the
question whether what was done still holds (petavox.project.plan asks that).
"""

from __future__ import annotations

import time
from typing import Any

from petavox.blocks.ledger import Ledger
from petavox.project.driver import is_running
from petavox.project.project import Project
from petavox.project.records import StepState


def standing(project: Project, *, errors: int = 3) -> dict[str, Any]:
    """Step -> its state and figures, in the order of work.

    errors: blocks in trouble to show of a step, with their tracebacks.
    """
    alive = is_running(project)
    ledger = _ledger(project)
    try:
        tasks = {} if ledger is None else _tasks(ledger)
        found = {}
        for step in project.steps:
            said = project.state(step.name)
            line = _line(said, alive)
            mine = tasks.get(step.name, {})
            if ledger is not None and said.state in ("running", "failed"):
                line |= _blocks(ledger, step.name, mine, said, alive)
                line |= _trouble(ledger, step.name, mine, errors)
            elif mine:
                line["blocks"] = sum(t["done"] for t in mine.values())
            found[step.name] = line
    finally:
        if ledger is not None:
            ledger.close()
    return found


def _line(said: StepState, alive: bool) -> dict[str, Any]:
    words = {"todo": "to do", "done": "done", "failed": "failed"}
    line: dict[str, Any] = {
        "state": words.get(said.state) or ("running" if alive else "stopped; run again to go on")
    }
    if said.state in ("done", "failed"):
        line["seconds"] = said.seconds
    elif said.state == "running" and alive and said.started is not None:
        line["seconds"] = round(time.time() - said.started, 1)
    if said.warning:
        line["warning"] = said.warning
    if said.error:
        line["error"] = said.error
    return line


def _ledger(project: Project) -> Ledger | None:
    return Ledger(project.ledger_file, readonly=True) if project.ledger_file.is_file() else None


def _tasks(ledger: Ledger) -> dict[str, dict[str, dict[str, Any]]]:
    """Step -> task -> what the ledger knows."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for task in ledger.tasks():
        step, _, name = task["name"].partition("/")
        found.setdefault(step, {})[name] = task
    return found


def _blocks(
    ledger: Ledger, step: str, tasks: dict[str, dict[str, Any]], said: StepState, alive: bool
) -> dict[str, Any]:
    """The task under way: blocks, rate and time left of this run."""
    open_ = [(n, t) for n, t in tasks.items() if not t["complete"]]
    if not open_:
        return {}
    name, task = open_[-1]
    line: dict[str, Any] = {"task": name, "blocks": f"{task['done']:,} of {task['total']:,}"}
    for trouble in ("failed", "quarantined", "lost"):
        if task[trouble]:
            line[trouble] = task[trouble]
    if not alive or said.started is None:
        return line
    now, since = time.time(), said.started
    recent = ledger.done_since(f"{step}/{name}", since)
    if recent:
        rate = recent / max(now - since, 1e-3)
        line["blocks_per_minute"] = round(60 * rate, 2)
        line["seconds_left"] = round((task["total"] - task["done"]) / rate, 2)
    return line


def _trouble(
    ledger: Ledger, step: str, tasks: dict[str, dict[str, Any]], most: int
) -> dict[str, Any]:
    found: dict[str, str] = {}
    for task in tasks:
        for state in ("quarantined", "failed", "lost"):
            for row in ledger.rows(f"{step}/{task}", state):
                if len(found) >= most:
                    return {"trouble": found}
                where = f" on {row.host}" if row.host else ""
                text = f"{state} after {row.attempts} attempts{where}: {row.error}"
                found[f"{task} block {row.number}"] = f"{text}\n{row.trace}".rstrip()
    return {"trouble": found} if found else {}
