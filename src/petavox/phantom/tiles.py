"""Phantom tiles: a stack of sections as a microscope would see it, with the truth of everything.

>>> s = TileSettings(sections=2, grid=(1, 2), tile=(96, 128), overlap=24, seed=3)
>>> t = TileSet(s)
>>> t.tile(0, 1).shape, t.tile(0, 1).dtype.name
((96, 128), 'uint8')

What it is: settings, the random choice of all distortions and damage, and tiles rendered one by
one; also `redistort` for real sections. What it is not: files (petavox.stages.phantom_tiles) or
scores (petavox.phantom.tiles_truth).

Sections are numbered as listed in the tile table: where two are swapped, `order[k]` is the place
in the tissue of the section listed as k. Pixels and points are (y, x).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field
from scipy import ndimage

from petavox.errors import BadInput
from petavox.phantom.distort import Blob, Line, SectionWarp, lens, smooth_field, unlens
from petavox.phantom.looks import LOOKS
from petavox.phantom.rng import hashed, uniform, white
from petavox.phantom.tissue import tissue
from petavox.settings import Settings
from petavox.space import Box

Section = Callable[[int, Box], np.ndarray]
"""(place in the tissue, box of one plane in aligned pixels) -> grey values (h, w)."""
STEP, PAD = 32.0, 96.0
"""Control points of the elastic fields: distance and margin, px."""


class TileSettings(Settings):
    """What to cut, and how badly. Lengths in px unless the name says nm; ranges are +-."""

    sections: int = Field(default=8, ge=1)
    grid: tuple[int, int] = (3, 3)
    """rows and columns of tiles"""
    tile: tuple[int, int] = (900, 900)
    """height and width of a tile"""
    overlap: int = Field(default=72, ge=0)
    pixel_nm: float = Field(default=8.0, gt=0)
    thickness_nm: float = Field(default=40.0, gt=0)
    seed: int = Field(default=0, ge=0)
    bits: Literal[8, 16] = 8
    look: Literal["serial-section", "fib-sem"] = "serial-section"
    """of the tissue; its own noise is left out, and that of the tiles put in"""
    jitter: float = Field(default=8.0, ge=0)
    """of the stage"""
    lens: float = Field(default=1.0, ge=-20, le=20)
    """displacement at the edges of a tile"""
    rotation: float = Field(default=3.0, ge=0, le=180)
    """degrees, per section"""
    shift: float = Field(default=30.0, ge=0)
    scale: float = Field(default=0.01, ge=0, le=0.2)
    elastic: float = Field(default=8.0, ge=0)
    """standard deviation of the smooth field of a section"""
    elastic_sigma: float = Field(default=250.0, ge=40)
    """over which it varies"""
    noise: float = Field(default=12.0, ge=0)
    """standard deviation, grey levels of 255"""
    shading: float = Field(default=0.05, ge=0, le=0.4)
    folds: int = Field(default=0, ge=0)
    cracks: int = Field(default=0, ge=0)
    dust: int = Field(default=0, ge=0)
    missing_tiles: int = Field(default=0, ge=0)
    missing_sections: int = Field(default=0, ge=0)
    swaps: int = Field(default=0, ge=0)
    turned: int = Field(default=0, ge=0)
    """sections turned by `turn` degrees"""
    turn: float = 170.0
    flipped: int = Field(default=0, ge=0)
    """sections mirrored, left to right"""
    defocused: int = Field(default=0, ge=0)
    """tiles out of focus"""
    fold_width: float = Field(default=14.0, gt=0)
    crack_width: float = Field(default=12.0, gt=0)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a section without jitter."""
        g, t = self.grid, self.tile
        return (
            t[0] * g[0] - self.overlap * (g[0] - 1),
            t[1] * g[1] - self.overlap * (g[1] - 1),
        )

    def with_damage(self) -> TileSettings:
        """The same with one of each kind of damage."""
        many = self.grid[0] * self.grid[1] > 1
        return self.model_copy(
            update={
                "folds": 1, "cracks": 1, "dust": 3, "missing_tiles": int(many),
                "missing_sections": 1, "swaps": 1, "turned": 1,
            }
        )  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong. section: as listed.  place: (y, x) px in section space, or None."""

    kind: str
    section: int
    tile: int | None = None
    place: tuple[float, float] | None = None
    note: str = ""


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


def tissue_sections(s: TileSettings) -> Section:
    """Sections of phantom tissue, without noise, at the settings' pixel; one plane each."""
    look = LOOKS[s.look].model_copy(
        update={
            "noise": 0.0, "streaks": 0.0, "section_gain": 0.0, "section_offset": 0.0, "slices": 1,
        }
    )  # fmt: skip

    def section(z: int, box: Box) -> np.ndarray:
        voxel = (s.thickness_nm, s.pixel_nm, s.pixel_nm)
        return tissue(box, voxel, s.seed, look).image[0]

    return section


class TileSet:
    """Tiles rendered on demand; one section is held at a time.

    section: where the tissue comes from; phantom tissue by default.
    """

    def __init__(self, settings: TileSettings, section: Section | None = None) -> None:
        self.settings, self.layout = settings, layout(settings)
        self._section = section or tissue_sections(settings)
        self._held: tuple[int, Box, np.ndarray, list[np.ndarray]] | None = None

    def aligned(self, k: int, box: Box | None = None) -> tuple[Box, np.ndarray]:
        """The undistorted section listed as k, (h, w) uint8, and its box in aligned pixels."""
        box = box or self.layout.canvas(k)
        return box, self._section(self.layout.order[k], box)

    def tile(self, k: int, i: int) -> np.ndarray:
        """Tile i of section k: (h, w) uint8 or uint16. Raises BadInput for a missing one."""
        s, lay = self.settings, self.layout
        if not lay.has(k, i):
            raise BadInput(f"tile {i} of section {k} is missing in this phantom.")
        y, x = (np.arange(n, dtype=float) for n in s.tile)
        p = np.stack(np.broadcast_arrays(y[:, None], x[None]), -1)
        at = lay.tile_to_section(k, i, p)
        shown, damaged = self._shown(k, at)
        return self._exposed(k, i, shown, damaged, p)

    def _shown(self, k: int, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Grey values and kinds of damage at section points (h, w, 2)."""
        warp = self.layout.warps[k]
        box, spline, fine = self._prepared(k)
        x = at
        for line in warp.lines:
            x = line.unfold(x)
        # the elastic field from a copy four pixels apart: within 0.001 px of the spline
        q = (x + PAD) / 4.0
        e = [
            ndimage.map_coordinates(f, [q[..., 0], q[..., 1]], order=1, mode="nearest")
            for f in fine
        ]
        m, c = warp.matrix, warp.centre
        d = x - c
        u = [
            d[..., 0] * m[j, 0]
            + d[..., 1] * m[j, 1]
            + c[j]
            + warp.shift[j]
            + e[j]
            - box.start[1 + j]
            for j in (0, 1)
        ]
        grey = ndimage.map_coordinates(spline, u, order=3, mode="mirror", prefilter=False)
        return grey.astype(np.float32), warp.damaged(at)

    def _prepared(self, k: int) -> tuple[Box, np.ndarray, list[np.ndarray]]:
        if self._held is None or self._held[0] != k:
            box, image = self.aligned(k)
            warp = self.layout.warps[k]
            spline = ndimage.spline_filter(image.astype(np.float32), order=3, output=np.float32)
            side = [np.arange(0, (n - 1) * STEP + 1, 4.0) - PAD for n in warp.control.shape[1:]]
            grid = np.stack(np.meshgrid(*side, indexing="ij"), -1)
            e = warp.elastic(grid)
            self._held = (k, box, spline, [e[..., 0], e[..., 1]])
        return self._held[1:]

    def _exposed(
        self, k: int, i: int, grey: np.ndarray, damaged: np.ndarray, p: np.ndarray
    ) -> np.ndarray:
        s = self.settings
        u = 2 * uniform(s.seed + 410, k, i, np.arange(6)) - 1
        v = 2 * uniform(s.seed + 411, k, np.arange(2)) - 1
        soft = ndimage.gaussian_filter((damaged == 1).astype(np.float32), 1.2)
        grey = grey * (1 - 0.62 * soft)
        gap = ndimage.gaussian_filter((damaged == 2).astype(np.float32), 0.8)
        grey = grey + gap * (238 - grey)
        dust = ndimage.gaussian_filter((damaged == 3).astype(np.float32), 0.8)
        grey = grey + dust * (14 - grey)
        if (k, i) in self.layout.blurs:
            grey = ndimage.gaussian_filter(grey, self.layout.blurs[k, i])
        half = np.array(s.tile) / 2
        r = (p - half) / half
        shade = 1 + s.shading * (r[..., 0] * u[0] + r[..., 1] * u[1])
        shade -= 0.8 * s.shading * (r[..., 0] ** 2 + r[..., 1] ** 2)
        gain = (0.95 + 0.12 * v[0]) * (1 + 0.06 * u[2])
        out = grey * shade * gain + 10 * v[1] + 5 * u[3]
        out += s.noise * white(s.seed + 412, (k * 4096 + i, 0, 0), (1, *s.tile))[0]
        if s.bits == 16:
            return np.clip(np.rint(out * 220 + 2000), 1, 65535).astype(np.uint16)
        return np.clip(np.rint(out), 1, 255).astype(np.uint8)

    def mask(self, k: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Damage of section k in section pixels: uint8 (0 none, 1 fold, 2 crack, 3 dust, 4 no
        tile there), and the section coordinates (y, x) of its first pixel."""
        s, lay = self.settings, self.layout
        margin = int(np.ceil(2 * s.jitter)) + 4
        h, w = (n + 2 * margin for n in s.size)
        x = np.stack(np.meshgrid(np.arange(h) - margin, np.arange(w) - margin, indexing="ij"), -1)
        x = x.astype(float)
        out = lay.warps[k].damaged(x)
        seen = np.zeros((h, w), bool)
        for i in range(len(lay.nominal)):
            if lay.has(k, i):
                p = lay.section_to_tile(k, i, x)
                seen |= np.all((p >= 0) & (p <= np.array(s.tile) - 1), axis=-1)
        out[~seen] = 4
        return out, (-margin, -margin)

    def facts(self) -> dict[str, Any]:
        """What is wrong with the stack, for JSON."""
        return {"order": list(self.layout.order), "damage": [vars(d) for d in self.layout.damage]}


def redistort(images: np.ndarray, seed: int, **settings: Any) -> tuple[list[np.ndarray], TileSet]:
    """Real sections, distorted by known fields: one tile per section.

    images: (n, h, w) uint8 or uint16, aligned.  settings: of TileSettings (rotation, shift, scale,
    elastic, folds, ...); the tile has the image's size.
    Returns the distorted images, in the order listed, and the TileSet with the truth; outside the
    image the nearest values are repeated. The grey values get no gain, shading or noise unless
    asked for (noise=...).
    """
    if images.ndim != 3 or images.dtype not in (np.uint8, np.uint16):
        raise BadInput(f"images are {images.dtype} {images.shape}: give uint8 or uint16 (n, h, w).")
    n, h, w = images.shape
    given: dict[str, Any] = {
        "sections": n, "grid": (1, 1), "tile": (h, w), "overlap": 0, "seed": seed, "jitter": 0.0,
        "lens": 0.0, "noise": 0.0, "shading": 0.0, "bits": 16 if images.dtype == np.uint16 else 8,
    } | settings  # fmt: skip
    s = TileSettings(**given)

    def section(z: int, box: Box) -> np.ndarray:
        rows = np.clip(np.arange(box.start[1], box.stop[1]), 0, h - 1)
        columns = np.clip(np.arange(box.start[2], box.stop[2]), 0, w - 1)
        return images[z][np.ix_(rows, columns)]

    made = _Plain(s, section)
    return [made.tile(k, 0) for k in range(n) if made.layout.has(k, 0)], made


class _Plain(TileSet):
    """Tiles with the grey values of their source, noise aside."""

    def _exposed(
        self, k: int, i: int, grey: np.ndarray, damaged: np.ndarray, p: np.ndarray
    ) -> np.ndarray:
        s = self.settings
        top = 65535 if s.bits == 16 else 255
        out = np.where(damaged == 1, grey * 0.4, grey)
        out = np.where(damaged == 2, 0.93 * top, out)
        out = np.where(damaged == 3, 0.05 * top, out)
        out = out + s.noise * top / 255 * white(s.seed + 412, (k * 4096 + i, 0, 0), (1, *s.tile))[0]
        kind = np.uint16 if s.bits == 16 else np.uint8
        return np.clip(np.rint(out), 0, top).astype(kind)
