"""Stitching: tiles with rough stage positions -> tile fields in the section.

What it is: the steps in order: shifts of neighbour pairs (petavox.align.seams), places and gains
(places), block matches (seam_blocks), the common lens (lens), and here the tiles' own fields. Tiles
come as a function number -> array. What it is not: files, or rendering (petavox.align.blend).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from petavox.align.frames import Field, Lattice
from petavox.align.lens import lens
from petavox.align.places import cycle_residual, gains, positions
from petavox.align.seam_blocks import blocks
from petavox.align.seams import Seam, StitchSettings, neighbours, seam
from petavox.align.solve import Stiffness, relax

Load = Callable[[int], np.ndarray]
"""Tile number -> (h, w)."""


@dataclass
class Mosaic:
    """One stitched section: fields tile -> section, gains, seams, and the tiles thrown out."""

    fields: dict[int, Field] = field(default_factory=dict)
    gains: dict[int, tuple[float, float]] = field(default_factory=dict)
    seams: list[Seam] = field(default_factory=list)
    residuals: dict[tuple[int, int], float] = field(default_factory=dict)
    cycle_px: float = 0.0
    failures: dict[int, str] = field(default_factory=dict)


def settle(
    places: np.ndarray,
    seams: Sequence[Seam],
    shapes: np.ndarray,
    common: Field | None,
    settings: StitchSettings,
) -> tuple[dict[int, Field], dict[tuple[int, int], float]]:
    """Final fields tile -> section from block matches; the common lens, and a bend per tile.

    Returns fields (pixels) and the median residual of each seam (pixels).
    """
    base, lattices = {}, {}
    for i, at in enumerate(places):
        shape = shapes[i]
        spacing = float(max(shape)) / settings.tile_nodes
        lattices[i] = Lattice.covering((0, 0), shape - 1.0, spacing)
        base[i] = (common or Field()).moved(at)
    matches = [s.matches for s in seams if s.matches is not None and len(s.matches.p) >= 3]
    rigid = not settings.elastic
    solved = relax(
        base,
        lattices,
        matches,
        Stiffness(
            smooth=1e4 if rigid else settings.smooth_px,
            slope=1e4 if rigid else settings.slope_px,
            anchor=1e-5,
            tolerance=settings.tolerance_px,
            rounds=5,
        ),
    )
    residuals = {
        (m.a, m.b): float(np.median(r[w > 0.25])) if (w > 0.25).any() else float("nan")
        for m, r, w in zip(matches, solved.residuals, solved.inliers, strict=True)
    }
    return solved.fields, residuals


def measure(
    load: Load,
    stage: np.ndarray,
    shapes: np.ndarray,
    settings: StitchSettings,
    device: str = "cpu",
    run: Callable[..., Iterable[Any]] = map,
) -> tuple[np.ndarray, list[Seam], np.ndarray]:
    """Positions (n, 2), seams with block matches, and seam residuals of one section's tiles.

    load: tile number -> (h, w) array; called about four times per tile.  stage: (n, 2) pixels.
    run: like `map`; the map of a thread pool does pairs at once. Each pair is a task of its own.
    """
    pairs = neighbours(stage, shapes, least=settings.least_overlap_px)

    def rough_seam(pair: tuple[int, int]) -> Seam:
        i, j = pair
        return seam(load(i), load(j), stage[j] - stage[i], settings, pair, device)

    seams = list(run(rough_seam, pairs))
    places, residual = positions(stage, seams, settings)

    def fine_seam(s: Seam, r: float) -> Seam:
        shift = places[s.a] - places[s.b]
        matched, level = blocks(load(s.a), load(s.b), shift, settings, (s.a, s.b), device)
        believed = s.trust >= settings.least_trust and r < 8.0
        return replace(s, level=level, matches=matched if believed else None)

    return places, list(run(fine_seam, seams, residual)), residual


def finish(
    places: np.ndarray,
    seams: Sequence[Seam],
    shapes: np.ndarray,
    common: Field | None,
    settings: StitchSettings,
) -> Mosaic:
    """A section's fields and gains from what was measured and the common lens field."""
    fields, residuals = settle(places, seams, shapes, common, settings)
    failures = {}
    for i, f in fields.items():
        away = np.abs(f(shapes[i][None] / 2.0)[0] - (places[i] + shapes[i] / 2.0)).max()
        if not f.is_sound or away > 30:
            failures[i] = f"its field is not sound (centre moved by {away:.1f} px)"
            fields[i] = (common or Field()).moved(places[i])
    level = gains(seams, len(places)) if settings.even_out else {i: (1.0, 0.0) for i in fields}
    return Mosaic(fields, level, list(seams), residuals, cycle_residual(seams, settings), failures)


def common_lens(
    seams: Mapping[int, Sequence[Seam]], shapes: np.ndarray, settings: StitchSettings
) -> Field | None:
    """The lens field from the seams of many sections; None if switched off or tiles differ."""
    if not settings.lens or len(np.unique(shapes, axis=0)) != 1:
        return None
    matches = [s.matches for part in seams.values() for s in part if s.matches is not None]
    shape = (int(shapes[0][0]), int(shapes[0][1]))
    return lens(matches, shape, settings.tile_nodes)
