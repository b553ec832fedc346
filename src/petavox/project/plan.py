"""What a run would do, step by step, and why: kept, gone on with, made, or made again.

What it is: the comparison of what decides a step's result now with what decided it when it was
made. What it is not: the doing (petavox.project.driver).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from petavox.errors import AlreadyExists, BadInput
from petavox.project import keys, records
from petavox.project.project import Project
from petavox.project.records import StepState
from petavox.project.steps import Step

Action = Literal["keep", "go on", "make", "again"]


@dataclass(frozen=True)
class Choice:
    """What is done about one step.

    why: a clause.  code: the code that decides it changed.
    """

    step: Step
    action: Action
    why: str
    key: str
    parts: dict[str, str]
    code: bool = False


def plan(project: Project, digests: keys.Digests | None = None) -> list[Choice]:
    """What a run of all steps would do. Raises BadInput if data that is given cannot be read."""
    digests = digests or keys.Digests(project.work / "digests.json")
    made: dict[str, str] = {}
    # a step whose input will be made again cannot be kept, whatever its record says
    choices = []
    for step in project.steps:
        parts = keys.parts(project, step, made, digests)
        made[step.name] = key = keys.key_of(parts)
        choices.append(_choice(project, step, key, parts))
    return choices


def _choice(project: Project, step: Step, key: str, parts: dict[str, str]) -> Choice:
    said = project.state(step.name)
    if said.state == "todo":
        return Choice(step, "make", "not made yet", key, parts)
    if said.key != key:
        changed = records.differing(said.parts, parts)
        return Choice(
            step, "again", _changed(changed, said, parts), key, parts,
            code=any(name.startswith("code ") for name in changed),
        )  # fmt: skip
    if said.state == "running":
        return Choice(step, "go on", "it was stopped", key, parts)
    if said.state == "failed":
        return Choice(step, "go on", "it failed the last time", key, parts)
    for thing, path in project.outputs(step.name).items():
        now = records.stamp(path)
        if now != said.stamps.get(thing):
            what = "was replaced by something else" if now else "is gone"
            return Choice(step, "again", f"{path.name} {what}", key, parts, code=True)
    return Choice(step, "keep", "same code, settings and inputs", key, parts)


def _changed(names: list[str], said: StepState, parts: dict[str, str]) -> str:
    """What changed, as a clause: the inputs first, then the model, settings, code."""
    inputs = [n.removeprefix("input ").rpartition(".")[2] for n in names if n.startswith("input ")]
    settings = [n for n in names if n.startswith("settings ")]
    code = [n.removeprefix("code petavox.") for n in names if n.startswith("code ")]
    shown = [
        f"{n.removeprefix('settings ')} {_brief(said.parts.get(n))} -> {_brief(parts.get(n))}"
        for n in settings[:4]
    ]
    more = [f"and {len(settings) - 4} more settings"] * (len(settings) > 4)
    clauses = [f"{', '.join(dict.fromkeys(inputs))} changed"] * bool(inputs)
    clauses += ["model changed"] * ("model" in names)
    clauses += ["settings: " + ", ".join([*shown, *more])] * bool(settings)
    clauses += [f"code changed: {', '.join(code[:3])}" + " ..." * (len(code) > 3)] * bool(code)
    return "; ".join(clauses)


def _brief(value: str | None) -> str:
    if value is None:
        return "-"
    return value if len(value) <= 30 else value[:27] + "..."


def chosen(
    project: Project, choices: list[Choice], *, until: str | None = None, only: str | None = None
) -> list[Choice]:
    """The choices that a run acts on. Raises BadInput for a step that is not there."""
    if until is not None and only is not None:
        raise BadInput("--until and --only together say two things; give one of them.")
    names = [c.step.name for c in choices]
    if until is not None:
        return choices[: names.index(project.step(until).name) + 1]
    if only is None:
        return choices
    at = names.index(project.step(only).name)
    makers = set(project.makers(only).values())
    waiting = [c.step.name for c in choices[:at] if c.step.name in makers and c.action != "keep"]
    if waiting:
        raise BadInput(
            f"step '{only}' reads what {', '.join(waiting)} must make first: run "
            f"`petavox run --until {only}`."
        )
    return [choices[at]]


def require_room(project: Project, choices: list[Choice]) -> None:
    """Raise AlreadyExists if an output is there that this project did not make."""
    for c in choices:
        if c.action != "make":
            continue
        for path in project.outputs(c.step.name).values():
            if path.exists():
                raise AlreadyExists(
                    f"{path} is there, and this project did not make it: move it away, or name it "
                    f"as input; step '{c.step.name}' would write there."
                )
