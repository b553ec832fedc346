"""Truth beside the voxels: skeletons from the generating centrelines, and the wiring.

What it is: tables and graphs of a box, in nm. What it is not: voxels, or files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from petavox.phantom.capsules import Body, Capsules
from petavox.phantom.fields import WARP_REACH, unwarp_points
from petavox.phantom.organelles import Synapse
from petavox.phantom.tissue import world_of
from petavox.space import Box, VoxelSize


@dataclass(frozen=True)
class Skeletons:
    """The centrelines of all neurites of a box: one graph, sorted by neurite."""

    nodes: np.ndarray
    """(n, 3) float64 nm, zyx; voxel i covers [i, i + 1) times the voxel size"""
    edges: np.ndarray
    """(m, 2) int64: indices of nodes"""
    ids: np.ndarray
    """(n,) uint64: the neurite of each node"""
    radii: np.ndarray
    """(n,) float64 nm: radius of the generating tube (a weight: neighbours squeeze it)"""

    def of(self, neurite: int) -> Skeletons:
        """One neurite's."""
        mine = self.ids == np.uint64(neurite)
        number = np.cumsum(mine) - 1
        edges = self.edges[mine[self.edges[:, 0]]] if len(self.edges) else self.edges
        return Skeletons(self.nodes[mine], number[edges], self.ids[mine], self.radii[mine])

    def swc(self) -> str:
        """SWC text (x y z in nm) of one neurite; each connected part has a root of its own."""
        near: list[list[int]] = [[] for _ in self.nodes]
        for a, b in self.edges.tolist():
            near[a].append(b)
            near[b].append(a)
        lines, number = ["# nm, x y z; made by petavox phantom"], [0] * len(near)
        for start in range(len(near)):
            stack = [(start, -1)] if not number[start] else []
            while stack:
                node, parent = stack.pop()
                if number[node]:
                    continue
                number[node] = len(lines)
                z, y, x = self.nodes[node]
                lines.append(
                    f"{len(lines)} 0 {x:.2f} {y:.2f} {z:.2f} {self.radii[node]:.2f} {parent}"
                )
                stack += [(n, number[node]) for n in near[node] if not number[n]]
        return "\n".join(lines) + "\n"


def skeletons(
    box: Box,
    voxel_size: Sequence[float] | VoxelSize,
    seed: int,
    *,
    grain: float = 165.0,
    scale: float = 1.0,
    bodies: Sequence[Body] = (),
    step: float = 100.0,
) -> Skeletons:
    """The centrelines inside a box: nodes at most `step` nm apart whose voxels lie in the box."""
    v = np.array(list(VoxelSize.of(tuple(voxel_size))))
    world = world_of(seed, grain, scale, tuple(bodies))
    lo, hi = (np.array(box.start) - 0.5) * v, (np.array(box.stop) - 0.5) * v
    caps = world.capsules(lo - WARP_REACH * scale, hi + WARP_REACH * scale)
    inside = _clipped(_graph(caps, seed, scale, step * scale), lo, hi)
    # the world has the centre of voxel i at i, a volume at i + 1/2
    return replace(inside, nodes=inside.nodes + 0.5 * v)


def _graph(caps: Capsules, seed: int, scale: float, step: float) -> Skeletons:
    """Capsules as a graph: shared ends joined, long ones cut, branches tied to their bodies."""
    n = len(caps)
    ends = np.concatenate([caps.a, caps.b])
    ids = np.concatenate([caps.id, caps.id])
    radii = np.concatenate([caps.ra, caps.rb])
    # nodes of the lattice have the same coordinates in every capsule that ends there
    row = np.c_[ids.view(np.int64), np.round(ends * 1000).astype(np.int64)]
    _, once, of = np.unique(row, axis=0, return_index=True, return_inverse=True)
    of = of.reshape(-1)
    nodes, owners, widths = [ends[once]], [ids[once]], [radii[once]]
    edges, total = [], len(once)
    feet = []
    for i in range(n):
        p, q = int(of[i]), int(of[n + i])
        if p == q:
            continue
        cuts = int(np.ceil(np.linalg.norm(caps.b[i] - caps.a[i]) / step))
        t = np.arange(1, cuts) / cuts
        nodes.append(caps.a[i] + t[:, None] * (caps.b[i] - caps.a[i]))
        widths.append(caps.ra[i] + t * (caps.rb[i] - caps.ra[i]))
        owners.append(np.full(cuts - 1, caps.id[i]))
        chain = [p, *range(total, total + cuts - 1), q]
        edges += list(itertools.pairwise(chain))
        total += cuts - 1
        if caps.kind[i] in (Capsules.NECK, Capsules.TRUNK):
            feet.append(p)
    at, who = np.concatenate(nodes), np.concatenate(owners)
    degree = np.bincount(np.array(edges, int).reshape(-1), minlength=total)
    body = np.isin(who, caps.id[caps.kind >= Capsules.THICK])  # the thick ones and the bodies
    on_neck = np.zeros(total, bool)
    necks = np.isin(caps.kind, (Capsules.NECK, Capsules.TRUNK))
    on_neck[of[:n][necks]] = True
    on_neck[of[n:][necks]] = True
    for foot in feet:
        if degree[foot] > 1:
            continue
        mine = np.flatnonzero((who == who[foot]) & body & ~on_neck)
        if len(mine):
            d = np.linalg.norm(at[mine] - at[foot], axis=1)
            if d.min() < 0.75 * step:
                edges.append((foot, int(mine[d.argmin()])))
    where = unwarp_points(seed, scale, at)
    order = np.lexsort((where[:, 2], where[:, 1], where[:, 0], who))
    place = np.empty(total, int)
    place[order] = np.arange(total)
    links = place[np.array(edges, int).reshape(-1, 2)]
    links = np.unique(np.sort(links, axis=1), axis=0)
    return Skeletons(where[order], links, who[order], np.concatenate(widths)[order])


def _clipped(s: Skeletons, lo: np.ndarray, hi: np.ndarray) -> Skeletons:
    inside = np.all((s.nodes >= lo) & (s.nodes < hi), axis=1)
    number = np.cumsum(inside) - 1
    edges = s.edges[inside[s.edges].all(1)] if len(s.edges) else s.edges
    return Skeletons(s.nodes[inside], number[edges], s.ids[inside], s.radii[inside])


def connectome(sites: Iterable[Synapse]) -> dict[tuple[int, int], int]:
    """(pre, post) -> number of synapses, sorted."""
    out: dict[tuple[int, int], int] = {}
    for s in sites:
        for post in s.posts:
            out[s.pre, post] = out.get((s.pre, post), 0) + 1
    return dict(sorted(out.items()))
