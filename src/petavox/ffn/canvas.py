"""The canvas: one subvolume being flooded, object by object. The reference driver.

What it is: the algorithm of flood-filling inference in its plainest form, one field of view at a
time; what every faster driver must reproduce. It can be stopped after any step, its state saved
(petavox.ffn.checkpoint) and continued to the identical result.
What it is not: files, volumes, devices.

Source: Januszewski et al. 2018, Nature Methods 15:605, Methods, and the behaviour of the
published implementation: FIFO of moves, visited-lattice, and the freezing of voxels once put
below 0.5 ("disco").
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

import numpy as np

from petavox.errors import BadInput
from petavox.ffn.growth import FloodSettings, Growth, Origin, Watcher
from petavox.ffn.model import ModelSpec, logit
from petavox.ffn.moves import moves, quantised
from petavox.ffn.restrict import Restrictor
from petavox.space import Box, Zyx, zyx

Predict = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(image, seed) of one field of view, (z, y, x) float32 -> corrected logits of the same shape."""

NOT_AN_OBJECT = -1
"""Mark of a place that was tried in vain; it stops no flood and becomes 0 on output."""

DELETED_FROM = logit(0.8)
"""A voxel this likely that falls below 0.5 counts as deleted."""


class Canvas:
    """A subvolume being flooded.

    image: (z, y, x) float32, normalised as (raw - mean) / std.  predict: the network.
    State: `seed`, the object map in logits, NaN = never predicted; `segmentation`, int32, 0 =
    empty, > 0 = object, -1 = tried in vain; `origins`, id -> Origin; `counters`.
    """

    def __init__(
        self,
        image: np.ndarray,
        predict: Predict,
        spec: ModelSpec,
        settings: FloodSettings | None = None,
        restrictor: Restrictor | None = None,
    ) -> None:
        settings = settings or FloodSettings()
        spec = spec.stepping(settings.deltas)
        shape = zyx(image.shape, "image shape")
        if any(n < f for n, f in zip(shape, spec.fov, strict=True)):
            raise BadInput(
                f"the image is {shape} voxels, smaller than the network's field of view {spec.fov}"
                " (z y x); flood a larger box."
            )
        if not np.isfinite(image).all():
            raise BadInput("the image holds NaN or infinity; repair or mask it first.")
        self.image = np.ascontiguousarray(image, np.float32)
        self.predict, self.spec, self.settings = predict, spec, settings
        self.restrictor = restrictor or Restrictor()
        self.restrictor.check(shape)
        self._slipped = self.restrictor.slipped()
        self.shape, self.margin = shape, spec.margin
        self.move_threshold = np.float32(logit(settings.move_threshold or spec.move_threshold))
        self.segment_threshold = np.float32(
            logit(settings.segment_threshold or spec.segment_threshold)
        )
        self.pad = np.float32(logit(settings.seed_pad or spec.seed_pad))
        self.init = np.float32(logit(settings.seed_init or spec.seed_init))
        self.seed = np.full(shape, np.nan, np.float32)
        self.segmentation = np.zeros(shape, np.int32)
        self.leaked: np.ndarray | None = None
        """(z, y, x) bool: where objects leaked; no object starts there."""
        self.probability = np.zeros(shape, np.uint8) if settings.keep_probability else None
        """0 where there is no object, else 1 + floor(254 x probability)."""
        self.origins: dict[int, Origin] = {}
        self.counters: Counter[str] = Counter()
        self.next_id = 1
        self.seeds = np.zeros((0, 3), np.int64)
        """Seed points in the order to try; a state is only good with the same ones."""
        self.next_seed = 0
        """Place in `seeds` of the next one to try."""
        self.growth: Growth | None = None
        """The object under way; None between objects."""
        self.last: Growth | None = None
        """The growth whose traces are on the map."""

    # -- one object ------------------------------------------------------------------------

    def begin(self, start: Zyx) -> Growth:
        """Put a seed on an empty map. `start` must allow a field of view."""
        self.clear()
        self.seed[start] = self.init
        self.growth = self.last = Growth(start, deque([start]), set(), start, start)
        return self.growth

    def grow(self, start: Zyx, watcher: Watcher | None = None) -> Growth:
        """Flood one object from `start` until nothing is left to visit."""
        return self.go_on(self.begin(start), watcher)

    def go_on(self, growth: Growth, watcher: Watcher | None = None) -> Growth:
        """Continue an object until its queue is empty or it is stopped."""
        for point in self._visits(growth):
            before = time.perf_counter()
            logits = self._update(point, growth)
            growth.visited.add(quantised(point, growth.start, self.spec.deltas))
            growth.queue.extend(
                zyx([p + o for p, o in zip(point, move.offset, strict=True)])
                for move in moves(logits, self.spec.deltas, float(self.move_threshold))
            )
            growth.seconds += time.perf_counter() - before
            self.guard(growth)
            if watcher is not None:
                watcher.stepped(self, growth)
        return growth

    def _visits(self, growth: Growth) -> Iterator[Zyx]:
        """Points to visit next, in order. Each is removed from the queue before it is given."""
        deltas = self.spec.deltas
        while growth.queue and growth.stopped is None:
            point = growth.queue.popleft()
            if quantised(point, growth.start, deltas) in growth.visited:
                continue
            if not self.is_valid(point):
                continue
            if self.seed[growth.start] < self.move_threshold:
                growth.stopped = "seed got too weak"
                self.counters["seed_got_too_weak"] += 1
                return
            if not self.is_allowed(point):
                self.counters["moves_restricted"] += 1
                continue
            yield point

    def _update(self, point: Zyx, growth: Growth) -> np.ndarray:
        """Predict one field of view and write it back; the frozen logits are returned."""
        here = self._fov(point)
        old = self.seed[here]
        known = ~np.isnan(old)
        logits = self.predict(self.image[here], np.where(known, old, self.pad))
        freeze = self.settings.disco_threshold
        if freeze >= 0 and np.mean(logits >= self.move_threshold) > freeze:
            # comparisons with NaN are false: what was never predicted is free to rise
            frozen = (old < 0) & (logits > old)
            logits[frozen] = old[frozen]
        growth.deleted += int(np.count_nonzero((old >= DELETED_FROM) & (logits < 0)))
        growth.voxels += int(np.count_nonzero(logits >= self.segment_threshold))
        growth.voxels -= int(np.count_nonzero(old >= self.segment_threshold))
        self.seed[here] = logits
        growth.low = zyx(np.minimum(growth.low, point).tolist())
        growth.high = zyx(np.maximum(growth.high, point).tolist())
        growth.fovs += 1
        self.counters["fovs"] += 1
        return logits

    def guard(self, growth: Growth) -> None:
        """Stop an object that has grown over the leak guard's limits."""
        limits, size = self.settings, self.image.size
        if growth.voxels > limits.max_object_share * size and size > 0:
            growth.stopped = f"leak: over {limits.max_object_share:.0%} of the subvolume"
        elif limits.max_box_share < 1 and (self.touched(growth).size > limits.max_box_share * size):
            growth.stopped = f"leak: its bounding box over {limits.max_box_share:.0%}"

    # -- what is allowed -------------------------------------------------------------------

    def is_inside(self, point: Zyx) -> bool:
        """True if the field of view at `point` lies inside the subvolume."""
        return all(m <= p < n - m for p, m, n in zip(point, self.margin, self.shape, strict=True))

    def is_valid(self, point: Zyx) -> bool:
        """True if the flood may go to `point`: likely enough, inside, and not yet an object's."""
        # NaN passes: a place never predicted is as good as the seed
        if not self.is_inside(point) or self.seed[point] < self.move_threshold:
            return False
        return bool(self.segmentation[point] <= 0)

    def is_allowed(self, point: Zyx) -> bool:
        """True if no restriction forbids a field of view at `point`."""
        if self.restrictor.mask is not None and self.restrictor.mask[point]:
            return False
        return self._slipped is None or not self._slipped[self._fov(point)].any()

    def may_start(self, point: Zyx) -> bool:
        """True if an object may start at `point`, not counting nearby objects."""
        if not self.is_inside(point) or self.segmentation[point] > 0:
            return False
        if self.restrictor.seed_mask is not None and self.restrictor.seed_mask[point]:
            return False
        if self.leaked is not None and self.leaked[point]:
            return False
        return self.is_allowed(point)

    # -- all objects -----------------------------------------------------------------------

    def segment_all(self, watcher: Watcher | None = None) -> None:
        """Try every seed from `next_seed` on, after finishing an object under way."""
        if self.growth is not None:
            self._settle(self.go_on(self.growth, watcher))
            self.next_seed += 1
        while self.next_seed < len(self.seeds):
            start = zyx(self.seeds[self.next_seed].tolist())
            if self._may_begin(start):
                self._settle(self.grow(start, watcher))
            self.next_seed += 1

    def _may_begin(self, start: Zyx) -> bool:
        if not self.may_start(start):
            self.counters["seeds_invalid"] += 1
            return False
        near = Box(start, start).grown(self.settings.min_boundary_dist)
        near = Box(near.start, near.grown((1, 1, 1)).stop).intersection(Box.of_shape(self.shape))
        if (self.segmentation[near.slices()] > 0).any():
            self.segmentation[start] = NOT_AN_OBJECT
            self.counters["seeds_too_close"] += 1
            return False
        return True

    def _settle(self, growth: Growth) -> None:
        """Turn a finished growth into an object, or into a mark that there is none."""
        self.growth = None
        start = growth.start
        if growth.fovs == 0:
            self.counters["seeds_not_grown"] += 1
            return
        if growth.stopped is not None and growth.stopped.startswith("leak"):
            self._leave_out(growth)
            return
        if self.seed[start] < self.move_threshold:
            self._mark(start, "seeds_weak")
            return
        here = self.touched(growth).slices()
        there = self.segmentation[here]
        mask = self.seed[here] >= self.segment_threshold
        ids, counts = np.unique(there[mask], return_counts=True)
        mask &= there <= 0
        voxels = int(np.count_nonzero(mask))
        if voxels < self.settings.min_segment_size:
            self._mark(start, "objects_too_small")
            return
        there[mask] = self.next_id
        if self.probability is not None:
            likely = 1 / (1 + np.exp(-self.seed[here][mask]))
            self.probability[here][mask] = 1 + np.floor(254 * likely).astype(np.uint8)
        self.origins[self.next_id] = Origin(
            seed=start,
            fovs=growth.fovs,
            voxels=voxels,
            deleted=growth.deleted,
            seconds=growth.seconds,
            overlaps={int(i): int(n) for i, n in zip(ids, counts, strict=True) if i > 0},
        )
        self.counters["objects"] += 1
        self.counters["voxels"] += voxels
        self.next_id += 1

    def _mark(self, start: Zyx, why: str) -> None:
        if self.segmentation[start] == 0:
            self.segmentation[start] = NOT_AN_OBJECT
        self.counters[why] += 1

    def _leave_out(self, growth: Growth) -> None:
        """Keep a leak from being an object, and from being started again inside itself."""
        if self.leaked is None:
            self.leaked = np.zeros(self.shape, bool)
        here = self.touched(growth).slices()
        self.leaked[here] |= self.seed[here] >= self.segment_threshold
        self._mark(growth.start, "leaks")

    # -- the map ---------------------------------------------------------------------------

    def touched(self, growth: Growth) -> Box:
        """The box of all voxels that a growth has predicted, within the subvolume."""
        m = self.margin
        low = zyx([a - b for a, b in zip(growth.low, m, strict=True)])
        high = zyx([a + b + 1 for a, b in zip(growth.high, m, strict=True)])
        return Box(low, high).intersection(Box.of_shape(self.shape))

    def clear(self) -> None:
        """Empty the map for the next object; only what the last one touched is reset."""
        if self.last is not None:
            self.seed[self.touched(self.last).slices()] = np.nan

    def labels(self) -> np.ndarray:
        """(z, y, x) uint64, 0 = nothing."""
        return np.where(self.segmentation > 0, self.segmentation, 0).astype(np.uint64)

    def _fov(self, point: Zyx) -> tuple[slice, slice, slice]:
        z, y, x = (slice(p - m, p + m + 1) for p, m in zip(point, self.margin, strict=True))
        return (z, y, x)
