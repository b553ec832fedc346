"""What is known of each step: one small JSON a step, written when it begins and when it ends.

    run/steps/segment.json    state, key and its parts, why it ran, figures, seconds, stamps

What it is: the record, its reading and writing, and the stamp of an output: by it a result that
something else replaced is noticed. What it is not: the ledger of blocks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from petavox.errors import BadInput
from petavox.provenance import digest, file_digest, write_json
from petavox.volume import state

State = Literal["todo", "running", "failed", "done"]


@dataclass
class StepState:
    """What is known of one step.

    state: running says that it was begun; whether it still runs, the project's lock knows.
    key, parts: what decides the result.  stamps: thing -> stamp of the finished output.
    started, finished: unix time.  workers: 0 where their number is not known.
    """

    name: str
    state: State = "todo"
    key: str = ""
    parts: dict[str, str] = field(default_factory=dict)
    why: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    started: float | None = None
    finished: float | None = None
    error: str = ""
    warning: str = ""
    host: str = ""
    workers: int = 0
    version: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    stamps: dict[str, str] = field(default_factory=dict)


def read(file: Path, name: str) -> StepState:
    """The record in a file; state "todo" where there is none. Raises BadInput if damaged."""
    try:
        values = json.loads(file.read_text())
        known = {f.name for f in fields(StepState)}
        return StepState(**{k: v for k, v in values.items() if k in known})
    except FileNotFoundError:
        return StepState(name)
    except (OSError, ValueError, TypeError, AttributeError) as e:
        raise BadInput(
            f"the record {file} cannot be read ({e}): delete it, and the step is done again."
        ) from None


def write(file: Path, said: StepState) -> None:
    """Write a record, whole or not at all."""
    write_json(file, asdict(said))


def stamp(path: str | Path) -> str:
    """What an output is known by: petavox.json of a folder, the bytes of a file; "" if gone."""
    place = Path(path)
    if place.is_file():
        return file_digest(place)
    mark = place / state.NAME
    return digest(mark.read_bytes()) if mark.is_file() else ""


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Names of the parts that differ, those of `new` first."""
    return [k for k in dict.fromkeys([*new, *old]) if old.get(k) != new.get(k)]
