"""Damage of sections, found when it is asked for and kept in a folder.

What it is: the join between a volume and petavox.align.damage for the aligner: where matches may
lie, and how far folds and cracks weaken a section. What it is not: the report on damage; that is
`petavox qc`, which finds the same.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from petavox.align.damage import KINDS, find
from petavox.align.damage_view import DamageSettings
from petavox.align.frames import Lattice
from petavox.align.reduced import Reduced, factor_for
from petavox.provenance import write_atomically
from petavox.space import Box
from petavox.stages.section_reading import piece_for, strips
from petavox.volume.volume import Volume

FOLD, CRACK = 1 + KINDS.index("fold"), 1 + KINDS.index("crack")
LEAST_SHARE = 0.08
"""Share of the area around a control point that must be fold or crack to weaken it."""
FOLD_SPRING, CRACK_SPRING = 0.05, 0.0
"""Stiffness left there: a fold is crumpled tissue, a crack is none."""

Place = tuple[str, tuple[int, int, int, int], float]
"""A damaged place: kind, box (y0, x0, y1, x1) in full pixels, area in square micrometres."""


@dataclass(frozen=True)
class Hurt:
    """match: where matches may lie; kinds: 0 or 1 + place in KINDS; both (y, x), at 1/factor.

    places: in pixels from the section's corner.
    """

    match: np.ndarray
    kinds: np.ndarray
    factor: int
    places: tuple[Place, ...]

    def match_at(self, factor: int, shape: tuple[int, int]) -> np.ndarray:
        """`match` at another level, of `shape` pixels."""
        rows, columns = (
            np.minimum((np.arange(n) * factor + factor // 2) // self.factor, m - 1)
            for n, m in zip(shape, self.match.shape, strict=True)
        )
        return np.asarray(self.match[np.ix_(rows, columns)])

    def springs(self, lattice: Lattice) -> np.ndarray:
        """Stiffness of a control grid (ny, nx), 0..1, after what lies nearest each point."""
        out = np.ones(lattice.shape)
        around = (lattice.spacing / self.factor) ** 2
        for kind, left in ((FOLD, FOLD_SPRING), (CRACK, CRACK_SPRING)):
            at = np.argwhere(self.kinds == kind) * self.factor + (self.factor - 1) / 2
            if not len(at):
                continue
            node = np.rint((at - lattice.origin) / lattice.spacing).astype(int)
            node = np.clip(node, 0, np.array(lattice.shape) - 1)
            share = np.zeros(lattice.shape)
            np.add.at(share, (node[:, 0], node[:, 1]), 1 / around)
            out[share > LEAST_SHARE] = left
        return out


class SectionDamage:
    """Damage by section number. folder: where what was found is kept, for other processes too."""

    def __init__(
        self, volume: Volume, settings: DamageSettings, folder: Path, memory_mb: int = 256
    ) -> None:
        self.volume, self.settings, self.folder = volume, settings, folder
        self.memory_mb = memory_mb

    def __call__(self, k: int) -> Hurt:
        """Damage of section k."""
        kept = self.folder / f"{k:08d}.npz"
        if not kept.exists():
            self._find(k, kept)
        with np.load(kept, allow_pickle=False) as z:
            match = np.unpackbits(z["match"], count=int(np.prod(z["kinds"].shape)))
            places = json.loads(str(z["places"]))
            return Hurt(
                match.reshape(z["kinds"].shape).astype(bool),
                z["kinds"],
                int(z["factor"]),
                tuple((kind, tuple(box), area) for kind, box, area in places),
            )

    def _find(self, k: int, kept: Path) -> None:
        v = self.volume
        plane = (v.shape[1], v.shape[2])
        pixel = v.voxel_size.y
        factor = factor_for(pixel, self.settings.working_nm, plane, self.settings.max_working_px)
        small = Reduced.blank(plane, v.dtype, factor)
        box = Box((k, *v.box.start[1:]), (k + 1, *v.box.stop[1:]))
        piece = piece_for(box.shape, v.dtype.itemsize, factor, self.memory_mb)
        for at, values, seen in strips(v, box, piece):
            small.put(at, values[0], seen[0])
        found = find(small, pixel, self.settings)
        places = [[f.kind, list(f.box), f.area_um2] for f in found.findings]
        held = io.BytesIO()
        np.savez_compressed(
            held,
            match=np.packbits(found.match),
            kinds=found.kinds,
            factor=factor,
            places=json.dumps(places),
        )
        write_atomically(kept, held.getvalue())
