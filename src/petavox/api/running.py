"""What the verbs share: settings from keyword arguments, a temporary output, ledger and engine.

What it is: three helpers. What it is not: a verb.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from petavox.settings import Settings, parse

S = TypeVar("S", bound=Settings)


def settings_of(model: type[S], given: Mapping[str, Any], verb: str) -> S:
    """The settings of a stage from keyword arguments; None means: as the stage has it.

    Raises BadInput for an unknown or wrong one, with the names that are known.
    """
    return parse(
        model, {k: v for k, v in given.items() if v is not None}, f"the arguments of pv.{verb}"
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """A temporary folder."""
    with tempfile.TemporaryDirectory(prefix="petavox-") as folder:
        yield Path(folder)


@contextmanager
def blockwise(out: Path, workers: int, site: str | None = None) -> Iterator[dict[str, Any]]:
    """Ledger and engine of a blockwise stage, kept in OUT.run, as keyword arguments."""
    from petavox.blocks import Ledger, Limits, open_engine

    folder = out.with_name(out.name + ".run")
    with (
        Ledger(folder / "ledger.db") as ledger,
        open_engine(workers=workers or None, site=site, folder=folder) as engine,
    ):
        yield {"ledger": ledger, "engine": engine, "limits": Limits()}
