"""The report: one HTML file about a project, that needs no server and no internet.

    write(load("cortex"))                  # cortex/report.html

What it is: the order of chapters, and the writing. `parts` is the HTML, `svg` the plots, `shots`
and `surfaces` the pictures, `reading` what is read; `images`, `objects`, `sites` and `running` are
the chapters. What it is not: a maker of figures; each number is read from a file of the project,
which it names.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import petavox
from petavox.errors import PetavoxError
from petavox.project import Project
from petavox.provenance import write_atomically
from petavox.view.report import effort, images, objects, quality, running, sites
from petavox.view.report.parts import Chapter, page, strip, tiles
from petavox.view.report.reading import Results

log = logging.getLogger("petavox")

CHAPTERS: tuple[Callable[[Results], Chapter | None], ...] = (
    images.tiles,
    images.stitched,
    images.aligned,
    quality.quality,
    objects.training,
    objects.segmentation,
    objects.neurons,
    sites.synapses,
    sites.connectome,
    running.scores,
    effort.work,
    running.missing,
    running.provenance,
)
"""In the order of the file."""


def write(project: Project, out: str | Path | None = None) -> dict[str, Any]:
    """Write the report of a project; gives figures.

    out: the file; default report.html in the project's folder. An older report is replaced.
    """
    began = time.monotonic()
    path = Path(out) if out is not None else project.outputs("report")["report"]
    text, chapters, trouble = build(project)
    write_atomically(path, text)
    return {
        "report": str(path),
        "chapters": [c.title for c in chapters],
        "pictures": text.count("<img "),
        "plots": text.count("<svg "),
        "bytes": len(text.encode()),
        "not_readable": trouble,
        "seconds": round(time.monotonic() - began, 2),
    }


def build(project: Project) -> tuple[str, list[Chapter], list[str]]:
    """The report as text, its chapters, and sentences on what could not be read."""
    found = Results(project)
    chapters = []
    for make in CHAPTERS:
        try:
            chapter = make(found)
        except (PetavoxError, OSError, ValueError, KeyError) as e:
            # one damaged file must not cost the report of all others; it is said in the report
            log.warning("report: %s is left out: %s", make.__name__, e)
            found.trouble.append(f"The chapter on {make.__name__} is left out: {e}")
            continue
        if chapter is not None:
            chapters.append(chapter)
    top = strip(running.step_strip(found)) + tiles(running.headline(found))
    if found.trouble and not any(c.anchor == "missing" for c in chapters):
        last = running.missing(found)
        if last is not None:
            chapters.append(last)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    lead = f"{_lead(project)} Written {now} by petavox {petavox.__version__}."
    foot = (
        "Every number names the file and key it was read from; links work while this file lies in "
        "its project's folder."
    )
    return page(project.name, lead, top, chapters, foot), chapters, found.trouble


def _lead(project: Project) -> str:
    done = sum(project.state(s.name).state == "done" for s in project.steps if s.name != "report")
    count = sum(s.name != "report" for s in project.steps)
    begin = next(k for k in ("tiles", "sections", "image") if getattr(project.settings.input, k))
    what = {"tiles": "raw tiles", "sections": "sections", "image": "an aligned volume"}[begin]
    return f"From {what}; {done} of {count} steps done."


__all__ = ["CHAPTERS", "build", "write"]
