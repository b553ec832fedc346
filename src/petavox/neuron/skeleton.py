"""Skeletons: pieces of blocks joined into one tree per connected object, cleaned, measured.

What it is: graphs of points with radii. What it is not: TEASAR itself (`petavox.neuron.teasar`),
or files (`petavox.neuron.skeleton_files`).

Blocks share one layer of voxels; the pieces on both sides of it end at the same voxel of each
patch of the object in that layer, so they are joined by exact identity of voxels.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph
from scipy.spatial import cKDTree

from petavox.space import VoxelSize

_PAIRS = 100_000
"""About so many pairs of vertices are looked at in one go; a pair takes some 100 bytes."""


@dataclass(frozen=True)
class Piece:
    """The skeleton of one connected part of an object inside one block.

    vertices: (n, 3) int64, voxels, zyx.  edges: (m, 2) int64.  radii: (n,) float64, nm.
    voxels: how many voxels of the part the block owns.
    """

    label: int
    voxels: int
    vertices: np.ndarray
    edges: np.ndarray
    radii: np.ndarray


@dataclass(frozen=True)
class Skeleton:
    """Trees in space. vertices: (n, 3) float64, nm, zyx.  edges: (m, 2).  radii: (n,), nm."""

    vertices: np.ndarray
    edges: np.ndarray
    radii: np.ndarray


@dataclass(frozen=True)
class Measures:
    """cable: nm.  branch_points: three or more edges.  end_points: one.  trees: components."""

    cable: float
    branch_points: int
    end_points: int
    trees: int


def join(
    pieces: Sequence[Piece],
    voxel_size: VoxelSize,
    *,
    scale: float = 1.5,
    const: float = 300.0,
    dust: float = 0.0,
    tick: float = 0.0,
) -> Skeleton:
    """One skeleton from the pieces of an object, in any order.

    Every block sends a path to every face that the object crosses, so a thick object gets paths
    side by side, and loops. TEASAR's own rule is therefore applied once more to the whole: see
    `thinned`, which takes scale and const (nm).
    dust: connected parts of less volume (nm^3) are left out.  tick: end branches shorter than
    this (nm) are removed, shortest first.
    """
    size = np.array(tuple(voxel_size))
    pieces = [p for p in pieces if len(p.vertices)]
    if not pieces:
        return Skeleton(np.zeros((0, 3)), np.zeros((0, 2), np.int64), np.zeros(0))
    shift = np.cumsum([0, *(len(p.vertices) for p in pieces[:-1])])
    voxels, inverse = np.unique(
        np.concatenate([p.vertices for p in pieces]), axis=0, return_inverse=True
    )
    inverse = inverse.reshape(-1)
    radii = np.full(len(voxels), np.inf)
    np.minimum.at(radii, inverse, np.concatenate([p.radii for p in pieces]))
    edges = inverse[np.concatenate([p.edges + s for p, s in zip(pieces, shift, strict=True)])]
    edges = np.unique(np.sort(edges, 1), axis=0)
    edges = edges[edges[:, 0] != edges[:, 1]]
    part = csgraph.connected_components(_matrix(edges, np.ones(len(edges)), len(voxels)), False)[1]
    volume = np.bincount(part[inverse[shift]], [p.voxels for p in pieces], part.max() + 1)
    keep = (volume * voxel_size.volume >= dust)[part]
    whole = _kept(Skeleton((voxels + 0.5) * size, edges, radii), keep)
    return without_ticks(thinned(whole, scale=scale, const=const), tick)


def thinned(graph: Skeleton, *, scale: float, const: float) -> Skeleton:
    """Trees from a graph that may hold loops and paths side by side.

    TEASAR's selection (Sato et al. 2000) on the graph: the root is the end farthest from the
    thickest vertex; ways to it prefer thick edges; the farthest vertex not yet explained adds its
    way to what is kept.

    A ball of radius scale * r + const around each kept vertex explains the inner vertices in it:
    paths side by side are loops of the graph, and go by how near they are. An end of the graph
    goes by its way: a branch that curls back, or passes close by, is in the ball and yet a branch
    of its own. Its way begins where it leaves the inscribed ball (radius r) of a kept vertex; the
    end is explained if the way, with the straight line from there to that vertex, is no longer
    than scale * r + const of that vertex.
    """
    n = len(graph.vertices)
    if n == 0:
        return graph
    e, v, r = graph.edges, graph.vertices, graph.radii
    length = np.linalg.norm(v[e[:, 0]] - v[e[:, 1]], axis=1)
    plain = _matrix(e, length, n)
    eager = _matrix(e, length / (r[e[:, 0]] + r[e[:, 1]] + 1), n)
    part = csgraph.connected_components(plain, False)[1]
    thickest = _first_of(part, np.argsort(-r, kind="stable"))
    far = csgraph.dijkstra(plain, False, indices=thickest, min_only=True)
    roots = _first_of(part, np.argsort(-far, kind="stable"))
    _, parent, _ = csgraph.dijkstra(
        eager, False, indices=roots, min_only=True, return_predecessors=True
    )
    far = csgraph.dijkstra(plain, False, indices=roots, min_only=True)
    step = np.linalg.norm(v - v[np.where(parent < 0, np.arange(n), parent)], axis=1)
    end = np.bincount(e.reshape(-1), minlength=n) == 1
    kept, cleared = np.zeros(n, bool), np.zeros(n, bool)
    left = np.full(n, -1.0)  # of a kept vertex's ball, at the vertices in its inscribed one; nm
    near, ball = cKDTree(v), scale * r + const
    used = []

    def keep(path: list[int]) -> None:
        kept[path] = True
        for centre, inside, distance in _in_balls(near, np.array(path, np.int64), ball):
            own = part[inside] == part[centre]
            cleared[inside[own]] = True
            own &= distance <= r[centre]
            np.maximum.at(left, inside[own], (ball[centre] - distance)[own])

    keep(roots.tolist())
    for tip in np.argsort(-far, kind="stable").tolist():
        if kept[tip] or (_within(tip, parent, step, left) if end[tip] else cleared[tip]):
            continue
        path = [tip]
        while not kept[path[-1]]:
            path.append(int(parent[path[-1]]))
        used += list(itertools.pairwise(path))
        keep(path)
    return _kept(Skeleton(v, np.array(used, np.int64).reshape(-1, 2), r), kept)


def without_ticks(skeleton: Skeleton, tick: float) -> Skeleton:
    """End branches shorter than `tick` nm removed, the shortest first; trees in, trees out.

    An end branch runs from an end point to the next branch point. A tree without branch points
    stays as it is.
    """
    n = len(skeleton.vertices)
    near: list[dict[int, float]] = [{} for _ in range(n)]
    step = np.linalg.norm(
        skeleton.vertices[skeleton.edges[:, 0]] - skeleton.vertices[skeleton.edges[:, 1]], axis=1
    )
    for (a, b), length in zip(skeleton.edges.tolist(), step.tolist(), strict=True):
        near[a][b] = near[b][a] = length
    queue = [(_walk(near, end, tick)[0], end) for end in range(n) if len(near[end]) == 1]
    heapq.heapify(queue)
    while queue and queue[0][0] < tick:
        length, end = heapq.heappop(queue)
        now, path = _walk(near, end, tick)
        if now > length:
            heapq.heappush(queue, (now, end))  # a branch point on its way has gone meanwhile
            continue
        for a, b in itertools.pairwise(path):
            del near[a][b], near[b][a]
    keep = np.array([len(x) > 0 for x in near], bool) if n else np.zeros(0, bool)
    degree = np.bincount(skeleton.edges.reshape(-1), minlength=n)
    return _kept(skeleton, keep | (degree == 0))


def measure(skeleton: Skeleton) -> Measures:
    """Cable length, branch points, end points and number of trees."""
    v, e = skeleton.vertices, skeleton.edges
    degree = np.bincount(e.reshape(-1), minlength=len(v))
    return Measures(
        cable=float(np.linalg.norm(v[e[:, 0]] - v[e[:, 1]], axis=1).sum()),
        branch_points=int((degree >= 3).sum()),
        end_points=int((degree == 1).sum()),
        trees=int(len(v) - len(e)),
    )


def parents(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """An order of the vertices, parents first, and the parent of each vertex (-1 for roots).

    The root of each tree is its thickest vertex. Depth first, so that branches are contiguous.
    """
    n = len(skeleton.vertices)
    near: list[list[int]] = [[] for _ in range(n)]
    for a, b in skeleton.edges.tolist():
        near[a].append(b)
        near[b].append(a)
    parent = np.full(n, -2, np.int64)
    order = []
    for root in np.argsort(-skeleton.radii, kind="stable").tolist():
        if parent[root] != -2:
            continue
        parent[root] = -1
        stack = [root]
        while stack:
            here = stack.pop()
            order.append(here)
            for other in near[here]:
                if parent[other] == -2:
                    parent[other] = here
                    stack.append(other)
    return np.array(order, np.int64), parent


def _walk(near: list[dict[int, float]], end: int, limit: float) -> tuple[float, list[int]]:
    """Length and vertices of the way from an end to the next branch point, infinite without one;
    longer than `limit` it may be cut short."""
    length, path, before = 0.0, [end], -1
    while True:
        here = path[-1]
        ways = [b for b in near[here] if b != before]
        if len(path) > 1 and len(ways) > 1:
            return length, path
        if not ways:
            return np.inf, path
        if length >= limit:
            return length, path
        length += near[here][ways[0]]
        before = here
        path.append(ways[0])


def _within(tip: int, parent: np.ndarray, step: np.ndarray, left: np.ndarray) -> bool:
    """Whether the way from an end to the first vertex with something left is no longer than that.

    parent, step: the next vertex on the way to the root, and how far it is (nm).
    """
    at, way = tip, 0.0
    while left[at] < 0:
        way += step[at]
        at = int(parent[at])
    return bool(way <= left[at])


def _in_balls(
    near: cKDTree, centres: np.ndarray, radius: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Every (centre, vertex inside its ball, distance between them), in batches.

    near: of all vertices.  centres: (k,) vertices.  radius: (n,) nm, of all vertices.
    The lists that the search gives would take gigabytes for a whole axon at once, and a vertex
    in a soma has tens of thousands around it: so batches are cut by what was counted first.
    """
    points = near.data[centres]
    counts = near.query_ball_point(points, radius[centres], return_length=True)
    batch = np.cumsum(counts) // _PAIRS
    for rows in np.split(np.arange(len(centres)), np.flatnonzero(np.diff(batch)) + 1):
        found = near.query_ball_point(points[rows], radius[centres[rows]])
        inside = np.fromiter(itertools.chain.from_iterable(found), np.int64)
        row = np.repeat(rows, [len(x) for x in found])
        distance = np.linalg.norm(near.data[inside] - points[row], axis=1)
        yield centres[row], inside, distance


def _kept(skeleton: Skeleton, keep: np.ndarray | None) -> Skeleton:
    """The part of a skeleton on some vertices, edges sorted."""
    if keep is None:
        keep = np.ones(len(skeleton.vertices), bool)
    number = np.cumsum(keep) - 1
    edges = skeleton.edges[keep[skeleton.edges].all(1)]
    edges = np.sort(number[edges], 1)
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    return Skeleton(skeleton.vertices[keep], edges, skeleton.radii[keep])


def _first_of(part: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The first vertex of each part in an order, by part."""
    _, first = np.unique(part[order], return_index=True)
    return np.asarray(order[first])


def _matrix(edges: np.ndarray, weight: np.ndarray, n: int) -> sparse.csr_array:
    return sparse.csr_array((weight, (edges[:, 0], edges[:, 1])), shape=(n, n))
