"""The truth of phantom tiles, kept and loaded; and the errors of a stitching or an alignment.

>>> truth = TilesTruth.load("tiles")                                     # doctest: +SKIP
>>> truth.seam(stitch)["mean"], truth.adjacent(stitch, align)["mean"]    # doctest: +SKIP

What it is: every transform as a function, in pixels or nm, and the measures of shared meaning:
seam, adjacent, span. What it is not: a way to make tiles (petavox.phantom.tiles).

A method is described by two functions of points (n, 2), (y, x), pixels; NaN outside:
    stitch(k, i, p) -> s     pixel p of tile i of section k -> its stitched section
    align(k, s) -> a         stitched section k -> the aligned stack
k is the section as listed in the tile table, i counts the tiles of the full grid, row by row.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import BadInput
from petavox.phantom.distort import Blob, Line, SectionWarp
from petavox.phantom.tile_layout import Layout
from petavox.phantom.tile_settings import Damage, TileSettings

Stitch = Callable[[int, int, np.ndarray], np.ndarray]
Align = Callable[[int, np.ndarray], np.ndarray]
Figures = dict[str, float]


def stats(errors: np.ndarray) -> Figures:
    """mean, median, p95, max and number of the finite errors."""
    e = errors[np.isfinite(errors)]
    if e.size == 0:
        return {"mean": np.nan, "median": np.nan, "p95": np.nan, "max": np.nan, "n": 0}
    return {
        "mean": float(e.mean()),
        "median": float(np.median(e)),
        "p95": float(np.percentile(e, 95)),
        "max": float(e.max()),
        "n": int(e.size),
    }


class TilesTruth:
    """All true transforms of a set of tiles. Methods ending in _nm take and give nm."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.settings = layout, layout.settings
        self.pixel_nm = layout.settings.pixel_nm

    # ---- transforms

    def tile_to_section(self, k: int, i: int, p: np.ndarray) -> np.ndarray:
        """Pixel of a tile -> true section coordinates, px."""
        return self.layout.tile_to_section(k, i, p)

    def section_to_tile(self, k: int, i: int, x: np.ndarray) -> np.ndarray:
        """True section coordinates -> pixel of a tile (also outside of it)."""
        return self.layout.section_to_tile(k, i, x)

    def section_to_aligned(self, k: int, x: np.ndarray) -> np.ndarray:
        """True section coordinates -> true aligned coordinates, px."""
        return self.layout.warps[k].section_to_aligned(x)

    def aligned_to_section(self, k: int, u: np.ndarray) -> np.ndarray:
        """True aligned coordinates -> section, px; NaN for tissue hidden in a fold."""
        return self.layout.warps[k].aligned_to_section(u)

    def tile_to_aligned(self, k: int, i: int, p: np.ndarray) -> np.ndarray:
        """Pixel of a tile -> true aligned coordinates, px."""
        return self.section_to_aligned(k, self.tile_to_section(k, i, p))

    def tile_to_section_nm(self, k: int, i: int, p: np.ndarray) -> np.ndarray:
        """Position in a tile, nm -> section, nm."""
        return self.tile_to_section(k, i, np.asarray(p) / self.pixel_nm) * self.pixel_nm

    def section_to_tile_nm(self, k: int, i: int, x: np.ndarray) -> np.ndarray:
        """Section, nm -> position in a tile, nm."""
        return self.section_to_tile(k, i, np.asarray(x) / self.pixel_nm) * self.pixel_nm

    def section_to_aligned_nm(self, k: int, x: np.ndarray) -> np.ndarray:
        """Section, nm -> aligned, nm."""
        return self.section_to_aligned(k, np.asarray(x) / self.pixel_nm) * self.pixel_nm

    def aligned_to_section_nm(self, k: int, u: np.ndarray) -> np.ndarray:
        """Aligned, nm -> section, nm."""
        return self.aligned_to_section(k, np.asarray(u) / self.pixel_nm) * self.pixel_nm

    # ---- facts

    @property
    def sections(self) -> list[int]:
        """Listed numbers of the sections that have tiles, in the true order of the tissue."""
        n = len(self.layout.order)
        there = [k for k in range(n) if np.isfinite(self.layout.offsets[k]).any()]
        return sorted(there, key=lambda k: self.layout.order[k])

    @property
    def damage(self) -> tuple[Damage, ...]:
        """Everything that was done to the stack."""
        return self.layout.damage

    def clear_of_damage(self, k: int, x: np.ndarray, px: float) -> np.ndarray:
        """Which section points have no fold, crack or dust within `px`."""
        around = [(0.0, 0.0)] + [
            (r * np.sin(a), r * np.cos(a)) for r in (px / 2, px) for a in np.arange(8) * np.pi / 4
        ]
        bad = np.zeros(x.shape[:-1], bool)
        for d in around:
            bad |= self.layout.warps[k].damaged(x + np.array(d)) != 0
        return ~bad & np.isfinite(x).all(-1)

    # ---- errors

    def seam(
        self,
        stitch: Stitch,
        sections: Sequence[int] | None = None,
        *,
        step: int = 12,
        edge: int = 3,
    ) -> Figures:
        """|stitch(k, i, p_i) - stitch(k, j, p_j)|, px, over places seen by two tiles of one edge.

        Places every `step` px, `edge` px inside both tiles; tiles that share only a corner are
        left out. The position of the stitched section does not matter.
        """
        out = [np.zeros(0)]
        tile = np.array(self.settings.tile)
        for k in self.sections if sections is None else sections:
            off = self.layout.offsets[k]
            for i in range(len(off)):
                for j in range(i + 1, len(off)):
                    if not (self.layout.has(k, i) and self.layout.has(k, j)):
                        continue
                    lo = np.maximum(off[i], off[j]) + edge + 2
                    hi = np.minimum(off[i], off[j]) + tile - edge - 2
                    if (hi - lo < 10).any() or (hi - lo).max() < 0.25 * tile.min():
                        continue
                    x = _grid(lo, hi, step)
                    a = stitch(k, i, self.section_to_tile(k, i, x))
                    b = stitch(k, j, self.section_to_tile(k, j, x))
                    out.append(np.linalg.norm(a - b, axis=-1))
        return stats(np.concatenate(out))

    def forward(
        self, stitch: Stitch, align: Align, k: int, u: np.ndarray, *, clear: float = 20.0
    ) -> np.ndarray:
        """Where a method puts the true aligned places `u` of section k; NaN where it shows none.

        Each place is followed through the tile whose centre is nearest. Places within `clear` px
        of damage are NaN.
        """
        x = self.aligned_to_section(k, u)
        x = np.where(self.clear_of_damage(k, x, clear)[:, None], x, np.nan)
        tile = np.array(self.settings.tile)
        there = [i for i in range(len(self.layout.nominal)) if self.layout.has(k, i)]
        s = np.full(x.shape, np.nan)
        seen = np.isfinite(x).all(-1)
        if not there:
            return s
        centres = self.layout.offsets[k][there] + tile / 2
        gap = np.abs(x[:, None] - centres[None]).max(-1)
        best = np.where(seen, np.array(there)[gap.argmin(1)], -1)
        for i in there:
            mine = np.flatnonzero(best == i)
            if len(mine):
                p = self.section_to_tile(k, i, x[mine])
                inside = np.all((p >= 1) & (p <= tile - 2), axis=-1)
                s[mine[inside]] = stitch(k, i, p[inside])
        out = np.full(x.shape, np.nan)
        known = np.isfinite(s).all(-1)
        if known.any():
            out[known] = align(k, s[known])
        return out

    def _followed(
        self, stitch: Stitch, align: Align, step: int, margin: int | None, clear: float
    ) -> np.ndarray:
        size = self.settings.size
        m = int(max(size) * 0.06 + 60) if margin is None else margin
        u = _grid(np.array([m, m]), np.array(size) - m, step)
        if not len(u):
            raise BadInput(f"a section of {size} px has nothing {m} px from its rim: set margin.")
        return np.stack([self.forward(stitch, align, k, u, clear=clear) for k in self.sections])

    def adjacent(
        self,
        stitch: Stitch,
        align: Align,
        *,
        step: int = 32,
        margin: int | None = None,
        clear: float = 20.0,
    ) -> dict[str, Any]:
        """|T_k(u) - T_k+1(u)|, px, of neighbours in the tissue; also `per_pair` means, `covered`.

        T_k(u): where the method puts the true place u of section k. Neighbours across a missing
        section count. margin: px of the rim left out; default 6 % and 60 px.
        """
        t = self._followed(stitch, align, step, margin, clear)
        e = np.linalg.norm(t[1:] - t[:-1], axis=-1)
        pairs = {
            f"{a}-{b}": round(stats(v)["mean"], 3)
            for a, b, v in zip(self.sections, self.sections[1:], e, strict=False)
        }
        return stats(e) | {"per_pair": pairs, "covered": float(np.isfinite(t).mean())}

    def span(
        self,
        stitch: Stitch,
        align: Align,
        *,
        step: int = 32,
        margin: int | None = None,
        clear: float = 20.0,
    ) -> Figures:
        """|T_first(u) - T_last(u)|, px: what drifts from end to end."""
        t = self._followed(stitch, align, step, margin, clear)
        return stats(np.linalg.norm(t[-1] - t[0], axis=-1))

    def perfect(self) -> tuple[Stitch, Align]:
        """The true stitching and alignment, as a method: all errors are 0."""
        return self.tile_to_section, self.section_to_aligned

    # ---- files

    def arrays(self) -> dict[str, np.ndarray]:
        """What truth.npz keeps."""
        w = self.layout.warps
        return {
            "control": np.stack([v.control for v in w]),
            "matrix": np.stack([v.matrix for v in w]),
            "shift": np.stack([v.shift for v in w]),
            "centre": np.stack([v.centre for v in w]),
            "step_pad": np.array([w[0].step, w[0].pad]),
            "nominal": self.layout.nominal,
            "offsets": self.layout.offsets,
        }

    def facts(self) -> dict[str, Any]:
        """What truth.json keeps."""
        return {
            "settings": self.settings.model_dump(mode="json"),
            "order": list(self.layout.order),
            "damage": [vars(d) for d in self.layout.damage],
            "sections": [w.facts() for w in self.layout.warps],
            "defocus": [[k, i, v] for (k, i), v in self.layout.blurs.items()],
        }

    def npz(self) -> bytes:
        """truth.npz as bytes."""
        held = io.BytesIO()
        np.savez_compressed(held, **self.arrays())  # type: ignore[arg-type]
        return held.getvalue()

    @classmethod
    def load(cls, folder: str | Path) -> TilesTruth:
        """From truth.npz and truth.json of a folder. Raises BadInput where they are not."""
        try:
            facts = json.loads((Path(folder) / "truth.json").read_text())
            with np.load(Path(folder) / "truth.npz", allow_pickle=False) as f:
                a = {name: f[name] for name in f.files}
        except (OSError, ValueError) as e:
            raise BadInput(f"{folder} has no readable truth of tiles: {e}.") from None
        step, pad = a["step_pad"]
        warps = tuple(
            SectionWarp(
                a["matrix"][k], a["shift"][k], a["centre"][k], a["control"][k],
                float(step), float(pad),
                tuple(Line(**_tuples(v)) for v in d["lines"]),
                tuple(Blob(**_tuples(v)) for v in d["blobs"]),
            )
            for k, d in enumerate(facts["sections"])
        )  # fmt: skip
        return cls(
            Layout(
                TileSettings(**facts["settings"]),
                tuple(facts["order"]),
                warps,
                a["nominal"],
                a["offsets"],
                tuple(Damage(**_tuples(d)) for d in facts["damage"]),
                {(k, i): v for k, i, v in facts["defocus"]},
            )
        )


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _grid(lo: np.ndarray, hi: np.ndarray, step: int) -> np.ndarray:
    axes = [np.arange(a, b, step, dtype=float) for a, b in zip(lo, hi, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
