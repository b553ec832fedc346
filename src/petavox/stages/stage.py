"""A stage: what it reads and writes, and the block function that joins a science to volumes.

    class Brighten(Stage):
        name = "brighten"
        function = "my.module:brighten_block"

        def grid(self) -> Grid: ...
        def create(self) -> None: ...        # the empty outputs

    run_stage(Brighten(settings, reads={"image": a}, writes={"image": b}), ledger=..., engine=...)

What it is: the base class and the one way to run it: outputs are made when needed, finished blocks
kept, and an output is marked complete only when every block is in it. What it is not: a place for
decisions of science; a block function calls a kernel for those.
"""

from __future__ import annotations

import abc
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from petavox import provenance
from petavox.blocks.content import content_digest, made_by
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.outcome import Limits, Outcome
from petavox.blocks.plan import Plan, plan
from petavox.blocks.resume import resume
from petavox.blocks.runner import check, run
from petavox.blocks.task import BlockTask, Costs
from petavox.errors import AlreadyExists
from petavox.settings import Settings
from petavox.space import Grid
from petavox.stages import levels
from petavox.volume import places, state

log = logging.getLogger("petavox")


class Stage(abc.ABC):
    """One blockwise stage.

    name: in the ledger and in provenance.  function: "package.module:function", the block function
    `(Block, Context) -> Counters`.  code: further modules whose source decides the result.
    smaller: what would need less memory, in words.
    reads, writes: name -> path; every output is a folder that carries petavox.json.
    """

    name: ClassVar[str]
    function: ClassVar[str]
    code: ClassVar[tuple[str, ...]] = ()
    smaller: ClassVar[str] = "smaller blocks"

    def __init__(
        self,
        settings: Settings,
        *,
        reads: Mapping[str, str | Path],
        writes: Mapping[str, str | Path],
    ) -> None:
        self.settings = settings
        self.reads = {k: _absolute(v) for k, v in reads.items()}
        self.writes = {k: _absolute(v) for k, v in writes.items()}

    @abc.abstractmethod
    def grid(self) -> Grid:
        """The blocks, from the inputs. Raises BadInput if they do not fit the settings."""

    @abc.abstractmethod
    def create(self) -> None:
        """Make the empty outputs, marked as being written; what is there is replaced."""

    def costs(self) -> Costs:
        """What one block needs at most."""
        return Costs()

    def inputs(self) -> dict[str, str]:
        """Digests of what is read."""
        return {name: content_digest(path) for name, path in self.reads.items()}

    def after(  # noqa: B027  most stages have nothing to add
        self, ledger: Ledger, engine: Engine | None, **options: Any
    ) -> None:
        """Work of the driver when all blocks are done, before the outputs are complete."""

    def task(self) -> BlockTask:
        """The stage as a task for the runner."""
        return BlockTask(
            name=self.name,
            function=self.function,
            grid=self.grid(),
            settings=self.settings.model_dump(mode="json"),
            reads=self.reads,
            writes=self.writes,
            inputs=self.inputs(),
            code=self.code,
            costs=self.costs(),
            smaller=self.smaller,
        )


def _absolute(path: str | Path) -> str:
    """Workers of a cluster do not start in this folder."""
    place = places.named(path)
    return place if places.is_url(place) else str(Path(place).absolute())


def plan_stage(stage: Stage, ledger: Ledger | None = None) -> Plan:
    """The plan of a stage, with times from the ledger where it has some."""
    return plan(stage.task(), ledger.seconds(stage.name) if ledger is not None else ())


def run_stage(
    stage: Stage,
    *,
    ledger: Ledger,
    engine: Engine | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Outcome:
    """Run a stage to its end, keeping what an earlier run finished with the same content.

    overwrite: replace outputs that something else made.  options: of petavox.blocks.run.
    Raises AlreadyExists if an output is there that this project's ledger does not know.
    """
    began = time.monotonic()
    task = stage.task()
    known = resume(task, ledger)
    stamped = {name: made_by(path) for name, path in stage.writes.items() if Path(path).exists()}
    ours = not known.fresh and all(stamped.get(n) == known.key for n in stage.writes)
    if ours and ledger.is_complete(stage.name) and _all_complete(stage):
        if not options.get("quiet"):
            log.info("%s: kept, all %d blocks (%s)", stage.name, len(task.grid), known.why)
        return Outcome(stage.name, len(task.grid), kept=len(task.grid), why=known.why)
    if not ours:
        require_made_here(stage.name, stage.writes.values(), ledger, overwrite)
        check(task, engine, options.get("only"))
        # before the new outputs: a run that ends in between must not leave blocks as done that
        # were done in outputs which are gone
        _forget(stage, ledger)
        stage.create()
        for path in stage.writes.values():
            state.begin(path, key=known.key)
    outcome = run(task, ledger=ledger, engine=engine, limits=limits, **options)
    if outcome.complete:
        stage.after(ledger, engine, limits=limits, **options)
        record = provenance.record(
            stage.name,
            settings=stage.settings,
            inputs=task.inputs,
            counters=ledger.counters(stage.name),
            seconds=time.monotonic() - began,
        )
        for path in stage.writes.values():
            state.finish(path, {**record, "key": known.key})
    return outcome


def _all_complete(stage: Stage) -> bool:
    said = [state.read(path) for path in stage.writes.values()]
    return all(s is not None and s.get("state") == "complete" for s in said)


def _forget(stage: Stage, ledger: Ledger) -> None:
    """Forget what was done of a stage's blocks and of its coarser levels.

    That the ledger's task made the output is still known, so that the output may be replaced.
    """
    ledger.forget(stage.name)
    levels.forget(stage.name, ledger)
    ledger.save()


def require_made_here(
    name: str, writes: Iterable[str | Path], ledger: Ledger, overwrite: bool
) -> None:
    """An output may be replaced if told so, or if this ledger's task made it or began to.

    name: of the stage.  writes: its outputs.
    """
    if overwrite:
        return
    parts = ledger.parts(name)
    last = None if parts is None else provenance.digest(parts)
    for path in map(Path, writes):
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            continue
        said = state.read(path) or {}
        mine = last is not None and (made_by(path) == last or said.get("state") == "writing")
        if not mine:
            raise AlreadyExists(
                f"{path} is there already, and not from this project's {name}; choose "
                "another name, or pass --overwrite."
            )
