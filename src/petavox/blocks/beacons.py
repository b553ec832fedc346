"""Beacons: in which block each worker is, read by the driver from the small files that say so.

    running 17 4 1764500000.123 0.4100 12 FOVs      bundle 17, block 4, since when, share, words

What it is: the driver's view of the folder. What it is not: the writing (petavox.blocks.work).
"""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

ALONE = "alone-"
"""Begins the name of the beacon of a driver that runs blocks itself."""

Inside = tuple[int, float, str]
"""A block that is being worked on: number, share done 0..1, words."""


class Beacons:
    """The driver's view of the folder of beacons."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def clear(self) -> None:
        """Remove what earlier workers left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)

    def all(self) -> list[tuple[Path, str, int, int]]:
        """(file, state, ticket, block) of every worker that ever spoke."""
        return [(path, state, ticket, number) for path, state, ticket, number, _ in self._read()]

    def inside(self, tickets: set[int]) -> list[Inside]:
        """The blocks of these bundles that workers are in, and how far they are."""
        found = []
        for _, state, ticket, number, rest in self._read():
            if state == "running" and ticket in tickets:
                share, _, words = rest.partition(" ")
                found.append((number, float(share or 0), words))
        return sorted(found)

    def _read(self) -> list[tuple[Path, str, int, int, str]]:
        """(file, state, ticket, block, what the block told) of every worker that ever spoke."""
        found: list[tuple[Path, str, int, int, str]] = []
        if not self.folder.is_dir():
            return found
        for path in self.folder.iterdir():
            if path.suffix == ".trace":
                continue
            try:
                state, ticket, number, _, *rest = path.read_text().split(maxsplit=4)
                found.append((path, state, int(ticket), int(number), "".join(rest).strip()))
            except (OSError, ValueError):
                continue
        return found

    def culprit(self, ticket: int) -> tuple[int, str] | None:
        """(block, trace of a timeout or "") that a lost worker was in with this bundle."""
        for path, state, its_ticket, number in self.all():
            if state == "running" and its_ticket == ticket:
                trace = path.with_name(path.name + ".trace")
                text = trace.read_text(errors="replace") if trace.exists() else ""
                path.unlink(missing_ok=True)
                trace.unlink(missing_ok=True)
                return number, text
        return None

    def wait_for_living(self, most_s: float) -> None:
        """Wait until no process of this machine is in a block any more; or for so long.

        The workers of a killed driver end by themselves, but not at once; until then one may still
        write what its driver asked for, over what the next one has had made.
        """
        until = time.monotonic() + most_s
        while time.monotonic() < until and any(
            state == "running" and _lives(path.name) for path, state, _, _ in self.all()
        ):
            time.sleep(0.05)

    def busy(self, tickets: set[int]) -> bool:
        """Is some living process of this machine inside a block of one of these bundles?"""
        for path, state, ticket, _ in self.all():
            if state != "running" or ticket not in tickets:
                continue
            if path.name.rpartition("-")[0] != platform.node() or _lives(path.name):
                return True
        return False


def _lives(beacon: str) -> bool:
    """Is the process of a beacon's name alive, on this machine, and not this one?"""
    host, _, pid = beacon.removeprefix(ALONE).rpartition("-")
    if host != platform.node() or not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
