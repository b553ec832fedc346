"""The geometry of the tissue: neurites as capsules in nm, a pure function of seed and place.

What it is: two forests laid into space (petavox.phantom.forest): a coarse one of thick dendrites
that exists here and there, and a fine one that fills what is left, branches off the thick ones,
and carries boutons, spines and stubs; bodies on request (soma, vessel). Lattices are turned by a
random rotation, jittered and bent by smooth noise.
What it is not: voxels (petavox.phantom.fields) or grey values (petavox.phantom.imaging).

Every neurite is a chain of capsules: a segment a-b with a radius at both ends. A place belongs to
the neurite with the smallest (distance - radius): an additively weighted Voronoi diagram, whose
cells are star-shaped about the centrelines, so that a neurite is in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from petavox.phantom.capsules import Body, Capsules, closest
from petavox.phantom.forest import ABSENT, ATTACHED, ROOT, Forest, Habit
from petavox.phantom.rng import hashed, rotation, smooth_on_grid, uniform

FINE, COARSE, GLIA = 1, 2, 3
"""Levels, the top bits of ids."""
BENDS = ((600.0, 130.0), (1500.0, 450.0), (4000.0, 900.0))
"""Knot distance and amplitude, nm, of the noise that bends the lattices."""
BODY_IDS = 1 << 56
"""Ids of bodies are below this; ids of neurites above."""


class World:
    """All neurites of one seed; asked for by boxes in nm.

    grain: distance of fine rods, nm; it sets the size of ordinary profiles.
    thick, thin: shares of the coarse and of the fine neurites that exist, 0..1.
    """

    def __init__(
        self,
        seed: int,
        *,
        grain: float = 165.0,
        thick: float = 0.8,
        thin: float = 0.7,
        bodies: Sequence[Body] = (),
        scale: float = 1.0,
    ) -> None:
        self.seed, self.bodies, self.thick, self.thin = seed, tuple(bodies), thick, thin
        self.spacing = {FINE: grain * scale, COARSE: 1150.0 * scale}
        self.jitter = {FINE: 0.11, COARSE: 0.12}
        self.scale = scale
        self.rotation = rotation(seed)
        self.salt = {k: int(hashed(seed, k, 9)[0] >> np.uint64(2)) for k in (FINE, COARSE, GLIA)}
        coarse = Habit(root=0.06, branch=0.05, stub=0.0, attach=1.0, spine=0.0)
        self.forests = {
            COARSE: Forest(seed, COARSE, coarse, self._claimed_by_bodies),
            FINE: Forest(seed, FINE, Habit(), self._claimed_by_coarse),
        }
        self._coarse: dict[tuple[int, ...], Capsules] = {}
        self.made: dict[Any, dict[int, Any]] = {}
        """what others made of this world and keep with it"""

    def in_lattice(self, points: np.ndarray) -> np.ndarray:
        """World nm -> the unbent lattice frame, nm."""
        return np.stack([(points * self.rotation[:, k]).sum(-1) for k in range(3)], -1)

    def _positions(self, level: int, axes: Sequence[np.ndarray]) -> np.ndarray:
        """World positions, nm, of the lattice nodes of a grid: (z, y, x, 3)."""
        s = self.spacing[level]
        grid = np.meshgrid(*axes, indexing="ij")
        at = []
        for k in range(3):
            u = grid[k] * s + 2 * s * self.jitter[level] * (
                uniform(self.salt[level] + k, *grid) - 0.5
            )
            for i, (knots, amount) in enumerate(BENDS):
                bend = smooth_on_grid(
                    self.salt[GLIA] + 10 * i + k, [a * s for a in axes], knots * self.scale
                )
                u = u + amount * self.scale * bend
            at.append(u)
        # elementwise, so that the same node lies at the same place in every block
        return np.stack([sum(self.rotation[j, k] * at[k] for k in range(3)) for j in range(3)], -1)

    def body_capsules(self) -> Capsules:
        """The bodies as capsules; ids 1, 2, ... in the order given."""
        n = len(self.bodies)
        if not n:
            return Capsules.empty()
        r = np.array([b.radius for b in self.bodies], float)
        ids = np.arange(1, n + 1).astype(np.uint64)
        kinds = [Capsules.SOMA if b.kind == "soma" else Capsules.VESSEL for b in self.bodies]
        return Capsules(
            np.array([b.start for b in self.bodies], float),
            np.array([b.stop for b in self.bodies], float),
            r, r, ids, hashed(self.seed, 77, ids), np.array(kinds, np.int8),
        )  # fmt: skip

    def _claimed_by_bodies(self, axes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        return self._claimed(COARSE, axes, self.body_capsules(), 500.0 * self.scale)

    def _claimed_by_coarse(self, axes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        margin = 0.4 * self.spacing[FINE]
        p = self._positions(FINE, axes).reshape(-1, 3)
        lo, hi = p.min(0) - margin, p.max(0) + margin
        caps = Capsules.joined([self.coarse(lo, hi), self.body_capsules().near(lo, hi, 0.0)])
        return self._claimed(FINE, axes, caps, margin)

    def _claimed(
        self, level: int, axes: list[np.ndarray], caps: Capsules, margin: float
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = tuple(len(a) for a in axes)
        if not len(caps):
            return np.zeros(shape, bool), np.zeros(shape, np.uint64)
        at = self._positions(level, axes).reshape(-1, 3)
        z, y, x = (np.ascontiguousarray(at[:, k]) for k in range(3))
        best, owner = np.full(len(at), np.inf), np.zeros(len(at), np.uint64)
        middle = (caps.a + caps.b) / 2
        reach = np.linalg.norm(caps.b - caps.a, axis=1) / 2 + np.maximum(caps.ra, caps.rb) + margin
        for i in range(len(caps)):
            m = middle[i]
            some = np.flatnonzero(
                (z - m[0]) ** 2 + (y - m[1]) ** 2 + (x - m[2]) ** 2 < reach[i] ** 2
            )
            if not len(some):
                continue
            f = closest(at[some], caps.take(np.array([i])))[0][:, 0]
            nearer = f < np.minimum(best[some], margin)
            best[some[nearer]] = f[nearer]
            owner[some[nearer]] = 0 if caps.kind[i] == Capsules.VESSEL else caps.id[i]
        return (best < margin).reshape(shape), owner.reshape(shape)

    def _exists(self, ids: np.ndarray) -> np.ndarray:
        """Which trees are there; where one is not, its neighbours fill the room."""
        share = np.where(ids >= np.uint64(COARSE << 60), self.thick, self.thin)
        return (uniform(self.seed + 31, ids) < share) | (ids < np.uint64(BODY_IDS))

    def coarse(self, lo: np.ndarray, hi: np.ndarray) -> Capsules:
        """Thick neurites that meet the box lo..hi (nm), by cached cells of 4 micrometres."""
        cell = 4000.0 * self.scale
        first, last = np.floor(lo / cell).astype(int), np.floor(hi / cell).astype(int)
        parts = [Capsules.empty()]
        for c in np.ndindex(*(last - first + 1)):
            at = tuple(int(v) for v in first + c)
            if at not in self._coarse:
                if len(self._coarse) > 4096:
                    self._coarse.clear()
                corner = np.array(at) * cell
                self._coarse[at] = self._make(COARSE, corner, corner + cell, 700.0 * self.scale)
            parts.append(self._coarse[at])
        caps = Capsules.joined(parts).near(lo, hi, 0.0)
        # a capsule may have come from several cells
        _, once = np.unique(np.c_[caps.a, caps.b], axis=0, return_index=True)
        return caps.take(once)

    def capsules(self, lo: np.ndarray, hi: np.ndarray) -> Capsules:
        """Every capsule that can own a place of the box lo..hi (nm), sorted by id and key."""
        reach = 2.5 * self.spacing[FINE]
        caps = Capsules.joined(
            [
                self._make(FINE, lo, hi, reach),
                self.coarse(lo - reach, hi + reach),
                self.body_capsules().near(lo, hi, reach),
            ]
        )
        return caps.take(np.lexsort((caps.a[:, 0], caps.key, caps.id)))

    def _make(self, level: int, lo: np.ndarray, hi: np.ndarray, reach: float) -> Capsules:
        s, forest = self.spacing[level], self.forests[level]
        corners = self.in_lattice(
            np.array(
                [[(lo - reach, hi + reach)[(i >> k) & 1][k] for k in range(3)] for i in range(8)]
            )
        )
        slack = self.scale * sum(a for _, a in BENDS) + s * (1 + self.jitter[level])
        first = np.floor((corners.min(0) - slack) / s).astype(int)
        last = np.ceil((corners.max(0) + slack) / s).astype(int) + 1
        axes = [np.arange(p, q) for p, q in zip(first, last, strict=True)]
        kind, _owner, spine = forest.kinds(first, last)
        at = self._positions(level, axes)
        inside = ((at > lo - reach - s) & (at < hi + reach + s)).all(-1) & (kind != ABSENT)
        inside[0], inside[:, 0], inside[:, :, 0] = False, False, False  # their parents are not here
        here = np.argwhere(inside)
        if not len(here):
            return Capsules.empty()
        k = kind[inside]
        node = here + first
        own = forest.ids(node)
        step = np.where(k[:, None] == np.arange(3)[None], 1, 0)
        alive = self._exists(own)
        if not alive.all():
            here, k, node, own, step = here[alive], k[alive], node[alive], own[alive], step[alive]
        rod_axis = _rod_axis(node)
        from_ = here - step
        pos = at[tuple(here.T)]
        prev = at[tuple(from_.T)]
        key = hashed(self.salt[level], node[:, 0], node[:, 1], node[:, 2])
        key_prev = hashed(self.salt[level], *(node - step).T)
        sp, sp_prev = spine[tuple(here.T)], spine[tuple(from_.T)]
        r = self._radius(level, own, key, rod_axis < 0, sp)
        r_prev = self._radius(level, own, key_prev, _rod_axis(node - step) < 0, sp_prev)
        lone = (k == ROOT) | (k == ATTACHED)
        r_prev = np.where(lone, r, r_prev)
        form = np.where(
            rod_axis < 0, Capsules.STUB, np.where(sp != 0, Capsules.SPINE, Capsules.ROD)
        )
        if level == COARSE:
            form = np.full(len(k), Capsules.THICK)
        parts = [Capsules(prev, pos, r_prev, r, own, key, form.astype(np.int8))]
        hung = k == ATTACHED
        if hung.any():
            gone = here[hung].copy()
            gone[np.arange(len(gone)), rod_axis[hung]] -= 1
            parts += self._necks(level, at[tuple(gone.T)], pos[hung], own[hung], key[hung], r[hung])
        return Capsules.joined(parts).near(lo, hi, reach)

    def _necks(
        self,
        level: int,
        gone: np.ndarray,
        pos: np.ndarray,
        own: np.ndarray,
        key: np.ndarray,
        r: np.ndarray,
    ) -> list[Capsules]:
        """Links of branches to the bodies they hang on: along the rod, then to the centreline."""
        bodies = self.body_capsules()
        if level == FINE:
            far = 900.0 * self.scale
            bodies = Capsules.joined([bodies, self.coarse(gone.min(0) - far, gone.max(0) + far)])
        f, t = closest(gone, bodies)
        f = np.where(bodies.id[None] == own[:, None], f, np.inf)
        best = f.argmin(1)
        tt = t[np.arange(len(gone)), best][:, None]
        foot = bodies.a[best] + tt * (bodies.b[best] - bodies.a[best])
        thin = r if level == COARSE else 0.3 * r
        kind = np.full(len(own), Capsules.TRUNK if level == COARSE else Capsules.NECK, np.int8)
        return [
            Capsules(gone, pos, thin, r, own, key, kind),
            Capsules(foot, gone, thin, thin, own, key, kind),
        ]

    def calibre(self, ids: np.ndarray) -> np.ndarray:
        """0..1 for each neurite: below 0.62 an axon, below 0.86 a thin dendrite, else irregular."""
        return uniform(self.seed + 17, ids)

    def _radius(
        self, level: int, ids: np.ndarray, key: np.ndarray, stub: np.ndarray, spine: np.ndarray
    ) -> np.ndarray:
        u, v = _unit(key, 0), _unit(key, 20)
        s = self.spacing[level]
        if level == COARSE:
            base = 80 + 470 * uniform(self.seed + 19, ids) ** 1.5
            soma = ids < np.uint64(BODY_IDS)
            return self.scale * np.where(soma, 450.0, base) * (0.75 + 0.45 * u)
        c = self.calibre(ids)
        axon = np.where(v < 0.2, 0.38 + 0.14 * u, 0.04 + 0.12 * u)
        dendrite = 0.2 + 0.24 * u
        odd = 0.02 + 0.48 * u
        r = np.where(c < 0.62, axon, np.where(c < 0.86, dendrite, odd))
        r = np.where(stub, 0.02 + 0.3 * u * u, r)
        r = np.where(spine > 0, 0.03 + 0.06 * u, r)
        return s * np.where(spine < 0, 0.36 + 0.14 * u, r)

    def glia(self, caps: Capsules) -> np.ndarray:
        """The glia that wraps each capsule, by its middle: uint64 ids, 0 for none."""
        cell = 3000.0 * self.scale
        mid = (caps.a + caps.b) / 2
        at = np.floor(mid / cell).astype(np.int64)
        args = tuple(at.T)
        centre = np.stack(
            [(at[:, k] + 0.35 + 0.3 * uniform(self.salt[GLIA] + 50 + k, *args)) for k in range(3)],
            -1,
        )
        radius = (0.16 + 0.18 * uniform(self.salt[GLIA] + 53, *args)) * cell
        there = uniform(self.salt[GLIA] + 54, *args) < 0.55
        inside = (np.linalg.norm(mid - centre * cell, axis=1) < radius) & there
        z, y, x = (at + (1 << 19)).astype(np.uint64).T
        ids = np.uint64(GLIA << 60) | z << np.uint64(40) | y << np.uint64(20) | x
        return np.where(inside, ids, np.uint64(0))


def _unit(key: np.ndarray, shift: int) -> np.ndarray:
    return ((key >> np.uint64(shift)) & np.uint64(0xFFFFF)).astype(float) / 2**20


def _rod_axis(node: np.ndarray) -> np.ndarray:
    """The axis of the rod through each node (n, 3), -1 for nodes off the rods."""
    pz, py, px = (node & 1).T
    out = np.full(len(node), -1)
    out[(px == 0) & (py == 1)] = 0
    out[(px == 1) & (pz == 0)] = 1
    out[(py == 0) & (pz == 1)] = 2
    return out
