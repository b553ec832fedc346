"""Several stages and tables that make one output: what can be refused is refused before the first.

    OUT.links    a stage's        OUT.lookup   the driver's        OUT    the last stage's

What it is: the checks that all of them have room and memory, and that none lies on what is read.
What it is not: their running (petavox.stages.stage), which checks each once more when its turn
comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.runner import check
from petavox.blocks.task import BlockTask
from petavox.stages import tables
from petavox.stages.room import require_apart
from petavox.stages.stage import Stage, require_made_here
from petavox.volume import opening


def require_chain(
    made: Mapping[str, str | Path],
    table_folders: Mapping[str, str | Path],
    reads: Iterable[str | Path | None],
    *,
    ledger: Ledger,
    overwrite: bool,
    driver: Iterable[str | Path] = (),
) -> None:
    """Raise what a stage of the chain would raise of its output, hours later.

    made: stage -> the volume that it writes.  table_folders: stage -> its table of blocks.
    reads: all that any of them reads and none of them makes.  driver: tables made between stages.
    """
    given = list(reads)
    for place in (*made.values(), *table_folders.values(), *driver):
        require_apart(place, given)
    for stage, place in (*made.items(), *table_folders.items()):
        require_made_here(stage, [place], ledger, overwrite)
    for place in made.values():
        opening.require_room(Path(place), overwrite=True)
    for place in (*table_folders.values(), *driver):
        tables.require_room(place)


def require_memory(stages: Iterable[Stage], *, ledger: Ledger, engine: Engine | None) -> None:
    """Raise BadInput for a stage of the chain whose blocks would not fit when its turn comes.

    Of a stage that this ledger has finished nothing is asked: it may be kept.
    """
    for stage in stages:
        if not ledger.is_complete(stage.name):
            # without what it reads: an earlier stage may not have made that yet
            task = BlockTask(
                stage.name,
                stage.function,
                stage.grid(),
                costs=stage.costs(),
                smaller=stage.smaller,
            )
            check(task, engine)
