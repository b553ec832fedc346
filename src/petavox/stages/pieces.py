"""Which pieces of an output are finished, so that a run that was broken off goes on from there.

    pieces = Pieces(out, key)
    target = reopened(out) if pieces.going_on else created(out)
    if not pieces.going_on: pieces.begin()
    for name, work in all_pieces:
        if name not in pieces:
            pieces.add(name, work())          # after the piece is written
    state.finish(...); pieces.end()

What it is: for stages that run in one process, a list of names, each with a small value, in
OUT.run/pieces.jsonl, under the digest of all that decides the result. It counts only while OUT
itself says "writing" under the same digest; with another digest all is made again.
What it is not: the ledger of block tasks (petavox.blocks), which spread over processes.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from petavox.blocks.task import source_digest
from petavox.provenance import digest, write_atomically
from petavox.settings import Settings
from petavox.volume import places, state

NAME = "pieces.jsonl"


def key_of(
    settings: Settings, inputs: Iterable[Any], code: Iterable[str], apart: Iterable[str] = ()
) -> str:
    """Digest of what decides a result.

    inputs: digests and plain values.  code: modules.  apart: settings that change no voxel.
    """
    import petavox

    values = settings.model_dump(mode="json", exclude=set(apart))
    return digest(petavox.__version__, values, list(inputs), [source_digest(m) for m in code])


class Pieces:
    """The finished pieces of the output at `out` under `key`; safe for threads.

    At a URL nothing is kept: a run that was broken off there begins anew.
    """

    def __init__(self, out: str | Path, key: str) -> None:
        self.place, self.key = places.named(out), key
        self.folder: Path | None = None
        if not places.is_url(self.place):
            at = Path(self.place)
            self.folder = at.with_name(at.name + ".run")
        self.known: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.going_on = self._going_on()

    def _going_on(self) -> bool:
        if self.folder is None or not Path(self.place).exists():
            return False
        said = state.read(self.place) or {}
        if said.get("state") != "writing" or said.get("key") != self.key:
            return False
        try:
            lines = (self.folder / NAME).read_text().split("\n")
        except OSError:
            return False
        if lines[0] != json.dumps(self.key):
            return False
        for line in lines[1:-1]:
            name, value = json.loads(line)
            self.known[name] = value
        if lines[-1]:  # what follows the last line's end was cut off
            write_atomically(self.folder / NAME, "\n".join(lines[:-1]) + "\n")
        return True

    def begin(self) -> None:
        """Mark the output, which is there, as being written under the key; no piece is in it."""
        self.known.clear()
        state.begin(self.place, key=self.key)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / NAME).write_text(json.dumps(self.key) + "\n")

    def __contains__(self, name: str) -> bool:
        return name in self.known

    def add(self, name: str, value: Any = None) -> None:
        """Keep that a piece is written."""
        with self._lock:
            self.known[name] = value
            if self.folder is not None:
                with open(self.folder / NAME, "a") as f:
                    f.write(json.dumps([name, value]) + "\n")

    def end(self) -> None:
        """The output is complete: forget the pieces."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
