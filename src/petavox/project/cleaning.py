"""Taking away what a step made, and what was made of it.

What it is: which files those are, and their removal. What it is not: a question to the person;
the command asks. Only what this project's records know is touched.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from petavox.project.driver import locked
from petavox.project.ledger import StepLedger
from petavox.project.project import Project
from petavox.project.steps import Step

BESIDE = (
    "origins", "links", "lookup", "candidates", "pairs", "scores", "graph", "work", "ids",
    "unfinished", "run",
)  # fmt: skip
"""Endings of the tables that stages write beside an output."""


def following(project: Project, name: str) -> list[Step]:
    """A step and all that read what it makes, directly or not, in the order of work."""
    taken = {project.step(name).name}
    for step in project.steps:
        if taken & set(project.makers(step.name).values()):
            taken.add(step.name)
    return [s for s in project.steps if s.name in taken]


def made_by(project: Project, step: Step) -> list[Path]:
    """What a step has written, as far as it is there; nothing if this project did not run it."""
    if project.state(step.name).state == "todo":
        return []
    found = []
    for path in project.outputs(step.name).values():
        beside = [path.with_name(f"{path.name}.{end}") for end in BESIDE]
        found += [p for p in (path, *beside) if p.exists()]
    return found


def clean(project: Project, steps: list[Step]) -> None:
    """Remove what steps made, the last first, and what is known of them."""
    with locked(project):
        for step in reversed(steps):
            # the record goes last: a removal that was stopped can be asked for again
            for path in made_by(project, step):
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            file = project.record_file(step)
            ledger = file.parent.parent / "ledger.db"
            if ledger.is_file():
                with StepLedger(ledger, step.name) as known:
                    known.forget_step()
            file.unlink(missing_ok=True)
