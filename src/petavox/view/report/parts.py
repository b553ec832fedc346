"""The report's building blocks: facts with their source, figures, tables, the page and its looks.

What it is: HTML as text; everything is escaped here. What it is not: the reading of results.

A number enters the report as a Fact, and a Fact names the file it was read from: so every number
can be traced. Pictures and plots carry the same in their caption.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from petavox.view.report.style import STYLE


@dataclass(frozen=True)
class Source:
    """Where something was read.

    file: path in the project's folder.  what: key, column or rule within the file.
    linked: False for what does not lie in the project.
    """

    file: str
    what: str = ""
    linked: bool = True

    def html(self) -> str:
        """A link that works while the report lies in its project."""
        text = html.escape(self.file + (f" · {self.what}" if self.what else ""))
        if not self.linked or "://" in self.file or "*" in self.file or self.file[:1] == "/":
            return f'<span class="src">{text}</span>'
        return f'<a class="src" href="{html.escape(self.file, quote=True)}">{text}</a>'


@dataclass(frozen=True)
class Fact:
    """One figure: its name, its value, where it was read, and what it means."""

    name: str
    value: Any
    source: Source
    unit: str = ""
    meaning: str = ""

    def text(self) -> str:
        """Value and unit."""
        return f"{shown(self.value)}{f' {self.unit}' if self.unit else ''}"


@dataclass
class Chapter:
    """A part of the report.  anchor: for links.  parts: HTML.  state: of the step it tells of."""

    anchor: str
    title: str
    parts: list[str] = field(default_factory=list)
    state: str = ""
    line: str = ""

    def add(self, *parts: str) -> None:
        """Add parts that are not empty."""
        self.parts += [p for p in parts if p]


def shown(value: Any) -> str:
    """A value as people write it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "–"
        if value == 0 or 1e-3 <= abs(value) < 1000:
            return f"{value:.4g}"
        return f"{value:,.0f}" if abs(value) < 1e9 and abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(shown(v) for v in value) if value else "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items())
    return str(value)


def duration(seconds: float | None) -> str:
    """Seconds as s, min or h."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def amount(size: float) -> str:
    """Bytes in decimal units."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError


def facts(found: Iterable[Fact | None]) -> str:
    """Facts in two columns, each with its source below; empty if there is none."""
    rows = "".join(
        f"<div class=fact><span class=what>{html.escape(_upper(f.name))}</span>"
        f"<b>{html.escape(f.text())}</b>"
        f"<small>{html.escape(f.meaning)} {f.source.html()}</small></div>"
        for f in found
        if f is not None
    )
    return f"<div class=facts>{rows}</div>" if rows else ""


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def tiles(found: Iterable[Fact | None]) -> str:
    """Facts as large numbers side by side."""
    boxes = "".join(
        f'<div class="tile{" long" if len(f.text()) > 16 else ""}">'
        f"<div class=value>{html.escape(f.text())}</div>"
        f"<div class=name>{html.escape(f.name)}</div>{f.source.html()}</div>"
        for f in found
        if f is not None
    )
    return f"<div class=tiles>{boxes}</div>" if boxes else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], *, numeric: int = 99) -> str:
    """A table; cells are values, or Sources.  numeric: column from which on numbers stand right."""

    def cell(value: Any, column: int) -> str:
        if isinstance(value, Source):
            return f"<td>{value.html()}</td>"
        text = html.escape(shown(value))
        return f"<td class=num>{text}</td>" if column >= numeric else f"<td>{text}</td>"

    body = "".join(f"<tr>{''.join(cell(v, i) for i, v in enumerate(row))}</tr>" for row in rows)
    if not body:
        return ""
    head = "".join(
        f"<th{' class=num' if i >= numeric and h != 'source' else ''}>{html.escape(h)}</th>"
        for i, h in enumerate(heads)
    )
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def picture(
    png: bytes, caption: str, source: Source | Sequence[Source], *, size: str = "", alt: str = ""
) -> str:
    """A picture with its caption and source.  size: "", "small", "half", "most" or
    "full"."""
    data = base64.b64encode(png).decode()
    inner = (
        f'<img alt="{html.escape(alt or caption, quote=True)}" src="data:image/png;base64,{data}">'
    )
    return _figure(inner, caption, source, size)


def plot(svg: str, caption: str, source: Source | Sequence[Source], *, size: str = "half") -> str:
    """A plot with its caption and source; nothing for an empty plot."""
    return _figure(svg, caption, source, size) if svg else ""


def _figure(inner: str, caption: str, source: Source | Sequence[Source], size: str) -> str:
    sources = [source] if isinstance(source, Source) else source
    said = " ".join(s.html() for s in sources)
    text = f"<span>{html.escape(caption)}</span> {said}"
    return f'<figure class="{size}">{inner}<figcaption>{text}</figcaption></figure>'


def beside(*parts: str, kind: str = "row") -> str:
    """Parts side by side where there is room."""
    some = "".join(p for p in parts if p)
    return f'<div class="{kind}">{some}</div>' if some else ""


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph.  kind: "", "note" or "warning"."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if text else ""


def heading(text: str) -> str:
    """A heading within a chapter."""
    return f"<h3>{html.escape(_upper(text))}</h3>"


def folded(title: str, text: str) -> str:
    """Text as it is, under a title that opens it."""
    return (
        f"<details><summary>{html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"
    )


def page(title: str, lead: str, strip: str, chapters: Sequence[Chapter], foot: str) -> str:
    """The whole file."""
    links = "".join(f'<a href="#{c.anchor}">{html.escape(c.title)}</a>' for c in chapters)
    body = "".join(_chapter(c) for c in chapters)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)} · petavox report</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{html.escape(title)}</h1><p class=lead>{html.escape(lead)}</p>{strip}"
        f"<nav>{links}</nav></header><main>{body}</main><footer>{html.escape(foot)}</footer>"
        "</body></html>\n"
    )


def strip(steps: Iterable[tuple[str, str, str, str]]) -> str:
    """The steps of a run as a row.  steps: name, state, a short text, anchor or ""."""
    out = ""
    for name, state, text, anchor in steps:
        inner = f"<b>{html.escape(name)}</b><small>{html.escape(text or state)}</small>"
        tag = f'a href="#{anchor}"' if anchor else "span"
        out += f'<{tag} class="step {state.replace(" ", "-")}">{inner}</{tag.split()[0]}>'
    return f"<div class=strip>{out}</div>"


def _chapter(chapter: Chapter) -> str:
    line = f"<p class=line>{html.escape(chapter.line)}</p>" if chapter.line else ""
    badge = (
        f'<span class="badge {chapter.state.replace(" ", "-")}">{html.escape(chapter.state)}</span>'
        if chapter.state
        else ""
    )
    return (
        f'<section id="{chapter.anchor}"><h2>{html.escape(chapter.title)}{badge}</h2>{line}'
        f"{''.join(chapter.parts)}</section>"
    )
