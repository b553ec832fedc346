"""Plots as SVG text: they are sharp on any screen and paper, and take the page's colours.

What it is: lines, bars, histograms, a matrix; values in, text out (a timeline and maps of blocks:
svg_blocks). What it is not: a plotting library.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

W, H = 520, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 22, 36
INKS = ("var(--accent)", "var(--a2)", "var(--ok)", "var(--wait)")


@dataclass(frozen=True)
class Axis:
    """One axis: its range, and whether it is logarithmic."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def of(cls, values: np.ndarray, *, log: bool = False, zero: bool = False) -> Axis:
        """An axis that shows all values.  zero: begins at 0."""
        some = np.asarray(values, float)
        some = some[np.isfinite(some) & ((some > 0) | (not log))]
        if not some.size:
            return cls(1.0 if log else 0.0, 10.0 if log else 1.0, log)
        low, high = float(some.min()), float(some.max())
        if log:
            low, high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
            return cls(low, high if high > low else low * 10, True)
        low = min(low, 0.0) if zero else low
        if high <= low:
            high = low + (abs(low) or 1.0)
        room = 0.05 * (high - low)
        return cls(low if zero and low == 0 else low - room, high + room)

    def at(self, value: float) -> float:
        """0 to 1."""
        if self.log:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values to write beside it."""
        if self.log:
            first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
            step = max(1, (last - first) // 6)
            every = [10.0**e for e in range(first, last + 1, step)]
            if last - first <= 2:
                every = [m * v for v in every for m in (1, 2, 5)]
            return [v for v in every if self.low <= v * 1.001 and v <= self.high * 1.001]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(m for m in (1, 2, 5, 10) if (self.high - self.low) / (step * m) <= 6)
        first = math.ceil(self.low / step - 1e-9)
        return [k * step for k in range(first, math.floor(self.high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A short label."""
    if value == 0:
        return "0"
    if abs(value) >= 1e4 or abs(value) < 1e-3:
        exponent = math.floor(math.log10(abs(value)) + 1e-9)
        front = value / 10**exponent
        return f"{'' if abs(front - 1) < 1e-6 else f'{front:g}×'}10{_raised(exponent)}"
    return f"{value:g}" if abs(value) < 1000 else f"{value:,.0f}"


def lines(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x: str,
    y: str,
    log_y: bool = False,
    points: bool = False,
    zero: bool = False,
) -> str:
    """Curves: name -> (xs, ys); gaps where a value is not finite.  points: dots too."""
    some = {k: (np.asarray(a, float), np.asarray(b, float)) for k, (a, b) in series.items()}
    some = {k: v for k, v in some.items() if np.isfinite(v[1]).any()}
    if not some:
        return ""
    across = Axis.of(np.concatenate([a for a, _ in some.values()]))
    up = Axis.of(np.concatenate([b for _, b in some.values()]), log=log_y, zero=zero)
    out = _frame(across, up, x, y)
    for (name, (xs, ys)), ink in zip(some.items(), INKS * 9, strict=False):
        good = np.isfinite(ys)
        at = [(_px(across, a), _py(up, b)) for a, b in zip(xs, np.nan_to_num(ys), strict=True)]
        for part in np.split(np.arange(len(xs)), np.flatnonzero(np.diff(good.astype(int))) + 1):
            if len(part) > 1 and good[part[0]]:
                path = " ".join(f"{at[i][0]:.1f},{at[i][1]:.1f}" for i in part)
                out += f'<polyline points="{path}" fill="none" stroke="{ink}" stroke-width="1.6"/>'
        if points or len(xs) < 3:
            out += "".join(
                f'<circle cx="{at[i][0]:.1f}" cy="{at[i][1]:.1f}" r="2.6" fill="{ink}">'
                f"<title>{html.escape(name)}: {xs[i]:g}, {ys[i]:g}</title></circle>"
                for i in np.flatnonzero(good)
            )
    return _svg(out + _legend(list(some)))


def histogram(
    series: Mapping[str, ArrayLike], *, x: str, y: str, log: bool = False, bins: int = 36
) -> str:
    """Counts of values: name -> values, drawn over one another."""
    some = {k: np.asarray(v, float) for k, v in series.items()}
    some = {k: v[np.isfinite(v) & ((v > 0) | (not log))] for k, v in some.items()}
    some = {k: v for k, v in some.items() if len(v)}
    if not some:
        return ""
    every = np.concatenate(list(some.values()))
    low, high = float(every.min()), float(every.max())
    if not log and high - low <= 60 and (every == np.rint(every)).all():
        # whole numbers: a bar each
        edges = np.arange(low - 0.5, high + 1)
        low, high = edges[0], edges[-1]
    else:
        if high <= low:
            low, high = low - 0.1 * abs(low), high + 0.1 * abs(high) or 1.0
        edges = np.geomspace(low, high, bins + 1) if log else np.linspace(low, high, bins + 1)
        edges[0], edges[-1] = low, high
    across = Axis(low, high, log)
    counts = {k: np.histogram(v, edges)[0] for k, v in some.items()}
    up = Axis.of(np.concatenate(list(counts.values())), zero=True)
    out = _frame(across, up, x, y)
    for (_, count), ink in zip(counts.items(), INKS, strict=False):
        for n, a, b in zip(count.tolist(), edges[:-1], edges[1:], strict=True):
            if n:
                left, right = _px(across, a), _px(across, b)
                top = _py(up, n)
                out += (
                    f'<rect x="{left:.1f}" y="{top:.1f}" '
                    f'width="{max(right - left - 0.6, 0.6):.1f}" '
                    f'height="{H - BOTTOM - top:.1f}" fill="{ink}" fill-opacity="0.6">'
                    f"<title>{n}: {a:.4g} to {b:.4g}</title></rect>"
                )
    return _svg(out + _legend(list(counts)))


def bars(values: Sequence[tuple[str, float, str]], *, x: str) -> str:
    """Horizontal bars: (name, value, label) each, in the order given."""
    if not values:
        return ""
    most = max(v for _, v, _ in values) or 1.0
    out, width = "", 520
    for i, (name, value, label) in enumerate(values):
        y = 4 + 22 * i
        length = 300 * value / most
        out += (
            f'<text x="112" y="{y + 13}" text-anchor="end" class="title">{html.escape(name)}</text>'
        )
        out += (
            f'<rect x="120" y="{y + 2}" width="{max(length, 1):.1f}" height="14" rx="3" '
            'fill="var(--accent)" fill-opacity="0.6"/>'
            f'<text x="{126 + length:.1f}" y="{y + 13}">{html.escape(label)}</text>'
        )
    height = 22 * len(values) + 24
    out += f'<text x="270" y="{height - 6}" text-anchor="middle">{html.escape(x)}</text>'
    return f'<svg viewBox="0 0 {width} {height}" role="img">{out}</svg>'


def matrix(values: np.ndarray, *, x: str, y: str) -> str:
    """A matrix of counts as squares, shaded by log(1 + count)."""
    n = len(values)
    if not n or not values.any():
        return ""
    side = 400 / n
    strong = np.log1p(values) / np.log1p(values.max())
    out = '<rect x="40" y="6" width="400" height="400" fill="none" class="axis"/>'
    for j, i in np.argwhere(values > 0):
        out += (
            f'<rect x="{40 + i * side:.2f}" y="{6 + j * side:.2f}" width="{max(side, 1):.2f}" '
            f'height="{max(side, 1):.2f}" fill="var(--accent)" '
            f'fill-opacity="{0.3 + 0.7 * strong[j, i]:.2f}"><title>{values[j, i]:g}</title></rect>'
        )
    out += f'<text x="240" y="424" text-anchor="middle">{html.escape(x)}</text>'
    out += _upright(26, 206, y)
    return f'<svg viewBox="0 0 480 432" role="img">{out}</svg>'


def _frame(across: Axis, up: Axis, x: str, y: str) -> str:
    out = ""
    for tick in up.ticks():
        at = _py(up, tick)
        out += f'<line x1="{LEFT}" x2="{W - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" class="axis"/>'
        out += f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(tick)}</text>'
    for tick in across.ticks():
        if across.low <= tick <= across.high:
            at = _px(across, tick)
            out += label(at, H - BOTTOM + 15, number(tick))
    out += label((LEFT + W - RIGHT) / 2, H - 5, x, kind="title")
    return out + _upright(12, (TOP + H - BOTTOM) / 2, y)


def label(x: float, y: float, text: str, anchor: str = "middle", kind: str = "") -> str:
    """Text at a place; anchor: start, middle or end; kind: its class in the page's looks."""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}"'
    return f"<text {where}>{html.escape(text)}</text>"


def _upright(x: float, y: float, text: str) -> str:
    turned = f'transform="translate({x:.0f} {y:.0f}) rotate(-90)"'
    return f'<text {turned} text-anchor="middle" class="title">{html.escape(text)}</text>'


def _legend(names: Sequence[str]) -> str:
    if len(names) < 2:
        return ""
    out, x = "", W - RIGHT
    for name, ink in reversed(list(zip(names, INKS * 9, strict=False))):
        x -= 8 + 6 * len(name)
        out += f'<text x="{x}" y="{TOP - 9}" style="fill:{ink}">{html.escape(name)}</text>'
        x -= 12
    return out


def _px(axis: Axis, value: float) -> float:
    return LEFT + (W - LEFT - RIGHT) * axis.at(value)


def _py(axis: Axis, value: float) -> float:
    return H - BOTTOM - (H - TOP - BOTTOM) * axis.at(value)


def _raised(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _svg(inner: str) -> str:
    return f'<svg viewBox="0 0 {W} {H}" role="img">{inner}</svg>'
