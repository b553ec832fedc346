"""Which state of a file was read or run: keys for what is remembered or kept.

What it is: a stamp that changes when a file is written anew, and digests of sources. What it is
not: a digest of content (petavox.blocks.content), which reads the file.
"""

from __future__ import annotations

import os
from pathlib import Path

from petavox.blocks.task import source_digest
from petavox.volume import places


def stamp(path: str | Path) -> tuple[int, ...]:
    """Inode, bytes and time of change (ns) of a file; () for what is no file of this machine.

    A worker lives as long as its engine and serves several runs: with this in the key of a cache,
    what it read at a path is not used after another run has written there.
    """
    try:
        found = os.stat(path)
    except OSError:
        return ()  # who reads it says what is wrong
    return found.st_ino, found.st_size, found.st_mtime_ns


def volume_stamp(path: str | Path) -> tuple[tuple[int, ...], ...]:
    """The stamps of a volume: of its file or folder, and of the small files that describe it.

    `content` digests see more, but look at every file; this is for each call of a worker.
    """
    return (stamp(path), *(stamp(Path(path) / name) for name in places.METADATA))


def sources(*modules: str) -> dict[str, str]:
    """Digests of the sources that decide a step of the driver, for its key, as of block tasks."""
    return {m: source_digest(m) for m in modules}
