"""Workers on other machines whose driver was killed: they end, but not at once.

What it is: a mark in the folder of an engine, renewed while its blocks are at work and taken away
when it is closed; and the wait of the next engine that finds such a mark. What it is not: for
workers of this machine; those are seen by their process ids (petavox.blocks.work).

A pool of workers goes on until it has heard nothing of its driver for `lost_after_s`. Until then
it may write what the old run asked for over what the new one has made.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path

log = logging.getLogger("petavox")

NAME = "at_work"
_EVERY_S = 5.0
_ENDING_S = 10.0
"""From the moment that a pool gives up to the end of its last worker."""


class Mark:
    """The mark of one engine, in its folder."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / NAME
        self._renewed = 0.0

    def renew(self) -> None:
        """Say that blocks are at work; ask often, it costs nothing."""
        if time.monotonic() - self._renewed > _EVERY_S or not self._renewed:
            self._renewed = time.monotonic()
            # a full disk must not end the run
            with contextlib.suppress(OSError):
                self.file.write_text("blocks are at work here\n")

    def remove(self) -> None:
        """Say that the workers were ended."""
        self.file.unlink(missing_ok=True)


def wait(folder: Path, mine: Mark, lost_after_s: float) -> None:
    """Wait until the workers of engines that were not closed have ended.

    folder: holds the folders of all engines of a project.  mine: of the one that asks; the file
    system's time of it is compared with those of the others, not this machine's clock.
    """
    mine.renew()
    if not mine.file.exists():
        return
    for other in sorted(folder.glob(f"*/{NAME}")):
        if other == mine.file:
            continue
        with contextlib.suppress(FileNotFoundError):
            since = mine.file.stat().st_mtime - other.stat().st_mtime
            left = lost_after_s + _ENDING_S - max(since, 0.0)
            if left > 0:
                log.info("waiting %.0f s for the workers of a driver that was killed", left)
                time.sleep(left)
            other.unlink()
