"""Verbs on projects: run, report.

What it is: thin functions over petavox.project and petavox.view. What it is not: petavox.yaml.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from petavox.space import Box


def run(
    project: str | Path = ".",
    *,
    until: str | None = None,
    only: str | None = None,
    subset: Box | str | None = None,
    workers: int | None = None,
    site: str | None = None,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Do every stage of a project that is not done yet; gives, by stage, what was done and why.

    project: folder with petavox.yaml.  until: stop after this stage.  only: this stage alone.
    subset: a box that is run beside the rest.  workers, site: instead of those of petavox.yaml.
    dry_run: check all, say what would be done.
    Raises BadInput before any work, WorkFailed if a stage failed; what was finished is kept.

    >>> import petavox as pv
    >>> pv.run("cortex", until="segment", dry_run=True)   # doctest: +SKIP
    """
    from petavox.project.driver import run as go

    return go(
        _loaded(project, subset),
        until=until,
        only=only,
        workers=workers,
        site=site,
        dry_run=dry_run,
    )


def report(
    project: str | Path = ".",
    out: str | Path | None = None,
    *,
    subset: Box | str | None = None,
) -> dict[str, Any]:
    """Write one HTML file about a project, finished or not; gives figures.

    project: folder with petavox.yaml.  out: the file; default report.html in it.  subset: results
    of `run` with that box.

    >>> import petavox as pv
    >>> pv.report("cortex")["report"]   # doctest: +SKIP
    'cortex/report.html'
    """
    from petavox.view import report as pages

    return pages.write(_loaded(project, subset), None if out is None else Path(out))


def _loaded(project: str | Path, subset: Box | str | None) -> Any:
    from petavox.project import load

    return load(project, subset=Box.parse(subset) if isinstance(subset, str) else subset)
