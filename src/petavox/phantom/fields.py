"""Voxels of the geometry: which neurite is nearest, which is second, and by how much.

What it is: the exact two nearest neurites of every voxel of a box, in the measure (distance -
radius) of petavox.phantom.world, at places warped by fine noise so that membranes look grown.
What it is not: grey values, organelles, or ids of glia.

Voxels are cut into bricks of about 64 nm that lie on one lattice through the origin of the world.
For each brick the few capsules that can win anywhere in it are found by a bound, and only those
are evaluated, in an order and in an arithmetic that are the brick's own: a brick gives the same
values whichever box asks for it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from petavox.phantom.capsules import Capsules, closest
from petavox.phantom.rng import smooth_at, smooth_on_grid
from petavox.space import Box

WARPS = ((280.0, 125.0), (100.0, 36.0))
"""Knot distance and greatest shift, nm, of the noise that warps places."""
WARP_REACH = sum(amount for _, amount in WARPS)
"""nm: no place is warped farther along an axis."""
CAP = 130.0
"""Margins are exact up to this, nm, and clipped to it."""
_VOXELS = 2**15  # voxels evaluated at once: arrays that stay in the cache


@dataclass(frozen=True)
class Nearest:
    """Per voxel of `box` (zyx); indices point into the capsules."""

    box: Box
    first: np.ndarray
    """int32: the capsule of the nearest neurite."""
    second: np.ndarray
    """int32: the capsule of the next nearest neurite, -1 where there is none within CAP."""
    depth: np.ndarray
    """float32, nm: distance minus radius of the first; negative inside its tube."""
    axial: np.ndarray
    """float32, nm: distance to the centreline of the first."""
    margin: np.ndarray
    """float32, nm: by how much the second is farther; 0 on the membrane."""


def brick_shape(voxel_size: Sequence[float]) -> np.ndarray:
    """Voxels of a brick, zyx: about 64 nm a side."""
    return np.array([max(1, round(64.0 / v)) for v in voxel_size])


def warped(
    seed: int, scale: float, start: Sequence[int], shape: Sequence[int], voxel_size: Sequence[float]
) -> list[np.ndarray]:
    """Shifts along z, y, x, nm, of the voxels of a box: three float32 arrays."""
    axes = [(np.arange(n) + s) * v for s, n, v in zip(start, shape, voxel_size, strict=True)]
    out = []
    for k in range(3):
        total = np.zeros(tuple(shape), np.float32)
        for i, (knots, amount) in enumerate(WARPS):
            noise = smooth_on_grid(seed + 100 + 10 * i + k, axes, knots * scale)
            noise *= np.float32(amount * scale)
            total += noise
        out.append(total)
    return out


def warp_points(seed: int, scale: float, points: np.ndarray) -> np.ndarray:
    """Places (n, 3) in nm -> where the geometry is looked up for them."""
    out = points.astype(float).copy()
    for k in range(3):
        for i, (knots, amount) in enumerate(WARPS):
            out[:, k] += amount * scale * smooth_at(seed + 100 + 10 * i + k, points, knots * scale)
    return out


def unwarp_points(seed: int, scale: float, points: np.ndarray, rounds: int = 12) -> np.ndarray:
    """Inverse of `warp_points`, by fixed-point iteration: within 0.05 nm."""
    out = points.astype(float).copy()
    for _ in range(rounds):
        out -= warp_points(seed, scale, out) - points
    return out


def nearest(
    box: Box, voxel_size: Sequence[float], caps: Capsules, seed: int, scale: float = 1.0
) -> Nearest:
    """The two nearest neurites of every voxel of `box`, whose centre lies at index * voxel size.

    caps: all that can matter, sorted by id (World.capsules of the box grown by the warp).
    """
    brick = brick_shape(voxel_size)
    big = box.snapped_out(brick.tolist())
    counts = np.array(big.shape) // brick
    shift = warped(seed, scale, big.start, big.shape, voxel_size)

    def in_bricks(a: np.ndarray) -> np.ndarray:
        nz, ny, nx = counts
        split = a.reshape(nz, brick[0], ny, brick[1], nx, brick[2]).transpose(0, 2, 4, 1, 3, 5)
        return np.ascontiguousarray(split).reshape(len_bricks, -1)

    len_bricks, voxels = int(counts.prod()), int(brick.prod())
    index = np.stack(np.meshgrid(*[np.arange(n) for n in counts], indexing="ij"), -1).reshape(-1, 3)
    first_voxel = index * brick + np.array(big.start)
    size = np.array(voxel_size, float)
    centre = (first_voxel + (brick - 1) / 2) * size
    inner = [(np.arange(n) - (n - 1) / 2) * v for n, v in zip(brick, size, strict=True)]
    within = np.stack(np.meshgrid(*inner, indexing="ij"), -1).reshape(-1, 3).astype(np.float32)
    place = np.stack([in_bricks(s) + within[:, k] for k, s in enumerate(shift)])  # (3, bricks, vox)
    del shift
    middle = (place.max(2) + place.min(2)).T / 2
    spread = np.linalg.norm((place.max(2) - place.min(2)).T / 2, axis=1)

    slots, number = _candidates(centre + middle, spread, caps)
    out = [
        np.empty((len_bricks, voxels), t)
        for t in (np.int32, np.int32, np.float32, np.float32, np.float32)
    ]
    order = np.argsort(number, kind="stable")
    lot = max(1, _VOXELS // voxels)
    _, neurite = np.unique(caps.id, return_inverse=True)
    for i in range(0, len_bricks, lot):
        which = order[i : i + lot]
        most = int(number[which].max(initial=0))
        got = _evaluate(place[:, which], centre[which], slots[which, :most], caps, neurite)
        for o, g in zip(out, got, strict=True):
            o[which] = g

    def whole(a: np.ndarray) -> np.ndarray:
        nz, ny, nx = counts
        joined = a.reshape(nz, ny, nx, *brick).transpose(0, 3, 1, 4, 2, 5).reshape(big.shape)
        return np.ascontiguousarray(joined[box.slices(big.start)])

    return Nearest(box, *(whole(a) for a in out))


def _candidates(
    centre: np.ndarray, spread: np.ndarray, caps: Capsules
) -> tuple[np.ndarray, np.ndarray]:
    """Capsules that may win, or be within CAP of winning, in each brick: (bricks, n) and counts.

    Slots are filled in the order of the capsules, then with -1.
    """
    lists: list[np.ndarray] = [np.zeros(0, np.int32)] * len(centre)
    group = np.floor(centre / 256.0).astype(np.int64)
    _, member = np.unique(group, axis=0, return_inverse=True)
    member = member.reshape(-1)
    by_group = np.argsort(member, kind="stable")
    bounds = np.flatnonzero(np.r_[True, np.diff(member[by_group]) > 0, True])
    # small capsules are found through a tree of their middles, the few large ones always tried
    size = np.linalg.norm(caps.b - caps.a, axis=1) / 2 + np.maximum(caps.ra, caps.rb)
    middle = (caps.a + caps.b) / 2
    limit = np.median(size) * 1.5
    small, large = np.flatnonzero(size <= limit), np.flatnonzero(size > limit)
    tree = cKDTree(middle[small])
    longest = 0
    for p, q in itertools.pairwise(bounds):
        rows = by_group[p:q]
        lo, hi = centre[rows].min(0), centre[rows].max(0)
        at = (lo + hi) / 2
        # the whole group: bound by its middle first, so that few capsules are left per brick
        half = np.linalg.norm(hi - lo) / 2 + spread[rows].max()
        start = small[[tree.query(at)[1]]]
        most = float(closest(at[None], caps.take(start))[0][0, 0]) + 2 * half + CAP
        ball = small[tree.query_ball_point(at, most + limit)] if most + limit > 0 else small[:0]
        near = np.sort(np.concatenate([ball, large]))
        f, _ = closest(at[None], caps.take(near))
        some = near[f[0] <= f[0].min() + 2 * half + CAP]
        f, _ = closest(centre[rows], caps.take(some))
        keep = f <= f.min(1, keepdims=True) + 2 * spread[rows][:, None] + CAP
        for r, k in zip(rows, keep, strict=True):
            lists[r] = some[k]
            longest = max(longest, int(k.sum()))
    slots = np.full((len(centre), longest), -1, np.int32)
    number = np.array([len(x) for x in lists])
    for i, x in enumerate(lists):
        slots[i, : len(x)] = x
    return slots, number


def _evaluate(
    place: np.ndarray, centre: np.ndarray, slots: np.ndarray, caps: Capsules, neurite: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Best and second of the capsules in `slots` for a lot of bricks; place is (3, bricks, vox)."""
    shape = place.shape[1:]
    big = np.float32(1e9)
    f1, f2 = np.full(shape, big), np.full(shape, big)
    d1 = np.zeros(shape, np.float32)
    c1, c2 = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    n1 = np.full(shape, -1, np.int32)
    ab_all = caps.b - caps.a
    inverse = 1 / np.maximum((ab_all * ab_all).sum(1), 1e-9)
    for j in range(slots.shape[1]):
        c = slots[:, j]
        valid = c >= 0
        a = (caps.a[c] - centre).astype(np.float32)
        ab = ab_all[c].astype(np.float32)
        inv = inverse[c].astype(np.float32)[:, None]
        p = [place[k] - a[:, k, None] for k in range(3)]
        t = p[0] * ab[:, 0, None]
        t += p[1] * ab[:, 1, None]
        t += p[2] * ab[:, 2, None]
        t *= inv
        np.clip(t, 0, 1, out=t)
        d = np.zeros(shape, np.float32)
        for k in range(3):
            p[k] -= t * ab[:, k, None]
            p[k] *= p[k]
            d += p[k]
        np.sqrt(d, out=d)
        t *= (caps.rb[c] - caps.ra[c]).astype(np.float32)[:, None]
        t += caps.ra[c].astype(np.float32)[:, None]
        f = d - t
        if not valid.all():
            f[~valid] = big
        n = neurite[c].astype(np.int32)[:, None]
        same = n1 == n
        better = f < f1
        # a better one of another neurite pushes the best down; a worse one may be second
        pushed = better & ~same
        np.copyto(f2, f1, where=pushed)
        np.copyto(c2, c1, where=pushed)
        second = (f < f2) & ~same & ~better
        np.copyto(f2, f, where=second)
        np.copyto(c2, np.broadcast_to(c[:, None], shape), where=second)
        np.copyto(f1, f, where=better)
        np.copyto(d1, d, where=better)
        np.copyto(c1, np.broadcast_to(c[:, None], shape), where=better)
        np.copyto(n1, np.broadcast_to(n, shape), where=better)
    margin = np.minimum(f2 - f1, np.float32(CAP))
    c2[margin >= CAP] = -1
    return c1, c2, f1, d1, margin
