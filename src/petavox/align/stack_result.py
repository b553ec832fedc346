"""What the alignment of a stack gives: fields, and what is known of pairs and landmarks.

What it is: plain values. What it is not: the steps that lead to them (petavox.align.stack).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from petavox.align.frames import Field


@dataclass(frozen=True)
class Pair:
    """What is known of a pair of sections after the last level."""

    a: int
    b: int
    matches: int
    inliers: float
    residual_px: float
    failed: str = ""


@dataclass(frozen=True)
class Landmarks:
    """How far apart the places of a set of landmarks lie at last, on average.

    apart: the sections were in no window together.
    """

    a: int
    b: int
    points: int
    residual_px: float
    apart: bool


@dataclass
class Result:
    """Fields section -> volume (full pixels), what happened to pairs, and who failed and why.

    order: the order of sections that their likeness suggests, where it is not the given one.
    breaks: sections whose place against those before them is a guess (chain.Chain).
    """

    fields: dict[int, Field] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    failures: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    breaks: list[int] = field(default_factory=list)
    landmarks: list[Landmarks] = field(default_factory=list)
