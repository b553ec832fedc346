"""The folder of an unfinished flood: its request, its lock, its checkpoint.

What it is: what lets a killed run be taken up by the same command, and by no other request.
What it is not: the state itself (petavox.ffn.checkpoint), or the result.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.ffn.canvas import Canvas
from petavox.ffn.checkpoint import state_of

log = logging.getLogger("petavox")


def save_state(file: Path, canvas: Canvas) -> None:
    """Write a canvas's state so that a kill at any moment leaves the old one or the new one."""
    temporary = file.with_name(f".{file.name}.partial")
    with open(temporary, "wb") as f:
        np.savez(f, allow_pickle=False, **state_of(canvas))
        f.flush()
        os.fsync(f.fileno())
    os.replace(temporary, file)


def load_state(file: Path) -> dict[str, np.ndarray] | None:
    """The state in a checkpoint, or None where there is none. BadInput if it is damaged."""
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as f:
            state = {name: f[name] for name in f.files}
    except (OSError, ValueError, zipfile.BadZipFile) as e:
        raise BadInput(
            f"the checkpoint {file} is damaged ({e}); delete {file.parent} to start anew."
        ) from None
    log.info("going on from the checkpoint in %s", file.parent)
    return state


@contextmanager
def workplace(
    work: Path, request: dict[str, Any], *, half_written: bool, overwrite: bool
) -> Iterator[dict[str, Any]]:
    """The folder of an unfinished run, locked; gives what an earlier run of the same kept.

    half_written: that run was stopped while it wrote its labels.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
        lock = open(work / "lock", "w")  # noqa: SIM115 (held for the whole run)
    except OSError as e:
        raise BadInput(f"cannot write to {work}: {e.strerror}.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BadInput(f"another process is writing {work}; wait for it, or stop it.") from None
        # a run that ended before its first checkpoint left nothing that another could lose
        something = half_written or (work / "checkpoint.npz").exists()
        kept, why = _kept(work, request) if something else ({}, "")
        if why and not overwrite:
            raise BadInput(f"{work} {why}, or pass --overwrite to start anew.")
        if why:
            (work / "checkpoint.npz").unlink(missing_ok=True)
            kept = {}
        try:
            yield kept
        finally:
            if not (work / "checkpoint.npz").exists():
                shutil.rmtree(work)  # nothing in it to go on from


def _kept(work: Path, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """What an earlier run wrote of its request; and why it cannot be gone on with, or nothing."""
    file = work / "request.json"
    if not file.exists():
        # a checkpoint of nobody knows what
        stray = (work / "checkpoint.npz").exists()
        return {}, f"holds a checkpoint without {file.name}; delete it" if stray else ""
    try:
        kept = dict(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError) as e:
        return {}, f"holds a damaged {file.name} ({e}); delete {work.name}"
    # one that is not there was not asked for by the version that wrote it: it went another way
    changed = [k for k in request if k not in kept or kept[k] != request[k]]
    if not changed:
        return kept, ""
    if "code" in changed:
        return kept, "holds an unfinished run of another version of petavox; go on with that one"
    return kept, (
        f"holds an unfinished run with another {' and '.join(changed)}; give the same ones to go on"
    )
