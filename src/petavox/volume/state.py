"""Whether a volume is a result yet.

What it is: `petavox.json`, kept inside every volume that petavox writes. It says "writing" from
the first moment to the last block, then "complete" with the provenance. A volume whose writer
died says "writing" for ever, and `open` refuses it. A volume without the file was made by
another program and is taken as it is.
What it is not: the ledger, which knows the blocks.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from petavox.errors import NotComplete
from petavox.volume import places

NAME = "petavox.json"


def begin(folder: str | Path, **facts: Any) -> None:
    """Mark a volume as being written."""
    places.write_json(folder, NAME, {"state": "writing", **facts})


def finish(folder: str | Path, provenance: dict[str, Any]) -> None:
    """Mark a volume as complete, with what made it."""
    places.write_json(folder, NAME, {"state": "complete", "provenance": provenance})


def read(folder: str | Path) -> dict[str, Any] | None:
    """What `petavox.json` says, or None where there is none."""
    data = places.read(folder, NAME)
    if data is None:
        return None
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError) as e:
        raise NotComplete(
            f"{places.joined(folder, NAME)} is damaged ({e}); make the volume again."
        ) from None


def require_complete(folder: str | Path) -> None:
    """Raise NotComplete if the volume is still being written, or its writer died."""
    said = read(folder)
    if said is not None and said.get("state") != "complete":
        raise NotComplete(
            f"{folder} is not complete: it is still being written, or its writer was stopped. "
            "Let it finish, resume it, or make it again with --overwrite."
        )
