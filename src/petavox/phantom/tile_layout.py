"""All distortions and damage of a stack of phantom tiles, drawn from the seed.

What it is: which section is hit by what, where tiles lie, and the warps of sections. What it is
not: images (petavox.phantom.tiles).

Sections are numbered as listed in the tile table: where two are swapped, `order[k]` is the place
in the tissue of the section listed as k. Pixels and points are (y, x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from petavox.errors import BadInput
from petavox.phantom.distort import Blob, Line, SectionWarp, lens, smooth_field, unlens
from petavox.phantom.rng import hashed, uniform
from petavox.phantom.tile_settings import Damage, TileSettings
from petavox.space import Box

STEP, PAD = 32.0, 96.0
"""Control points of the elastic fields: distance and margin, px."""


@dataclass(frozen=True)
class Layout:
    """All distortions of a stack, drawn from the seed; sections by their listed number."""

    settings: TileSettings
    order: tuple[int, ...]
    warps: tuple[SectionWarp, ...]
    nominal: np.ndarray
    """(tiles, 2) px: where the stage said the tiles are"""
    offsets: np.ndarray
    """(sections, tiles, 2) px: where they are; NaN for tiles that are missing"""
    damage: tuple[Damage, ...]
    blurs: dict[tuple[int, int], float]

    def has(self, k: int, i: int) -> bool:
        """True if the tile exists."""
        return bool(np.isfinite(self.offsets[k, i, 0]))

    def tile_to_section(self, k: int, i: int, p: np.ndarray) -> np.ndarray:
        """Tile pixel -> section."""
        p = np.asarray(p, float)
        return self.offsets[k, i] + p + lens(p, self.settings.tile, self.settings.lens)

    def section_to_tile(self, k: int, i: int, x: np.ndarray) -> np.ndarray:
        """Section -> tile pixel (also outside the tile)."""
        return unlens(
            np.asarray(x, float) - self.offsets[k, i], self.settings.tile, self.settings.lens
        )

    def canvas(self, k: int) -> Box:
        """The aligned pixels that the tiles of section k can show, as a box of one plane."""
        s = self.settings
        g = [np.arange(-2 * s.jitter - 4, n + 2 * s.jitter + 5, 24.0) for n in s.size]
        x = np.stack(np.meshgrid(*g, indexing="ij"), -1)
        u = self.warps[k].section_to_aligned(x).reshape(-1, 2)
        lo, hi = np.floor(u.min(0)).astype(int) - 12, np.ceil(u.max(0)).astype(int) + 13
        z = self.order[k]
        return Box((z, int(lo[0]), int(lo[1])), (z + 1, int(hi[0]), int(hi[1])))


def layout(s: TileSettings) -> Layout:
    """All distortions and damage of `s`. Raises BadInput where the damage does not fit."""
    n, tiles = s.sections, s.grid[0] * s.grid[1]
    if s.overlap >= min(s.tile):
        raise BadInput(f"overlap is {s.overlap} px, the tiles are {s.tile}: make it smaller.")
    if abs(s.lens) > 0.05 * min(s.tile):
        raise BadInput(
            f"lens is {s.lens:g} px, over 5 % of the tiles of {s.tile} px: such a lens folds the "
            "image over; make it smaller."
        )
    pick = _Choice(s)
    gone = pick.sections(s.missing_sections, "missing_sections")
    swapped = pick.swaps(s.swaps, gone)
    turned = pick.sections(s.turned, "turned")
    flipped = pick.sections(s.flipped, "flipped")
    order = list(range(n))
    for a, b in swapped:
        order[a], order[b] = order[b], order[a]
    step = (s.tile[0] - s.overlap, s.tile[1] - s.overlap)
    nominal = np.array(
        [[i // s.grid[1] * step[0], i % s.grid[1] * step[1]] for i in range(tiles)], float
    )
    u = (
        2
        * uniform(
            s.seed + 400, np.arange(n)[:, None, None], np.arange(tiles)[None, :, None], np.arange(2)
        )
        - 1
    )
    offsets = nominal[None] + s.jitter * u
    damage = [Damage("missing section", k) for k in gone]
    offsets[gone] = np.nan
    for a, b in swapped:
        damage.append(Damage("swapped", a, note=f"with section {b}"))
        damage.append(Damage("swapped", b, note=f"with section {a}"))
    damage += [Damage("turned", k, note=f"by {s.turn:g} degrees") for k in turned]
    damage += [Damage("flipped", k) for k in flipped]
    for k, i in pick.tiles(s.missing_tiles, gone, "missing_tiles"):
        offsets[k, i] = np.nan
        damage.append(Damage("missing tile", k, i))
    blurs = {}
    for k, i in pick.tiles(s.defocused, gone, "defocused", salt=40):
        if np.isfinite(offsets[k, i, 0]):
            blurs[k, i] = 3.0
            damage.append(Damage("defocus", k, i))
    lines: dict[int, list[Line]] = {}
    blobs: dict[int, list[Blob]] = {}
    for kind, count, salt in (("fold", s.folds, 1), ("crack", s.cracks, 2)):
        for j in range(count):
            k = pick.damaged(j, salt, gone)
            line = _line(s, kind, j, salt)
            lines.setdefault(k, []).append(line)
            damage.append(Damage(kind, k, place=line.centre, note=f"{line.length:.0f} px long"))
    for j in range(s.dust):
        k = pick.damaged(j, 3, gone)
        blob = _blob(s, j)
        blobs.setdefault(k, []).append(blob)
        damage.append(Damage("dust", k, place=blob.centre, note=f"radius {blob.radius:.0f} px"))
    warps = tuple(
        _warp(s, k, k in turned, k in flipped, lines.get(k, []), blobs.get(k, [])) for k in range(n)
    )
    return Layout(s, tuple(order), warps, nominal, offsets, tuple(damage), blurs)


class _Choice:
    """Which sections and tiles are hit: drawn without repetition; first and last are spared."""

    def __init__(self, s: TileSettings) -> None:
        self.s = s
        inner = np.arange(1, s.sections - 1)
        self.left = (
            [int(k) for k in inner[np.argsort(hashed(s.seed + 401, inner))]] if len(inner) else []
        )

    def sections(self, count: int, key: str) -> list[int]:
        if count > len(self.left):
            raise BadInput(
                f"{key} is {count}, but of {self.s.sections} sections only {len(self.left)} are "
                "left to damage (the first and the last are spared): use more sections."
            )
        taken, self.left = self.left[:count], self.left[count:]
        return sorted(taken)

    def swaps(self, count: int, gone: list[int]) -> list[tuple[int, int]]:
        out: list[tuple[int, int]] = []
        for k in list(self.left):
            if len(out) == count:
                break
            if k in self.left and k + 1 in self.left:
                self.left.remove(k)
                self.left.remove(k + 1)
                out.append((k, k + 1))
        if len(out) < count:
            raise BadInput(
                f"swaps is {count}, but only {len(out)} pairs of neighbouring sections are free: "
                "use more sections, or less other damage."
            )
        return out

    def tiles(self, count: int, gone: list[int], key: str, salt: int = 0) -> list[tuple[int, int]]:
        n = self.s.grid[0] * self.s.grid[1]
        free = [(k, i) for k in range(self.s.sections) if k not in gone for i in range(n)]
        if count > len(free):
            raise BadInput(f"{key} is {count}, but there are only {len(free)} tiles.")
        keys = hashed(self.s.seed + 402 + salt, np.array([k * n + i for k, i in free]))
        return sorted(free[int(j)] for j in np.argsort(keys)[:count])

    def damaged(self, j: int, salt: int, gone: list[int]) -> int:
        alive = [k for k in range(self.s.sections) if k not in gone]
        return alive[int(uniform(self.s.seed + 403, j, salt)[0] * len(alive))]


def _line(s: TileSettings, kind: str, j: int, salt: int) -> Line:
    u = uniform(s.seed + 404, j, salt, np.arange(8))
    h, w = s.size
    angle = np.pi * u[2]
    short = min(h, w)
    return Line(
        kind,
        (float(h * (0.25 + 0.5 * u[0])), float(w * (0.25 + 0.5 * u[1]))),
        (float(np.sin(angle)), float(np.cos(angle))),
        float(short * (0.5 + 0.6 * u[3])),
        float((s.fold_width if kind == "fold" else s.crack_width) * (0.8 + 0.5 * u[4])),
        (float(short * 0.02 * u[5]), float(short * (0.25 + 0.3 * u[6])), float(6.28 * u[7])),
        float(max(60.0, short * 0.12)),
    )


def _blob(s: TileSettings, j: int) -> Blob:
    u = uniform(s.seed + 405, j, np.arange(6))
    h, w = s.size
    centre = (float(h * (0.05 + 0.9 * u[0])), float(w * (0.05 + 0.9 * u[1])))
    return Blob(
        centre, float(6 + 26 * u[2] ** 2), (float(6 * u[3]), float(6 * u[4]), float(6 * u[5]))
    )


def _warp(
    s: TileSettings, k: int, turned: bool, flipped: bool, lines: list[Line], blobs: list[Blob]
) -> SectionWarp:
    u = 2 * uniform(s.seed + 406, k, np.arange(4)) - 1
    angle = np.deg2rad(s.rotation * u[0] + (s.turn if turned else 0.0))
    c, q = np.cos(angle), np.sin(angle)
    # (y, x): a turn by `angle` from x towards y
    matrix = (1 + s.scale * u[1]) * np.array([[c, q], [-q, c]])
    if flipped:
        matrix = matrix @ np.diag([1.0, -1.0])
    h, w = s.size
    control = smooth_field(
        int(hashed(s.seed + 407, k)[0] >> np.uint64(2)),
        (h, w),
        s.elastic,
        s.elastic_sigma,
        STEP,
        PAD,
    )
    return SectionWarp(
        matrix,
        s.shift * u[2:4],
        np.array([h / 2, w / 2]),
        control,
        STEP,
        PAD,
        tuple(lines),
        tuple(blobs),
    )
