"""The verb that learns: train.

What it is: a thin function over the stage. What it is not: a trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def train(
    settings: str | Path | Mapping[str, Any],
    out: str | Path = "training",
    *,
    init: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    **changes: Any,
) -> dict[str, Any]:
    """Train a flood-filling network; gives the figures, the best model lies in `out`.

    settings: a YAML file, or the same keys as a mapping (docs/training.md); paths in a file are
    relative to it.  init: model to start from (fine-tuning).  resume: go on from the newest
    checkpoint.  changes: keys that replace those of a file, dots written as double underscores:
    trainer__steps=500.
    Raises BadInput before any work, AlreadyExists if `out` holds a training.

    >>> import petavox as pv
    >>> pv.train("train.yaml", "training", trainer__steps=500)   # doctest: +SKIP
    """
    from petavox.errors import BadInput
    from petavox.settings import parse
    from petavox.stages import train as stage
    from petavox.stages.training_settings import TrainSettings, read_settings

    if isinstance(settings, Mapping):
        if changes:
            raise BadInput("give the changes in the settings themselves; these are no file.")
        parsed = parse(TrainSettings, dict(settings), "the settings of pv.train")
        base = Path()
    else:
        named = {k.replace("__", "."): v for k, v in changes.items()}
        parsed, base = read_settings(settings, named), Path(settings).parent
    return stage.train(parsed, out, base=base, init=init, resume=resume, quiet=quiet)
