"""Images, maps and labels of many lanes on one device, and what is done to all lanes at once.

What it is: device tensors and the operations on them that one step of the batched driver needs:
gather fields of view, freeze and write back, find and remember moves, take the next points.
What it is not: decisions about objects (petavox.ffn.batched), or about where a flood goes
(petavox.ffn.moves).

A `home` is a subvolume with its image and labels; a `lane` is one object map, at work on one object
of its home. All homes are padded to one shape, so that an index into a field of view is one sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from petavox.ffn.canvas import DELETED_FROM, Canvas
from petavox.ffn.moves import moves_of_many, quantised_many
from petavox.space import Box, Zyx, zyx

WINDOW = 32
"""Places of a queue that are looked at in one step."""


class Taken(NamedTuple):
    """What the queues of some lanes gave, a row for each lane."""

    points: Tensor
    """(n, k, 3): where to predict next."""
    chosen: Tensor
    """(n, k) bool: whether there is such a point."""
    weak: Tensor
    """(n,) bool: there would be a point, but the seed has become too weak: the object ends."""
    empty: Tensor
    """(n,) bool: the queue is at its end."""
    restricted: Tensor
    """(n,): points left out because a restriction forbids them."""


class Maps:
    """The state of all lanes.

    canvases: one for each home, with equal models and settings.  objects: lanes of each home.
    """

    def __init__(self, canvases: Sequence[Canvas], device: torch.device, objects: int) -> None:
        first = canvases[0]
        self.device, self.objects, self.settings = device, objects, first.settings
        self.fov, self.deltas = first.spec.fov, first.spec.deltas
        self.move, self.segment = float(first.move_threshold), float(first.segment_threshold)
        self.pad, self.init = float(first.pad), float(first.init)
        shapes = np.array([c.shape for c in canvases])
        self.padded: Zyx = zyx(shapes.max(0).tolist())
        homes, lanes = len(canvases), len(canvases) * objects
        self.shapes = self._whole(shapes)
        self.margin = self._whole(first.margin)
        self.image = torch.zeros((homes, *self.padded), device=device)
        self.labels = torch.zeros((homes, *self.padded), dtype=torch.int32, device=device)
        for home, canvas in enumerate(canvases):
            here = Box.of_shape(canvas.shape).slices()
            self.image[home][here] = torch.from_numpy(canvas.image).to(device)
            self.labels[home][here] = torch.from_numpy(canvas.segmentation).to(device)
        self.forbidden = self._flags([_forbidden(c) for c in canvases])
        self.no_start = self._flags([_no_start(c) for c in canvases])
        self.seed = torch.full((lanes, *self.padded), math.nan, device=device)
        self.start = torch.zeros((lanes, 3), dtype=torch.int64, device=device)
        self.lattice = [n // max(d, 1) + 2 for n, d in zip(self.padded, self.deltas, strict=True)]
        self.visited = torch.zeros(
            (lanes, math.prod(self.lattice)), dtype=torch.bool, device=device
        )
        self.queue = torch.zeros((lanes, 256, 3), dtype=torch.int64, device=device)
        self.waits = torch.ones((lanes, 256), dtype=torch.bool, device=device)
        self.head = torch.zeros(lanes, dtype=torch.int64, device=device)
        self.tail = torch.zeros(lanes, dtype=torch.int64, device=device)
        grid = np.indices(self.fov).reshape(3, -1) - np.array(first.margin)[:, None]
        self._view = self._whole((grid[0] * self.padded[1] + grid[1]) * self.padded[2] + grid[2])

    def _whole(self, values: Sequence[int] | np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.int64), device=self.device)

    def _flags(self, arrays: list[np.ndarray | None]) -> Tensor | None:
        if all(a is None for a in arrays):
            return None
        out = torch.zeros((len(arrays), *self.padded), dtype=torch.bool, device=self.device)
        for home, array in enumerate(arrays):
            if array is not None:
                out[home][Box.of_shape(array.shape).slices()] = torch.from_numpy(array)
        return out

    # -- places ----------------------------------------------------------------------------

    def flat(self, which: Tensor, points: Tensor) -> Tensor:
        """Indices into a flattened (N, z, y, x) tensor; which (...), points (..., 3)."""
        z, y, x = points.unbind(-1)
        return ((which * self.padded[0] + z) * self.padded[1] + y) * self.padded[2] + x

    def home(self, lanes: Tensor) -> Tensor:
        """The homes of lanes."""
        return torch.div(lanes, self.objects, rounding_mode="floor")

    def inside(self, homes: Tensor, points: Tensor) -> Tensor:
        """Whether the field of view at each point (n, k, 3) lies in its home (n,)."""
        high = (self.shapes[homes] - self.margin).unsqueeze(1)
        return ((points >= self.margin) & (points < high)).all(-1)

    def forbidden_at(self, flat: Tensor) -> Tensor:
        """Whether a restriction forbids a field of view at flat indices of homes."""
        if self.forbidden is None:
            return torch.zeros_like(flat, dtype=torch.bool)
        return self.forbidden.view(-1)[flat]

    # -- one object ------------------------------------------------------------------------

    def begin(self, lane: int, start: Zyx) -> None:
        """Put a seed on the empty map of a lane."""
        self.seed[(lane, *start)] = self.init
        self.start[lane] = self._whole(start)
        self.visited[lane] = False
        self.waits[lane] = True
        self.queue[lane, 0] = self.start[lane]
        self.head[lane], self.tail[lane] = 0, 1

    def make_room(self, longest: int) -> None:
        """Let the queues hold `longest` points, and be looked at beyond their ends."""
        while self.queue.shape[1] < longest + WINDOW:
            self.queue = torch.cat([self.queue, torch.zeros_like(self.queue)], 1)
            self.waits = torch.cat([self.waits, torch.ones_like(self.waits)], 1)

    # -- a step of all lanes ---------------------------------------------------------------

    def take(self, lanes: Tensor, most: int) -> Taken:
        """Take up to `most` points from the queue of each lane, in order, no two of which share a
        voxel. With most = 1 this is the plain driver's choice. lanes: (n,), each once.
        """
        places = torch.arange(WINDOW, device=self.device)
        at = self.head[lanes].unsqueeze(1) + places
        queued = at < self.tail[lanes].unsqueeze(1)
        row = lanes.unsqueeze(1)
        points, homes = self.queue[row, at], self.home(lanes)
        there = queued & self.waits[row, at] & self.inside(homes, points)
        there &= ~self.visited[row, self._cell(lanes, points)]
        # NaN passes: a place never predicted is as good as the seed
        there &= ~(self.seed.view(-1)[self.flat(row, points)] < self.move)
        in_home = self.flat(homes.unsqueeze(1), points)
        there &= self.labels.view(-1)[in_home] <= 0
        weak = self.seed.view(-1)[self.flat(lanes, self.start[lanes])] < self.move
        weak &= there.any(1)
        forbidden = self.forbidden_at(in_home) & there
        open_ = there & ~forbidden & ~weak.unsqueeze(1)
        free, picks, chosen = open_.clone(), [], []
        last = torch.full_like(lanes, WINDOW - 1)
        done = torch.zeros_like(open_)
        for _ in range(most):
            any_, pick = free.any(1), free.int().argmax(1)
            last = torch.where(any_, pick, last)
            done |= any_.unsqueeze(1) & (places == pick.unsqueeze(1))
            here = points.gather(1, pick.view(-1, 1, 1).expand(-1, 1, 3))
            apart = ((points - here).abs() >= self._whole(self.fov)).any(-1)
            free &= apart | ~any_.unsqueeze(1)
            picks.append(here[:, 0])
            chosen.append(any_)
        some = torch.stack(chosen, 1)
        # what was looked at and not kept for later is out of the queue
        gone = queued & (places <= last.unsqueeze(1)) & (~open_ | done)
        self.waits[row, at] &= ~gone
        kept = ~gone
        step = torch.where(kept.any(1), kept.int().argmax(1), WINDOW)
        self.head[lanes] = torch.minimum(self.head[lanes] + step, self.tail[lanes])
        restricted = (forbidden & gone & ~weak.unsqueeze(1)).sum(1)
        empty = ~some.any(1) & (self.head[lanes] >= self.tail[lanes])
        return Taken(torch.stack(picks, 1), some, weak, empty, restricted)

    def views(self, lanes: Tensor, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image, map (NaN where never predicted) and flat indices of fields of view, (n, ...)."""
        at = self.flat(lanes, points).unsqueeze(1) + self._view
        image = self.image.view(-1)[self.flat(self.home(lanes), points).unsqueeze(1) + self._view]
        shape = (len(lanes), *self.fov)
        return image.view(shape), self.seed.view(-1)[at].view(shape), at

    def write(
        self, lanes: Tensor, points: Tensor, logits: Tensor, old: Tensor, at: Tensor
    ) -> Tensor:
        """Freeze, write back, and queue the moves. Returns (n, 2): change of voxels at or above the
        segment threshold, and voxels deleted. Rows of one lane must not share voxels."""
        freeze = self.settings.disco_threshold
        if freeze >= 0:
            share = (logits >= self.move).flatten(1).sum(1).double() / math.prod(self.fov)
            # comparisons with NaN are false: what was never predicted is free to rise
            frozen = (old < 0) & (logits > old) & (share > freeze).view(-1, 1, 1, 1)
            logits = torch.where(frozen, old, logits)
        more = (logits >= self.segment).flatten(1).sum(1) - (old >= self.segment).flatten(1).sum(1)
        deleted = ((old >= DELETED_FROM) & (logits < 0)).flatten(1).sum(1)
        self.seed.view(-1)[at] = logits.flatten(1)
        self.visited[lanes, self._cell(lanes, points.unsqueeze(1))[:, 0]] = True
        _, offsets, worth = moves_of_many(logits, self.deltas, self.move)
        self._push(lanes, points.unsqueeze(1) + offsets, worth)
        return torch.stack([more, deleted], 1)

    def _push(self, lanes: Tensor, points: Tensor, worth: Tensor) -> None:
        """Append points (n, k, 3) where worth (n, k); rows of one lane follow one another."""
        count = worth.sum(1)
        before = torch.zeros_like(count)
        if len(lanes) > 1:  # of earlier rows of the same lane
            same = (lanes.unsqueeze(0) == lanes.unsqueeze(1)).tril(-1)
            before = (same * count).sum(1)
        at = (self.tail[lanes] + before).unsqueeze(1) + worth.cumsum(1) - 1
        row = lanes.unsqueeze(1).expand_as(at)
        self.queue[row[worth], at[worth]] = points[worth]
        self.tail.index_add_(0, lanes, count)

    def _cell(self, lanes: Tensor, points: Tensor) -> Tensor:
        """Where the visited lattices of lanes (n,) keep points (n, k, 3)."""
        start = self.start[lanes].unsqueeze(1)
        cell = quantised_many(points, start, self.deltas)
        z, y, x = (cell - quantised_many(torch.zeros_like(start), start, self.deltas)).unbind(-1)
        return (z * self.lattice[1] + y) * self.lattice[2] + x


def _forbidden(canvas: Canvas) -> np.ndarray | None:
    """(z, y, x) bool: where no field of view may be centred."""
    mask, slipped = canvas.restrictor.mask, canvas.restrictor.slipped()
    if slipped is None:
        return mask
    near = ndimage.maximum_filter(slipped, size=canvas.spec.fov, mode="constant", cval=0)
    return near if mask is None else near | mask


def _no_start(canvas: Canvas) -> np.ndarray | None:
    """(z, y, x) bool: where no object may start besides."""
    if canvas.leaked is None:
        return canvas.restrictor.seed_mask
    seed_mask = canvas.restrictor.seed_mask
    return canvas.leaked if seed_mask is None else canvas.leaked | seed_mask
