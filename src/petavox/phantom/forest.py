"""Trees that fill space: which lattice node belongs to which neurite.

What it is: a forest on a cubic lattice, a pure function of (seed, node), that needs no growth and
no bookkeeping. Three quarters of the nodes lie on straight rods along the three axes that never
meet (the cubic rod packing); each rod node hangs on the node before it on its rod, or, at random,
on the one node of another rod below it (a branch that takes that rod over), or is a root. The
rest are stubs: side branches of one node, or nothing. Every link goes to a node whose
coordinates sum to one less, so links never close a loop, and links of different trees are
disjoint lattice edges: at least one lattice step apart.
What it is not: geometry in nm (petavox.phantom.world) or images.

     x-rod ──●──●──●──●──    ●  parent: the node before it, along the rod
                   │
                   ●         a branch: the parent lies on another rod; what came along this
                   │         rod from below ends one step short of it
                 z-rod

A tree's id is its root: found by following parents, chunk by chunk, as far as need be; chunks are
cached. So any block knows its ids without knowing the world.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from petavox.phantom.rng import hashed, uniform

SIDE = 16
"""Nodes along an edge of a chunk."""
REACH = 2**19
"""Nodes may lie at coordinates from -REACH to REACH - 1; 20 bits each in an id."""
ABSENT, ROOT, ATTACHED = -1, 3, 4
"""Kinds of node beside 0, 1, 2: hangs on the node one step down that axis (z, y, x)."""

Claim = Callable[[list[np.ndarray]], tuple[np.ndarray, np.ndarray]]
"""Lattice coordinates along z, y, x -> which nodes of that grid are swallowed by a larger body
(bool), and the id of the body that may grow branches there (uint64, 0 for none)."""


@dataclass(frozen=True)
class Habit:
    """How a forest grows: probabilities per node, 0..1."""

    root: float = 0.020
    """that a rod node begins a tree"""
    branch: float = 0.035
    """that a rod node hangs on another rod"""
    stub: float = 0.45
    """that a node off the rods is a side branch"""
    attach: float = 0.45
    """that a rod which leaves a larger body is that body's branch"""
    spine: float = 0.75
    """that such a branch is a spine, of 1 to 3 nodes"""


@dataclass(frozen=True)
class Chunk:
    """The nodes of SIDE^3 lattice places from `start`; arrays are (SIDE, SIDE, SIDE)."""

    start: np.ndarray
    kind: np.ndarray
    """int8: ABSENT, 0..2 (axis to the parent), ROOT, ATTACHED."""
    owner: np.ndarray
    """uint64: id of the body an ATTACHED node hangs on, or 0."""
    spine: np.ndarray
    """int8: place along a spine (1, 2, 3), or 0; negative for its last node."""
    last: np.ndarray
    """int16: flat index of the last ancestor inside the chunk."""


class Forest:
    """One forest: `level` goes into its ids, so forests of one world do not share any."""

    def __init__(self, seed: int, level: int, habit: Habit, claim: Claim, cache: int = 1500):
        if not 0.001 <= habit.root <= 1:
            raise ValueError(f"root is {habit.root:g}: trees need roots, 0.001 to 1 per node")
        self.seed = int(hashed(seed, level, 71)[0] >> np.uint64(1))
        self.level, self.habit, self.claim, self.cache = level, habit, claim, cache
        self._chunks: OrderedDict[tuple[int, int, int], Chunk] = OrderedDict()
        self._ids: dict[tuple[int, int, int], int] = {}

    def kinds(self, lo: np.ndarray, hi: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """kind, owner and spine of the nodes lo <= n < hi, as three-dimensional arrays."""
        shape = tuple(hi - lo)
        kind, spine = np.full(shape, ABSENT, np.int8), np.zeros(shape, np.int8)
        owner = np.zeros(shape, np.uint64)
        for c in np.ndindex(*(-(-hi // SIDE) - lo // SIDE)):
            z, y, x = (int(v) for v in np.array(c) + lo // SIDE)
            chunk = self.chunk((z, y, x))
            a, b = np.maximum(chunk.start, lo), np.minimum(chunk.start + SIDE, hi)
            to = tuple(slice(p, q) for p, q in zip(a - lo, b - lo, strict=True))
            of = tuple(slice(p, q) for p, q in zip(a - chunk.start, b - chunk.start, strict=True))
            kind[to], owner[to], spine[to] = chunk.kind[of], chunk.owner[of], chunk.spine[of]
        return kind, owner, spine

    def ids(self, nodes: np.ndarray) -> np.ndarray:
        """The ids of the trees of nodes (n, 3): uint64, 0 for absent ones."""
        return np.array([self._id((z, y, x)) for z, y, x in nodes.tolist()], np.uint64)

    def _id(self, node: tuple[int, int, int]) -> int:
        trail = []
        while True:
            c = (node[0] // SIDE, node[1] // SIDE, node[2] // SIDE)
            chunk = self.chunk(c)
            local = (node[0] % SIDE) * SIDE * SIDE + (node[1] % SIDE) * SIDE + (node[2] % SIDE)
            last = int(chunk.last.flat[local])
            z, rest = divmod(last, SIDE * SIDE)
            y, x = divmod(rest, SIDE)
            end = (c[0] * SIDE + z, c[1] * SIDE + y, c[2] * SIDE + x)
            known = self._ids.get(end)
            kind = int(chunk.kind[z, y, x])
            if known is None and kind == ABSENT:
                known = 0
            elif known is None and kind == ROOT:
                known = self.pack(end)
            elif known is None and kind == ATTACHED:
                known = int(chunk.owner[z, y, x])
            trail.append(end)
            if known is not None:
                if len(self._ids) > 2_000_000:
                    self._ids.clear()
                for t in trail:
                    self._ids[t] = known
                return known
            step = [0, 0, 0]
            step[kind] = 1
            node = (end[0] - step[0], end[1] - step[1], end[2] - step[2])

    def pack(self, node: tuple[int, int, int]) -> int:
        """The id of the tree whose root is `node`."""
        z, y, x = (int(v) + REACH for v in node)
        return self.level << 60 | z << 40 | y << 20 | x

    def chunk(self, c: tuple[int, int, int]) -> Chunk:
        """The chunk at chunk coordinates `c`, computed when first asked for."""
        found = self._chunks.get(c)
        if found is None:
            found = self._chunks[c] = self._make(c)
            if len(self._chunks) > self.cache:
                self._chunks.popitem(last=False)
        else:
            self._chunks.move_to_end(c)
        return found

    def _make(self, c: tuple[int, int, int]) -> Chunk:
        # four nodes below the chunk are looked at too: a spine's place is known from where it left
        below, n = 4, SIDE + 4
        start = np.array(c) * SIDE
        axes = [np.arange(s - below, s + SIDE) for s in start]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        u = uniform(self.seed, z, y, x)
        axis = np.full((n, n, n), ABSENT, np.int8)  # the rod's own axis
        pz, py, px = z & 1, y & 1, x & 1
        axis[(px == 0) & (py == 1)] = 0
        axis[(px == 1) & (pz == 0)] = 1
        axis[(py == 0) & (pz == 1)] = 2
        rod = axis >= 0
        h = self.habit
        # on each rod one axis leads down to another rod, by the parity of the place on the rod
        other = np.where(
            axis == 2,
            np.where(px == 0, 1, 0),
            np.where(axis == 1, np.where(py == 0, 0, 2), np.where(pz == 0, 2, 1)),
        )
        kind = np.where(rod, axis, ABSENT).astype(np.int8)
        kind = np.where(rod & (u < h.root + h.branch), other, kind).astype(np.int8)
        kind = np.where(rod & (u < h.root), ROOT, kind).astype(np.int8)
        stub = ~rod & (u < h.stub)
        kind = np.where(stub, (u / max(h.stub, 1e-9) * 3 % 3).astype(np.int8), kind).astype(np.int8)

        swallowed, owner = self.claim(axes)
        chance = uniform(self.seed + 1, z, y, x)
        spine = np.zeros(kind.shape, np.int8)
        hangs = np.zeros(kind.shape, np.uint64)
        order = [
            tuple(slice(1, None) if a == k else slice(None) for a in range(3)) for k in range(3)
        ]
        before = [
            tuple(slice(None, -1) if a == k else slice(None) for a in range(3)) for k in range(3)
        ]
        parent_gone = np.zeros(kind.shape, bool)
        parent_owner = np.zeros(kind.shape, np.uint64)
        for k in range(3):
            mine = kind[order[k]] == k
            parent_gone[order[k]] |= mine & swallowed[before[k]]
            parent_owner[order[k]] = np.where(mine, owner[before[k]], parent_owner[order[k]])
        grows = parent_gone & (kind == axis) & rod & (chance < h.attach) & (parent_owner != 0)
        hangs[grows] = parent_owner[grows]
        # a spine of m nodes: the node m steps up the rod begins a new tree
        is_spine = grows & (chance < h.attach * h.spine)
        length = 1 + np.floor(chance / max(h.attach * h.spine, 1e-9) * 3 % 3).astype(np.int8)
        spine[is_spine] = np.where(length == 1, -1, 1)[is_spine]
        cut = np.zeros(kind.shape, bool)
        for k in range(3):
            for m in (1, 2, 3):
                up = tuple(slice(m, None) if a == k else slice(None) for a in range(3))
                dn = tuple(slice(None, -m) if a == k else slice(None) for a in range(3))
                line = is_spine[dn] & (axis[dn] == k)
                cut[up] |= line & (length[dn] == m)
                on = line & (length[dn] > m)
                spine[up] = np.where(on, np.where(length[dn] == m + 1, -m - 1, m + 1), spine[up])
        kind = np.where(cut, ROOT, kind).astype(np.int8)
        kind = np.where(parent_gone, np.where(rod, ROOT, ABSENT), kind).astype(np.int8)
        kind[grows] = ATTACHED
        spine[np.where(spine != 0, (kind != ATTACHED) & (kind != axis), False)] = 0
        kind[swallowed] = ABSENT
        # a stub on a node that is not there is not there
        gone = kind == ABSENT
        for k in range(3):
            kind[order[k]] = np.where(
                (kind[order[k]] == k) & ~rod[order[k]] & gone[before[k]], ABSENT, kind[order[k]]
            )
        inner = (slice(below, None),) * 3
        kind, hangs, spine = kind[inner].copy(), hangs[inner].copy(), spine[inner].copy()
        return Chunk(start, kind, hangs, spine, _last(kind))


def _last(kind: np.ndarray) -> np.ndarray:
    """For each node the flat index of its last ancestor inside the chunk, by pointer doubling."""
    flat = np.arange(kind.size).reshape(kind.shape)
    to: np.ndarray = flat.copy()
    for k, step in enumerate((SIDE * SIDE, SIDE, 1)):
        inside = np.arange(SIDE).reshape([-1 if a == k else 1 for a in range(3)]) > 0
        to = np.where((kind == k) & inside, flat - step, to)
    to = to.reshape(-1)
    for _ in range(6):  # a path inside a chunk has fewer than 3 * 16 = 48 < 2^6 links
        to = to[to]
    return to.reshape(kind.shape).astype(np.int16)
