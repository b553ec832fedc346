"""What stitching leaves and alignment takes: a folder of sections, or any image volume.

    OUT/petavox.json       state and provenance of the whole folder
    OUT/sections           OME-Zarr volume: section number = z, 0 = no data; each section's box
                           starts at (0, 0)
    OUT/transforms/        tiles -> section, one npz per section (nm)
    OUT/report.json, seams.csv, failures.csv

What it is: finding the volume in either, and reading sections at the levels the aligner asks for,
within a memory bound. What it is not: the aligner.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from petavox.align import warp
from petavox.align.texture import texture
from petavox.errors import BadInput
from petavox.space import Box
from petavox.stages.section_damage import SectionDamage
from petavox.volume import opening, state
from petavox.volume.volume import Volume

NAME = "sections"


def image_path(path: str | Path) -> str | Path:
    """Where the image volume is: `path`, or in the folder that stitching wrote."""
    inner = Path(path) / NAME
    return inner if inner.is_dir() else path


def volume_of(path: str | Path) -> Volume:
    """The image volume at `path`, or in the folder that stitching wrote.

    Raises BadInput for anything but uint8 and uint16: levels are rounded to whole grey values,
    which makes black and white of an image from 0 to 1.
    """
    place = image_path(path)
    if place is not path:
        state.require_complete(path)
    volume = opening.open(place)
    if volume.dtype not in (np.uint8, np.uint16):
        raise BadInput(
            f"{path} holds {volume.dtype}: sections are uint8 or uint16. Convert it first."
        )
    return volume


class Sections:
    """Sections of a volume by z, averaged down on demand, newest kept (petavox.align.Source).

    matches: a volume of the same box, true where matches may lie; None for everywhere.
    damage: what finds damage, which is not matched.  memory_mb: bound on what is kept.
    halved: coarse levels are made from one of half the size, which rounds in between.
    Threads may ask for different sections at once.
    """

    def __init__(
        self,
        volume: Volume,
        *,
        matches: Volume | None = None,
        damage: SectionDamage | None = None,
        memory_mb: int = 1024,
    ) -> None:
        self.volume, self.matches, self.most = volume, matches, memory_mb << 20
        self.damage = damage
        # half the size is made once, and coarser levels from it, if two dozen of these fit; always
        # or never, so that what is in memory does not change the result
        self.halved = (volume.shape[1] // 2) * (volume.shape[2] // 2) * 48 < self.most
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()
        self._bytes = 0
        self.cover: dict[int, float] = {}

    def shape(self, k: int) -> tuple[int, int]:
        """Pixels (h, w) of every section's place in the volume."""
        return (self.volume.shape[1], self.volume.shape[2])

    def level(self, k: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
        """Section k averaged down: image (h, w) in the volume's type, and where it is valid."""
        key = (k, factor)
        found = self._held(key)
        if found is None:
            found = self._read(k, factor)
            self._keep(key, found)
        return found

    def texture(self, k: int, factor: int) -> np.ndarray:
        """The texture channel of section k: made one level finer, where outlines are thin."""
        key = (k, -factor)
        found = self._held(key)
        if found is not None:
            return found[0]
        finer = max(1, factor // 2)
        image, valid = self.level(k, finer)
        grain = texture(image, valid)
        if finer < factor:
            mean, _ = warp.average_down(grain, None, factor // finer)
            grain = np.clip(np.rint(2 * mean), -127, 127).astype(np.int8)
        self._keep(key, (grain, np.zeros(0, bool)))
        return grain

    def _held(self, key: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: tuple[int, int], found: tuple[np.ndarray, np.ndarray]) -> None:
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = found
            self._bytes += found[0].nbytes + found[1].nbytes
            while self._bytes > self.most and len(self._kept) > 1:
                _, old = self._kept.popitem(last=False)
                self._bytes -= old[0].nbytes + old[1].nbytes

    def _read(self, k: int, factor: int) -> tuple[np.ndarray, np.ndarray]:
        box = self.volume.box
        h, w = self.shape(k)
        small = (-(-h // factor), -(-w // factor))
        image = np.zeros(small, self.volume.dtype)
        valid = np.zeros(small, bool)
        if factor > 2 and factor % 2 == 0 and self.halved:
            half, ok = self.level(k, 2)
            mean, seen = warp.average_down(half, ok, factor // 2)
            return np.rint(mean).astype(self.volume.dtype), seen
        band = max(factor, (32 << 20) // max(w, 1) // factor * factor)
        for y in range(0, h, band):
            rows = Box(
                (k, box.start[1] + y, box.start[2]),
                (k + 1, box.start[1] + min(y + band, h), box.stop[2]),
            )
            part = self.volume.read(rows)[0]
            ok = part > 0
            if self.matches is not None:
                ok &= self.matches.read(rows)[0] > 0
            mean, seen = warp.average_down(part, ok, factor)
            at = slice(y // factor, y // factor + mean.shape[0])
            image[at], valid[at] = np.rint(mean), seen
        if self.matches is None:
            # black pixels of dense tissue are not missing
            valid = warp.closed(valid, 2 if factor > 1 else 3)
        if self.damage is not None:
            valid &= self.damage(k).match_at(factor, small)
        self.cover[k] = float(valid.mean())
        return image, valid
