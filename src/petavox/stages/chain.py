"""Several stages and tables that make one output: what can be refused is refused before the first.

    OUT.links    a stage's        OUT.lookup   the driver's        OUT    the last stage's

What it is: the check that all of them have room, and that none lies on what is read. What it is
not: their running (petavox.stages.stage), which checks each once more when its turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from petavox.blocks.ledger import Ledger
from petavox.stages import tables
from petavox.stages.room import require_apart
from petavox.stages.stage import require_made_here
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
