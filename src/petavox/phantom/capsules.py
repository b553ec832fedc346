"""What the tissue is made of: segments with radii, and bodies on request, in nm.

What it is: arrays of capsules, which of them come near a box, and how far points are from them.
What it is not: where neurites run (petavox.phantom.world).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Body:
    """A soma or a vessel: a capsule in nm, zyx. `kind` is soma or vessel."""

    kind: str
    start: tuple[float, float, float]
    stop: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Capsules:
    """Segments with radii, in nm, zyx; all arrays have one entry per capsule."""

    a: np.ndarray
    b: np.ndarray
    ra: np.ndarray
    rb: np.ndarray
    id: np.ndarray
    """uint64: neurite."""
    key: np.ndarray
    """uint64: random bits of the capsule's far node."""
    kind: np.ndarray
    """int8: one of the kinds below. NECK and TRUNK link a branch to the body it hangs on; the a of
    the second of their two capsules lies on that body's centreline."""

    ROD, STUB, SPINE, NECK, THICK, SOMA, VESSEL, TRUNK = range(8)

    def __len__(self) -> int:
        return len(self.id)

    def take(self, which: np.ndarray) -> Capsules:
        """Some of the capsules."""
        return Capsules(*(getattr(self, f.name)[which] for f in fields(self)))

    @staticmethod
    def joined(parts: Sequence[Capsules]) -> Capsules:
        """All capsules of several lots."""
        return Capsules(
            *(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Capsules))
        )

    @staticmethod
    def empty() -> Capsules:
        """No capsules."""
        f, u = np.zeros((0, 3)), np.zeros(0, np.uint64)
        return Capsules(f, f, np.zeros(0), np.zeros(0), u, u, np.zeros(0, np.int8))

    def near(self, lo: np.ndarray, hi: np.ndarray, reach: float) -> Capsules:
        """Those whose bounding box, grown by radius and `reach`, meets the box lo..hi (nm)."""
        r = np.maximum(self.ra, self.rb)[:, None] + reach
        meets = (np.minimum(self.a, self.b) - r < hi) & (np.maximum(self.a, self.b) + r > lo)
        return self.take(meets.all(axis=1))


def closest(points: np.ndarray, caps: Capsules) -> tuple[np.ndarray, np.ndarray]:
    """(distance - radius) of points (n, 3) to capsules (m), and places 0..1 on them: two (n, m)."""
    ab = caps.b - caps.a
    square = np.maximum((ab * ab).sum(1), 1e-9)
    ap = [points[:, k, None] - caps.a[None, :, k] for k in range(3)]
    t = np.clip(sum(p * ab[None, :, k] for k, p in enumerate(ap)) / square, 0, 1)
    d = np.sqrt(sum((p - t * ab[None, :, k]) ** 2 for k, p in enumerate(ap)))
    return d - (caps.ra + t * (caps.rb - caps.ra)), t
