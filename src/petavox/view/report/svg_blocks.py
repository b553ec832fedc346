"""A timeline, and maps of blocks, as SVG text.

What it is: values in, text out, in the manner of petavox.view.report.svg. What it is not: a reader
of ledgers.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from petavox.view.report.svg import TOP, Axis, label, number


def timeline(
    rows: Sequence[tuple[str, Sequence[tuple[float, float]], Sequence[float]]],
) -> str:
    """Bars over time: (name, [(begun, seconds)], moments of finished blocks) a row.

    Long pauses in which nothing ran are cut out, and marked.
    """
    spans = sorted((a, a + max(s, 0.0)) for _, bars, _ in rows for a, s in bars)
    if not spans:
        return ""
    fold = _Folded(spans)
    height = TOP + 24 * len(rows) + 30
    left, right = 130, 12
    width = 1060

    def px(moment: float) -> float:
        return left + (width - left - right) * fold.at(moment)

    out = ""
    for cut in fold.cuts:
        x = left + (width - left - right) * cut
        out += (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{height - 26}" class="axis" '
            'stroke-dasharray="3 3"/>'
        )
    for i, (name, bars, dots) in enumerate(rows):
        y = TOP + 24 * i
        out += label(left - 8, y + 14, name, "end", "title")
        for begun, seconds in bars:
            a, b = px(begun), px(begun + seconds)
            out += (
                f'<rect x="{a:.1f}" y="{y + 3}" width="{max(b - a, 1.5):.1f}" height="15" rx="3" '
                f'fill="var(--accent)" fill-opacity="0.55"><title>{html.escape(name)}: '
                f"{seconds:.1f} s</title></rect>"
            )
        out += "".join(
            f'<line x1="{px(d):.1f}" x2="{px(d):.1f}" y1="{y + 5}" y2="{y + 16}" '
            'stroke="var(--ink)" stroke-opacity="0.45"/>'
            for d in dots
        )
    axis = Axis(0.0, max(fold.busy, 1e-9))
    unit, factor = (
        ("s", 1.0) if fold.busy < 300 else ("min", 60.0) if fold.busy < 18000 else ("h", 3600.0)
    )
    for tick in Axis(0.0, axis.high / factor).ticks():
        x = left + (width - left - right) * fold.of_busy(tick * factor)
        out += (
            f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{number(tick)} {unit}</text>'
        )
    return f'<svg viewBox="0 0 {width} {height}" role="img">{out}</svg>'


class _Folded:
    """Time without its pauses."""

    def __init__(self, spans: Sequence[tuple[float, float]]) -> None:
        joined: list[list[float]] = []
        for a, b in spans:
            if joined and a <= joined[-1][1] + 1.0:
                joined[-1][1] = max(joined[-1][1], b)
            else:
                joined.append([a, b])
        self._spans = joined
        self.busy = sum(b - a for a, b in joined) or 1e-9
        self._begin = np.cumsum([0.0] + [b - a for a, b in joined])
        self.cuts = [float(v) / self.busy for v in self._begin[1:-1]]

    def at(self, moment: float) -> float:
        """0 to 1 of a moment."""
        done = 0.0
        for (a, b), begin in zip(self._spans, self._begin, strict=False):
            if moment < a:
                break
            done = begin + min(moment, b) - a
        return float(done) / self.busy

    def of_busy(self, seconds: float) -> float:
        """0 to 1 of seconds at work."""
        return seconds / self.busy


def layers(
    maps: Sequence[tuple[str, np.ndarray]], colours: Sequence[str], names: Sequence[str]
) -> str:
    """Maps of blocks side by side: (title, (y, x) of indices into colours; -1 nothing)."""
    if not maps:
        return ""
    ny, nx = maps[0][1].shape
    cell = max(4.0, min(22.0, 1000 / max(1, nx * min(len(maps), 6))))
    step = max(nx * cell + 14, 54)
    across = max(1, min(len(maps), int(1060 // step)))
    high = ny * cell + 24
    out = ""
    for k, (title, values) in enumerate(maps):
        x0, y0 = (k % across) * step, (k // across) * high
        out += label(x0, y0 + 11, title, "start")
        for (j, i), v in np.ndenumerate(values):
            if v >= 0:
                out += (
                    f'<rect x="{x0 + i * cell:.1f}" y="{y0 + 16 + j * cell:.1f}" '
                    f'width="{cell - 1:.1f}" height="{cell - 1:.1f}" fill="{colours[int(v)]}"/>'
                )
    used = sorted({int(v) for _, m in maps for v in np.unique(m) if v >= 0})
    x, y = 0.0, -(-len(maps) // across) * high + 8
    for v in used:
        out += f'<rect x="{x}" y="{y}" width="11" height="11" fill="{colours[v]}"/>'
        out += label(x + 16, y + 10, names[v], "start")
        x += 34 + 6.5 * len(names[v])
    width = max(across * step, x, 190)
    # as large as it is: a few blocks must not fill the page
    size = f'viewBox="0 0 {width:.0f} {y + 18:.0f}" style="width:{width:.0f}px"'
    return f'<svg {size} role="img">{out}</svg>'
