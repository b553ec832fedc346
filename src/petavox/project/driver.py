"""The run: each step that is not there with the same content is done, in order.

    run(load("cortex"), workers=2)

What it is: the lock, the records, the engine, and what is said to the person waiting. What it is
not: the choice of steps (petavox.project.plan), or their work (petavox.project.calls).

Killed at any moment, the same call goes on: a step's record says "running" before anything of it
is touched and "done" after its outputs are complete; blocks that finished are in the ledger.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import petavox
from petavox.blocks.engines import Engine, open_engine
from petavox.blocks.holding import Holding, is_held
from petavox.blocks.outcome import Limits
from petavox.errors import BadInput, PetavoxError, WorkFailed
from petavox.project import checks, keys, records
from petavox.project.calls import Call, figures_of
from petavox.project.ledger import StepLedger
from petavox.project.plan import Choice, chosen, plan, require_room
from petavox.project.project import Project
from petavox.project.records import StepState
from petavox.volume import state

log = logging.getLogger("petavox")


def run(
    project: Project,
    *,
    until: str | None = None,
    only: str | None = None,
    workers: int | None = None,
    site: str | None = None,
    dry_run: bool = False,
    block_timeout: float | None = None,
    retry_quarantined: bool = False,
) -> dict[str, Any]:
    """Do what is not done yet; gives, by step, what was done and why.

    workers, site: instead of those of petavox.yaml.  until: stop after this step.  only: this
    step.  dry_run: say what would be done.  block_timeout: seconds that one block may take.
    retry_quarantined: try blocks again that killed their workers.
    Raises BadInput, before any work, for a project that cannot be run; WorkFailed if a step failed.
    """
    with locked(project, write=not dry_run):
        crew = checks.crew(project, workers, site)
        digests = keys.Digests(project.work / "digests.json")
        checks.check(project)
        choices = chosen(project, plan(project, digests), until=until, only=only)
        require_room(project, choices)
        for name, why in project.left_out.items():
            if not why.startswith("off"):
                log.info("%s: left out, %s", name, why)
        if dry_run:
            return {c.step.name: f"{_would(c)} ({c.why})" for c in choices}
        digests.save()
        done: dict[str, Any] = {}
        with contextlib.ExitStack() as stack:
            engines: list[Engine] = []

            def engine() -> Engine:
                if not engines:
                    opened = open_engine(
                        workers=crew["workers"], site=crew["site"], folder=project.work
                    )
                    engines.append(stack.enter_context(opened))
                    engines[0].limits = Limits(
                        timeout_s=block_timeout, retry_quarantined=retry_quarantined
                    )
                return engines[0]

            for choice in choices:
                done[choice.step.name] = _one(project, choice, engine, crew["count"])
        return done


def _would(choice: Choice) -> str:
    return {"keep": "kept", "go on": "goes on", "make": "made", "again": "made again"}[
        choice.action
    ]


def _one(project: Project, choice: Choice, engine: Callable[[], Engine], workers: int) -> str:
    """Do a step, or keep it."""
    step, name = choice.step, choice.step.name
    if choice.action == "keep":
        said = project.state(name)
        log.info("%s: kept (%s)", name, choice.why)
        if said.warning and not project.settings.go_on_with_losses:
            raise WorkFailed(_stop(said.warning))
        return f"kept ({choice.why})" + _lost(said.warning)
    log.info("%s: %s, %s", name, choice.action, choice.why)
    writes, file = project.outputs(name), project.record_file(step)
    settings = project.stage_settings(name)
    ledger_file = file.parent.parent / "ledger.db"
    with StepLedger(ledger_file, name) as ledger:
        if choice.action == "again" and choice.code:
            # the stages know their settings and inputs, but not all of the code below them
            ledger.forget_step()
            for path in writes.values():
                for end in ("run", "work"):
                    shutil.rmtree(path.with_name(f"{path.name}.{end}"), ignore_errors=True)
        said = StepState(
            name,
            "running",
            key=choice.key,
            parts=choice.parts,
            why=choice.why,
            started=time.time(),
            host=platform.node(),
            workers=1,
            version=petavox.__version__,
            settings=settings.model_dump(mode="json"),
        )
        records.write(file, said)
        began, before = time.monotonic(), _stamps(writes)
        warning = ""

        def crew() -> Engine:
            said.workers = workers  # a step that asks for no workers is the driver's alone
            return engine()

        call = Call(
            project, step, settings, project.inputs(name), writes, project.model(step), ledger,
            crew,
        )  # fmt: skip
        try:
            figures = step.call()(call)
        except PetavoxError as e:
            finished = _complete(writes) and _stamps(writes) != before
            if not isinstance(e, WorkFailed) or not finished:
                _failed(file, said, str(e), began)
                raise
            # the stage finished, and says what it had to leave out
            warning, figures = str(e), figures_of(next(iter(writes.values())))
        except Exception as e:
            _failed(file, said, f"{type(e).__name__}: {e}", began)
            raise
    _stamp(writes, choice.key)
    records.write(
        file,
        dataclasses.replace(
            said,
            state="done",
            figures=figures,
            warning=warning,
            seconds=round(time.monotonic() - began, 3),
            finished=time.time(),
            stamps=_stamps(writes),
        ),
    )
    if warning and not project.settings.go_on_with_losses:
        raise WorkFailed(_stop(warning))
    return f"done in {time.monotonic() - began:.1f} s ({choice.why})" + _lost(warning)


def _lost(warning: str) -> str:
    return f"; something is LOST: {warning}" if warning else ""


def _stop(warning: str) -> str:
    return (
        f"{warning.rstrip('.')}. Mend the data and run again; or, to go on without what is lost, "
        "set `go_on_with_losses: true` in petavox.yaml."
    )


def _failed(file: Path, said: StepState, error: str, began: float) -> None:
    failed = dataclasses.replace(
        said,
        state="failed",
        error=error,
        seconds=round(time.monotonic() - began, 3),
        finished=time.time(),
    )
    records.write(file, failed)


def _stamps(writes: dict[str, Path]) -> dict[str, str]:
    return {thing: records.stamp(path) for thing, path in writes.items()}


def _complete(writes: dict[str, Path]) -> bool:
    return all((state.read(p) or {}).get("state") == "complete" for p in writes.values())


def _stamp(writes: dict[str, Path], key: str) -> None:
    """Give outputs of stages that have no key of their own that of the step."""
    for path in writes.values():
        said = state.read(path) if path.is_dir() else None
        if said is None:
            continue
        made = said.get("provenance") or {}
        if said.get("state") == "complete" and "key" not in made:
            state.finish(path, {**made, "key": key})


@contextlib.contextmanager
def locked(project: Project, *, write: bool = True) -> Iterator[None]:
    """One run at a time. Raises BadInput if another runs, or the folder cannot be written."""
    if not write:
        yield
        return
    try:
        project.work.mkdir(parents=True, exist_ok=True)
        held = Holding(
            project.work / "lock", said=f"another petavox runs the project {project.folder}"
        )
    except OSError as e:
        raise BadInput(
            f"{project.work} cannot be written ({e.strerror}): a run keeps its ledger there; give "
            "yourself the right to write, free space on its disk, or move the project."
        ) from None
    with held:
        yield


def is_running(project: Project) -> bool:
    """Does a living petavox hold the project just now?"""
    return is_held(project.work / "lock")
