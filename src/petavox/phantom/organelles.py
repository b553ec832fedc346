"""What lies inside and between neurites: mitochondria, synapses, vesicles.

What it is: places and sizes, nm, drawn per capsule from its own random bits, so that they are the
same whichever box asks. What it is not: voxels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from petavox.phantom.capsules import Capsules, closest
from petavox.phantom.fields import unwarp_points
from petavox.phantom.rng import uniform
from petavox.phantom.world import World

SYNAPSE_REACH = 560.0
"""nm: nothing of a synapse lies farther from its presynaptic node than this, at scale 1: the
radius of the node (below 250), the way to the membrane (180), the zone (125)."""
SURROUND = 600.0
"""nm about a presynaptic node within which the geometry decides about the synapse, at scale 1."""


@dataclass(frozen=True)
class Mitochondrion:
    """A capsule in the unwarped frame of the geometry, inside one neurite."""

    owner: int
    key: int
    a: np.ndarray
    b: np.ndarray
    radius: float


@dataclass(frozen=True)
class Synapse:
    """One presynaptic site with its partners; positions in nm, zyx.

    inside: where the geometry is looked up (before unwarping); toward: unit vector from the
    presynaptic side to the postsynaptic one.
    """

    id: int
    pre: int
    posts: tuple[int, ...]
    position: np.ndarray
    inside: np.ndarray
    toward: np.ndarray
    radius: float
    vesicles: np.ndarray


def mitochondria(world: World, caps: Capsules) -> list[Mitochondrion]:
    """The mitochondria of a set of capsules."""
    out = []
    s = world.scale
    u = [uniform(world.seed + 200 + i, caps.key) for i in range(4)]
    length = np.linalg.norm(caps.b - caps.a, axis=1)
    fat = np.maximum(caps.ra, caps.rb)
    calibre = world.calibre(caps.id)
    chance = np.where(fat > 0.37 * world.spacing[1], 0.16, np.where(calibre > 0.62, 0.05, 0.015))
    fine = (caps.kind == Capsules.ROD) & (u[0] < chance) & (length > 0)
    thick = (caps.kind == Capsules.THICK) & (length > 400 * s)
    for i in np.flatnonzero(fine):
        ab = caps.b[i] - caps.a[i]
        radius = s * (68 + 50 * u[1][i])
        out.append(
            Mitochondrion(
                int(caps.id[i]),
                int(caps.key[i]),
                caps.a[i] - 0.6 * u[2][i] * ab,
                caps.b[i] + 0.5 * u[3][i] * ab,
                radius,
            )
        )
    for i in np.flatnonzero(thick):
        ab = caps.b[i] - caps.a[i]
        number = int(np.clip(np.floor(fat[i] / (150 * s) + u[0][i] - 0.2), 0, 4))
        for k in range(number):
            v = uniform(world.seed + 210 + k, caps.key[i], np.arange(6))
            radius = min(s * (85 + 130 * v[0]), 0.62 * float(fat[i]))
            side = np.cross(ab, v[1:4] - 0.5)
            side /= max(float(np.linalg.norm(side)), 1e-9)
            room = max(0.0, float(min(caps.ra[i], caps.rb[i])) - radius - 25 * s)
            t0 = 0.75 * v[4]
            t1 = t0 + 0.25 + 0.4 * v[5]
            shift = side * room * (0.4 + 0.6 * v[2])
            out.append(
                Mitochondrion(
                    int(caps.id[i]),
                    int(caps.key[i]) ^ k,
                    caps.a[i] + t0 * ab + shift,
                    caps.a[i] + t1 * ab + shift,
                    radius,
                )
            )
    return out


def owners(points: np.ndarray, caps: Capsules) -> tuple[np.ndarray, np.ndarray]:
    """The neurite at each place of the geometry (n, 3), and the margin to the next: (n,), (n,)."""
    f, _ = closest(points, caps)
    best = f.argmin(1)
    rows = np.arange(len(points))
    first = caps.id[best]
    rest = np.where(caps.id[None] == first[:, None], np.inf, f).min(1)
    return first, rest - f[rows, best]


def _sphere(n: int) -> np.ndarray:
    i = np.arange(n) + 0.5
    z = 1 - 2 * i / n
    a = np.pi * (1 + 5**0.5) * i
    r = np.sqrt(1 - z * z)
    return np.stack([z, r * np.sin(a), r * np.cos(a)], 1)


def synapses(
    world: World, caps: Capsules, lo: np.ndarray, hi: np.ndarray, warp_seed: int, density: float
) -> list[Synapse]:
    """Synapses whose presynaptic node lies in the box lo..hi (nm, in the frame of the geometry).

    density: share of boutons that have one, 0..1.  caps: everything within SURROUND of the box.
    """
    fat = caps.rb > 0.37 * world.spacing[1]
    axon = world.calibre(caps.id) < 0.62
    has = uniform(world.seed + 230, caps.key) < density
    bouton = (caps.kind == Capsules.ROD) & fat & axon & has
    trunk = (caps.kind == Capsules.THICK) & (caps.rb < 250 * world.scale) & has
    chosen = (bouton | trunk) & ((caps.b >= lo) & (caps.b < hi)).all(1)
    index = {int(caps.key[i]): int(i) for i in np.flatnonzero(chosen)}
    # a synapse does not depend on the box that asks: each is made once per world
    known = world.made.setdefault(("synapses", warp_seed), {})
    if len(known) > 200_000:
        known.clear()
    made = {k: _synapse(world, caps, i) for k, i in index.items() if k not in known}
    known |= {k: None for k, m in made.items() if m is None}
    fresh = {k: m for k, m in made.items() if m is not None}
    if fresh:
        # to the world: all places at once
        places = [np.concatenate([m.inside[None], m.vesicles]) for m in fresh.values()]
        ends = np.cumsum([len(p) for p in places])
        parts = np.split(unwarp_points(warp_seed, world.scale, np.concatenate(places)), ends[:-1])
        for (k, m), p in zip(fresh.items(), parts, strict=True):
            known[k] = replace(m, position=p[0], vesicles=p[1:])
    return [known[k] for k in sorted(index) if known[k] is not None]


def _synapse(world: World, caps: Capsules, i: int) -> Synapse | None:
    s = world.scale
    node, pre, key = caps.b[i], caps.id[i], caps.key[i]
    u = uniform(world.seed + 240, key, np.arange(4))
    many = u[0] < 0.5
    rays = _sphere(18)
    far = float(caps.rb[i]) + 180 * s
    local = caps.near(node - far, node + far, 150 * s)
    steps = np.arange(10 * s, far, 14 * s)
    own, gap = owners((node + rays[:, None] * steps[None, :, None]).reshape(-1, 3), local)
    out_of = (own != pre).reshape(len(rays), -1)
    gap = gap.reshape(out_of.shape)
    at = out_of.argmax(1)
    good = out_of.any(1) & (at > 0)
    best: tuple[int, int, list[int], np.ndarray, np.ndarray] | None = None
    for r in np.flatnonzero(good):
        k = at[r]
        share = gap[r, k - 1] / max(gap[r, k - 1] + gap[r, k], 1e-9)
        site = node + rays[r] * (steps[k - 1] + share * (steps[k] - steps[k - 1]))
        across = np.cross(rays[r], rays[(r + 7) % len(rays)])
        across /= np.linalg.norm(across)
        up = np.cross(rays[r], across)
        angle = np.arange(8) * np.pi / 4
        ring = (np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * up)[None]
        disc = np.concatenate(
            [np.zeros((1, 3)), (ring * np.array([35, 75])[:, None, None] * s).reshape(-1, 3)]
        )
        seen, _ = owners(site + 22 * s * rays[r] + disc, local)
        names, counts = np.unique(seen, return_counts=True)
        ok = (names != pre) & (counts >= 3) & _neurons(names, world)
        names, counts = names[ok], counts[ok]
        if not len(names):
            continue
        ranked = names[np.lexsort((names, -counts))]
        partners = ranked[:4] if many else ranked[:1]
        merit = (len(partners) * 100 if many else 0) + int(counts.max())
        if best is None or merit > best[0]:
            best = (merit, int(r), [int(p) for p in partners], site, rays[r])
    if best is None:
        return None
    _, _, posts, site, toward = best
    vesicles = _vesicles(world, local, int(pre), int(key), site, toward)
    return Synapse(
        int(key) & (2**63 - 1), int(pre), tuple(posts), site, site, toward,
        s * (70 + 55 * float(u[1])), vesicles,
    )  # fmt: skip


def _neurons(ids: np.ndarray, world: World) -> np.ndarray:
    vessels = [k + 1 for k, b in enumerate(world.bodies) if b.kind == "vessel"]
    return ~np.isin(ids, np.array(vessels, np.uint64))


def _vesicles(
    world: World, caps: Capsules, pre: int, key: int, site: np.ndarray, toward: np.ndarray
) -> np.ndarray:
    """Centres of vesicles behind the site, 40 nm apart, inside the presynaptic neurite: (n, 3)."""
    s, n = world.scale, 160
    v = uniform(world.seed + 260, np.uint64(key), np.arange(n)[:, None], np.arange(4)[None])
    side = v[:, :3] - 0.5
    side -= (side @ toward)[:, None] * toward
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-9)
    depth = s * (34 + 190 * v[:, 3] ** 1.3)
    spread = s * 150 * np.sqrt(v[:, 0])
    places = site - depth[:, None] * toward + spread[:, None] * side
    own, gap = owners(places, caps)
    places = places[(own == np.uint64(pre)) & (gap > 52 * s)]
    apart = np.linalg.norm(places[:, None] - places[None], axis=-1) > 38 * s
    kept = np.zeros(len(places), bool)
    for i in range(len(places)):
        kept[i] = apart[i, kept].all()
    return places[kept]
