"""Whether an output may be written, found out before hours of work.

What it is: the check at the start of a stage that removes an old result only when the new one is
there, and the refusal of an output that would take an input with it. What it is not: the removal.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from petavox.errors import BadInput
from petavox.volume import opening, places, state


def require_apart(out: str | Path, inputs: Iterable[str | Path | None]) -> None:
    """Raise BadInput if an input is the output, or lies in it: it would go with the old output."""
    target = places.named(out)
    for given in inputs:
        if given is None:
            continue
        source = places.named(given)
        if places.is_url(target) or places.is_url(source):
            inside = source == target or source.startswith(f"{target}/")
        else:
            inside = Path(source).resolve().is_relative_to(Path(target).resolve())
        if inside:
            raise BadInput(f"{out} would overwrite {given}, which is read; choose another name.")


def require_room(out: Path, *, overwrite: bool, going_on: bool = False) -> None:
    """Raise what `opening.make_room` would, but remove nothing.

    going_on: an earlier run of the same output was stopped; what it left half-written may go.
    """
    if not (going_on and (state.read(out) or {}).get("state") == "writing"):
        opening.require_room(out, overwrite=overwrite)
