"""For tests of what is decided again when the code that decides it has changed."""

from __future__ import annotations

import pytest

from petavox.stages import stamps


class Again(Exception):
    """A step was done again."""


def requires_again(monkeypatch, module, stage, name, run):
    """With other source of `module` the function `name` of `stage` is called again by `run`."""
    real = stamps.source_digest

    def again(*_args, **_kwargs):
        raise Again

    run()
    with monkeypatch.context() as patch:
        patch.setattr(stage, name, again)
        run()  # kept
        patch.setattr(stamps, "source_digest", lambda m: "other" if m == module else real(m))
        with pytest.raises(Again):
            run()
