"""Progress of long work: a bar with rate and time left on a terminal, plain log lines elsewhere.

>>> with Progress("flood", total=3, unit="voxel") as p:          # doctest: +SKIP
...     p.advance(1, fov_per_s=48.2)

What it is: something to show to a person, on stderr; stdout stays free for figures.
What it is not: a record; counters go to provenance and the ledger.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

log = logging.getLogger("petavox")


class Progress:
    """A running count of `total` units, shown on stderr.

    Where stderr is no terminal, a log line is written every `every` seconds instead.
    total: None if unknown.
    """

    def __init__(
        self,
        title: str,
        *,
        total: float | None,
        unit: str,
        every: float = 30.0,
        quiet: bool = False,
    ) -> None:
        self.title, self.total, self.unit, self.every, self.quiet = title, total, unit, every, quiet
        self.done = 0.0
        self._started = self._said = time.monotonic()
        self._offset = 0.0
        self._bar: RichProgress | None = None
        if sys.stderr.isatty() and not quiet:
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                TaskProgressColumn(),
                TextColumn("{task.fields[facts]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(title, total=total, facts="")

    def __enter__(self) -> Self:
        self._started = self._said = time.monotonic()
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            # a terminal that was closed: its error must not take the place of what ends the work
            with contextlib.suppress(OSError):
                self._bar.stop()
        elif not self.quiet and kind is None:
            log.info("%s: %s", self.title, self._line({}))

    def resume_at(self, done: float) -> None:
        """Say that `done` units were finished by an earlier run; they do not count for the rate."""
        self.done = self._offset = done

    def advance(self, units: float, **facts: float | str) -> None:
        """Add finished units; `facts` are shown beside the bar (name -> number or text)."""
        self.to(self.done + units, **facts)

    def to(self, done: float, **facts: float | str) -> None:
        """Set the count of finished units; `facts` are shown beside the bar."""
        self.done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=self.total, facts=_facts(facts))
        elif not self.quiet and time.monotonic() - self._said >= self.every:
            self._said = time.monotonic()
            log.info("%s: %s", self.title, self._line(facts))

    def _line(self, facts: dict[str, float | str]) -> str:
        seconds = time.monotonic() - self._started
        rate = (self.done - self._offset) / seconds if seconds > 0 else 0.0
        line = f"{int(self.done):,}"  # a unit under way is none that is done
        if self.total:
            line += f" of {self.total:,.0f} {self.unit} ({100 * self.done / self.total:.1f} %)"
        else:
            line += f" {self.unit}"
        line += f", {rate:,.3g} {self.unit}/s, {seconds:,.0f} s"
        if self.total and rate > 0 and self.done < self.total:
            line += f", about {(self.total - self.done) / rate:,.0f} s left"
        return line + (f"; {_facts(facts)}" if facts else "")


def _facts(facts: dict[str, float | str]) -> str:
    return "  ".join(
        f"{k.replace('_per_s', '/s').replace('_', ' ')} {v:.3g}"
        if isinstance(v, float)
        else f"{k.replace('_', ' ')} {v}"
        for k, v in facts.items()
    )
