"""Organelles drawn into a piece of tissue: mitochondria, nuclei, membranes, synapses.

What it is: grey values and classes changed within the window that a thing can reach, in a fixed
order. What it is not: where organelles lie (petavox.phantom.organelles) or how the piece is imaged
(petavox.phantom.imaging).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from petavox.phantom.capsules import Capsules
from petavox.phantom.fields import WARP_REACH, Nearest
from petavox.phantom.looks import Look
from petavox.phantom.organelles import Mitochondrion, Synapse
from petavox.phantom.rng import uniform
from petavox.space import Box

CLEFT, PRE, POST, MITO, VESICLE, NUCLEUS = 1, 2, 3, 4, 5, 6
"""Classes of voxels in `Tissue.classes`; 0 is none of them."""
CLASS_NAMES = {
    CLEFT: "cleft",
    PRE: "pre",
    POST: "post",
    MITO: "mito",
    VESICLE: "vesicle",
    NUCLEUS: "nucleus",
}


def window_of(
    box: Box, size: Sequence[float], centre: np.ndarray, radius: float
) -> tuple[slice, slice, slice] | None:
    """Slices into an array of `box` that hold a ball; None where they do not meet."""
    v = np.array(size)
    lo = np.floor((centre - radius) / v).astype(int)
    hi = np.ceil((centre + radius) / v).astype(int) + 1
    part = Box(tuple(lo), tuple(np.maximum(hi, lo))).intersection(box)
    return None if part.is_empty else part.slices(box.start)


def offsets(
    box: Box, size: Sequence[float], window: tuple[slice, ...], centre: np.ndarray
) -> list[np.ndarray]:
    """nm from `centre` along z, y, x of the voxels of a window, ready to broadcast."""
    out = []
    for k in range(3):
        at = (np.arange(window[k].start, window[k].stop) + box.start[k]) * size[k] - centre[k]
        out.append(at.reshape([-1 if a == k else 1 for a in range(3)]))
    return out


@dataclass
class Canvas:
    """A grown piece while organelles are drawn into it, in a fixed order."""

    box: Box
    size: tuple[float, float, float]
    shift: list[np.ndarray]
    labels: np.ndarray
    wall: np.ndarray
    image: np.ndarray
    classes: np.ndarray
    look: Look
    scale: float

    def _places(self, window: tuple[slice, slice, slice], centre: np.ndarray) -> list[np.ndarray]:
        """nm from a point of the geometry, of the warped voxels of a window."""
        return [
            d + self.shift[k][window]
            for k, d in enumerate(offsets(self.box, self.size, window, centre))
        ]

    def mitochondrion(self, m: Mitochondrion) -> None:
        """A dark body with cristae, clear of the walls of its neurite."""
        s = self.scale
        middle, half = (m.a + m.b) / 2, float(np.linalg.norm(m.b - m.a)) / 2
        window = window_of(self.box, self.size, middle, half + m.radius + WARP_REACH * s)
        if window is None:
            return
        p = self._places(window, m.a)
        ab = m.b - m.a
        square = max(float(ab @ ab), 1e-9)
        t = np.clip(sum(p[k] * ab[k] for k in range(3)) / square, 0, 1)
        d = np.sqrt(sum((p[k] - t * ab[k]) ** 2 for k in range(3)))
        body = (d < m.radius) & (self.labels[window] == np.uint64(m.owner))
        body &= (self.wall[window] > 17 * s) & (self.classes[window] != MITO)
        if not body.any():
            return
        u = uniform(991, np.uint64(m.key), np.arange(5))
        normal = 2 * u[:3] - 1
        normal /= max(float(np.linalg.norm(normal)), 1e-9)
        phase = sum(p[k] * normal[k] for k in range(3)) / ((24 + 14 * u[3]) * s)
        other = sum(p[k] * normal[k - 1] for k in range(3)) / (90 * s)
        cristae = np.sin(2 * np.pi * (phase + 0.35 * np.sin(2 * np.pi * other + d / (45 * s))))
        rim = np.minimum(m.radius - d, (self.wall[window] - 17 * s) * 1.0)
        grey = self.look.mitochondrion * (0.92 + 0.16 * u[4]) + self.look.cristae * cristae
        grey = grey - 0.3 * (self.look.mitochondrion - self.look.membrane) * np.exp(
            -((rim / (9 * s)) ** 2)
        )
        # a little of the cytoplasm's grain stays visible
        grain = (self.image[window] - self.look.cytoplasm) * 0.25
        self.image[window] = np.where(body, grey + grain, self.image[window]).astype(np.float32)
        self.classes[window][body] = MITO

    def nucleus(self, owner: int, centre: np.ndarray, radius: float) -> None:
        """Chromatin inside a double membrane."""
        s = self.scale
        window = window_of(self.box, self.size, centre, radius + WARP_REACH * s)
        if window is None:
            return
        d = np.sqrt(sum(x * x for x in self._places(window, centre)))
        inside = (d < radius) & (self.labels[window] == np.uint64(owner))
        grain = self.image[window] - self.look.cytoplasm
        grey = 0.88 * self.look.cytoplasm + 0.8 * grain
        rim = self.look.membrane + (grey - self.look.membrane) * (
            1 - np.exp(-(((radius - d) / (20 * s)) ** 2))
        )
        self.image[window] = np.where(inside, rim, self.image[window]).astype(np.float32)
        self.classes[window][inside] = NUCLEUS

    def membranes(self) -> None:
        """Dark lines at the walls."""
        dark = np.exp(-((self.wall / np.float32(self.look.membrane_nm * self.scale)) ** 2))
        self.image += dark * (np.float32(self.look.membrane) - self.image)

    def synapse(self, site: Synapse, labels: np.ndarray, caps: Capsules, near: Nearest) -> None:
        """Vesicles, the cleft, and the densities on both sides."""
        s = self.scale
        for v in site.vesicles:
            self._vesicle(v, site.pre)
        window = window_of(self.box, self.size, site.position, site.radius + 60 * s)
        if window is None:
            return
        d = offsets(self.box, self.size, window, site.position)
        distance = np.sqrt(sum(x * x for x in d))
        own, wall = labels[window], self.wall[window]
        second = near.second[window]
        other = np.where(second >= 0, caps.id[second], np.uint64(0))
        posts = np.array(site.posts, np.uint64)
        is_pre, is_post = own == np.uint64(site.pre), np.isin(own, posts)
        facing = (is_pre & np.isin(other, posts)) | (is_post & (other == np.uint64(site.pre)))
        zone = facing & (distance < site.radius)
        edge = np.clip((site.radius - distance) / (20 * s), 0, 1)
        deep = np.where(is_post, 30.0, 15.0) * s
        dark = np.where(zone, edge * np.exp(-((wall / deep) ** 2)), 0)
        # the pedestal of the presynaptic side
        top = np.exp(-((distance / (34 * s)) ** 4)) * is_pre
        dark = np.maximum(dark, top)
        view = self.image[window]
        view += (dark * (self.look.density - view)).astype(np.float32)
        cleft = zone & (wall < 14 * s)
        classes = self.classes[window]
        classes[zone & is_pre & (wall < 48 * s)] = PRE
        classes[zone & is_post & (wall < 48 * s)] = POST
        classes[cleft] = CLEFT

    def _vesicle(self, centre: np.ndarray, pre: int) -> None:
        s = self.scale
        window = window_of(self.box, self.size, centre, 26 * s)
        if window is None:
            return
        d = np.sqrt(sum(x * x for x in offsets(self.box, self.size, window, centre)))
        mine = (self.labels[window] == np.uint64(pre)) & (self.classes[window] != MITO)
        ring = np.exp(-(((d - 15 * s) / (7 * s)) ** 2)) * mine
        view = self.image[window]
        view += (0.75 * ring * (self.look.membrane - view)).astype(np.float32)
        self.classes[window][mine & (d < 20 * s)] = VESICLE
