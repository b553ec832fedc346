"""Phantom tiles: a stack of sections as a microscope would see it, with the truth of everything.

>>> s = TileSettings(sections=2, grid=(1, 2), tile=(96, 128), overlap=24, seed=3)
>>> t = TileSet(s)
>>> t.tile(0, 1).shape, t.tile(0, 1).dtype.name
((96, 128), 'uint8')

What it is: tiles rendered one by one from the layout (petavox.phantom.tile_layout); also
`redistort` for real sections. What it is not: files (petavox.stages.phantom_tiles) or scores
(petavox.phantom.tiles_truth).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from petavox.errors import BadInput
from petavox.phantom.looks import LOOKS
from petavox.phantom.rng import uniform, white
from petavox.phantom.tile_layout import PAD, STEP, layout
from petavox.phantom.tile_settings import TileSettings
from petavox.phantom.tissue import tissue
from petavox.space import Box

Section = Callable[[int, Box], np.ndarray]
"""(place in the tissue, box of one plane in aligned pixels) -> grey values (h, w)."""


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
