"""The batched driver: many lanes flood in lock-step, with all their maps on one device.

What it is: the algorithm of petavox.ffn.canvas for several subvolumes at once. In each round every
lane takes its next point, the network sees all of them, and the maps are written back; a lane
whose object is finished begins the next one at once, so no lane waits for another. The host only
steers: one small answer comes back from the device in each round.
What it is not: another meaning. Lanes over subvolumes give the plain driver's labels, origins and
counters exactly; LaneSettings says which options do not.

Convolutions round differently in batches of different size. `per_call` is therefore the number of
fields of view in every call of the network, filled up where there are fewer: with 1, each lane gets
what the plain driver gets, bit for bit (on a processor, the fastest batch too). With more, the
result depends on no other lane if the device treats the places of a batch alike, but may differ
from the plain driver in the last bits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from petavox.ffn.batched_maps import Maps
from petavox.ffn.canvas import NOT_AN_OBJECT, Canvas
from petavox.ffn.growth import Growth, Origin
from petavox.ffn.lanes import LaneSettings
from petavox.ffn.predictor import Predictor
from petavox.space import Box, Zyx, zyx

SEEDS = 256
"""Seeds of a subvolume that are looked at together."""


@dataclass
class _Home:
    """A subvolume: what the host knows of it."""

    canvas: Canvas
    seeds: Tensor
    later: list[Zyx] = field(default_factory=list)
    """Seeds in their turn that lay in an object still growing."""
    first_steps: dict[Zyx, Tensor] = field(default_factory=dict)
    """Logits of the first step of seeds, computed ahead."""


class LockStep:
    """Canvases, with their seeds chosen, flooded together.

    canvases: of one model and one FloodSettings; sizes may differ. Their state is brought up to
    date when `run` returns.  predictor: the network on its device.
    """

    def __init__(
        self,
        canvases: Sequence[Canvas],
        predictor: Predictor,
        settings: LaneSettings | None = None,
    ) -> None:
        if any(c.spec != canvases[0].spec or c.settings != canvases[0].settings for c in canvases):
            raise ValueError("lanes need one model and one set of flood settings")
        if any(c.growth is not None for c in canvases):
            raise ValueError("a canvas with an object under way cannot become a lane")
        self.settings, self.predictor = settings or LaneSettings(), predictor
        self.maps = Maps(canvases, predictor.device, self.settings.objects)
        device = predictor.device
        self.homes = [_Home(c, torch.from_numpy(c.seeds).to(device)) for c in canvases]
        self.growing: dict[int, Growth] = {}
        """Lane -> the object it is at work on."""
        self.rounds = 0
        """Steps of all lanes together: fovs / rounds is how full the batch was."""

    def run(self, stepped: Callable[[LockStep], None] | None = None) -> None:
        """Try every seed of every canvas; `stepped` is told after each round."""
        with torch.inference_mode():
            idle = set(range(len(self.homes) * self.settings.objects))
            while True:
                for lane in sorted(idle):
                    if self._begin(lane):
                        idle.remove(lane)
                if not self.growing:
                    break
                idle |= self._round()
                if stepped is not None:
                    stepped(self)
            for k, home in enumerate(self.homes):
                here = Box.of_shape(home.canvas.shape).slices()
                home.canvas.segmentation[...] = self.maps.labels[k][here].cpu().numpy()

    def settled(self) -> float:
        """Share of all seeds that will start nothing any more: tried, or inside an object."""
        done = 0
        for k, home in enumerate(self.homes):
            inside = self.maps.labels[k][home.seeds.unbind(1)] != 0
            inside[: home.canvas.next_seed] = True
            done += int(inside.sum())
        return done / max(sum(len(home.seeds) for home in self.homes), 1)

    def round_at(self, point: Zyx) -> None:
        """One round with every lane fresh at `point`: for measuring, on canvases made for it."""
        with torch.inference_mode():
            for lane in range(len(self.homes) * self.settings.objects):
                self.maps.begin(lane, point)
                self.growing[lane] = Growth(point, deque(), set(), point, point)
            self._round()
            self.maps.seed.fill_(float("nan"))
            self.growing.clear()

    # -- a round ---------------------------------------------------------------------------

    def _round(self) -> set[int]:
        """One step of every lane at work. Returns the lanes whose object is finished."""
        maps, most = self.maps, self.settings.frontier
        order = sorted(self.growing)
        lanes = torch.tensor(order, device=maps.device)
        maps.make_room(int(maps.tail[lanes].max()) + 6 * most)
        taken = maps.take(lanes, most)
        flags = torch.cat(
            [
                taken.chosen.long(),
                torch.stack([taken.weak.long(), taken.empty.long(), taken.restricted], 1),
            ],
            1,
        ).tolist()
        finished: set[int] = set()
        rows = []
        for i, (lane, row) in enumerate(zip(order, flags, strict=True)):
            growth, canvas = self.growing[lane], self._canvas(lane)
            if row[-1]:
                canvas.counters["moves_restricted"] += row[-1]
            if row[-3]:
                growth.stopped = "seed got too weak"
                canvas.counters["seed_got_too_weak"] += 1
                finished.add(lane)
            elif row[-2]:
                finished.add(lane)
            rows += [(i, k, lane) for k in range(most) if row[k]]
        if rows:
            finished |= self._advance(rows, taken.points)
            self.rounds += 1
        for lane in sorted(finished):
            self._settle(lane)
        return finished

    def _advance(self, rows: list[tuple[int, int, int]], points: Tensor) -> set[int]:
        """Predict the chosen points and write them back. Returns the lanes that leak."""
        maps = self.maps
        which = torch.tensor(rows, device=maps.device)
        here, lanes = points[which[:, 0], which[:, 1]], which[:, 2]
        places = [zyx(p) for p in here.tolist()]
        image, old, at = maps.views(lanes, here)
        ready = [self._ahead(lane, p) for (_, _, lane), p in zip(rows, places, strict=True)]
        logits = self._predicted(image, old, ready)
        changes = maps.write(lanes, here, logits, old, at).tolist()
        leaking: set[int] = set()
        for (_, _, lane), point, (more, deleted) in zip(rows, places, changes, strict=True):
            growth, canvas = self.growing[lane], self._canvas(lane)
            growth.voxels += more
            growth.deleted += deleted
            growth.fovs += 1
            growth.low = zyx(np.minimum(growth.low, point).tolist())
            growth.high = zyx(np.maximum(growth.high, point).tolist())
            canvas.counters["fovs"] += 1
            canvas.guard(growth)
            if growth.stopped is not None:
                leaking.add(lane)
        return leaking

    def _predicted(self, image: Tensor, old: Tensor, ready: list[Tensor | None]) -> Tensor:
        """Corrected logits (n, z, y, x), taken from `ready` where they are known already."""
        seed = torch.where(old.isnan(), self.maps.pad, old)
        open_ = [i for i, r in enumerate(ready) if r is None]
        new = self._network(image[open_], seed[open_]) if open_ else iter(())
        found = iter(new)
        return torch.stack([next(found) if r is None else r for r in ready])

    def _network(self, image: Tensor, seed: Tensor) -> Tensor:
        """seed + network, in calls of exactly `per_call` fields of view."""
        size, out = self.settings.per_call, []
        for first in range(0, len(image), size):
            images, seeds = image[first : first + size], seed[first : first + size]
            missing = size - len(images)
            if missing:
                images = torch.cat([images, images[:1].expand(missing, -1, -1, -1)])
                seeds = torch.cat([seeds, seeds[:1].expand(missing, -1, -1, -1)])
            out.append((seeds + self.predictor.update(images, seeds))[: size - missing])
        return torch.cat(out)

    # -- seeds -----------------------------------------------------------------------------

    def _canvas(self, lane: int) -> Canvas:
        return self.homes[lane // self.settings.objects].canvas

    def _begin(self, lane: int) -> bool:
        """Begin the next object of the lane's subvolume; False if none is left for now."""
        start = self._next_start(lane)
        if start is None:
            return False
        self.maps.begin(lane, start)
        growth = Growth(start, deque(), set(), start, start, seconds=-time.perf_counter())
        self.growing[lane] = growth
        return True

    def _next_start(self, lane: int) -> Zyx | None:
        number = lane // self.settings.objects
        home = self.homes[number]
        if not any(other // self.settings.objects == number for other in self.growing):
            later, home.later = home.later, []
        else:
            later = []
        if later:
            points = torch.tensor(later, device=self.maps.device)
            for i, told in enumerate(self._tested(number, points).tolist()):
                if told == 0:
                    home.later = later[i + 1 :]
                    return later[i]
                self._refuse(home, number, later[i], told)
        canvas = home.canvas
        while canvas.next_seed < len(home.seeds):
            points = home.seeds[canvas.next_seed : canvas.next_seed + SEEDS]
            told = self._tested(number, points).tolist()
            if self.settings.pretest and 0 in told:
                free = [i for i, t in enumerate(told) if t == 0][: self.settings.pretest]
                self._look_ahead(number, points[free])
            for point, verdict in zip(points.tolist(), told, strict=True):
                canvas.next_seed += 1
                if verdict == 0:
                    return zyx(point)
                self._refuse(home, number, zyx(point), verdict)
        return None

    def _tested(self, number: int, points: Tensor) -> Tensor:
        """Of seeds (n, 3) of a home: 0 may start, 1 invalid, 2 too close to an object, 3 in an
        object that still grows."""
        maps = self.maps
        homes = torch.full((len(points),), number, device=maps.device)
        shape = maps.shapes[number]
        inside = maps.inside(homes, points.unsqueeze(1))[:, 0]
        known = torch.minimum(points.clamp(min=0), shape - 1)
        at = maps.flat(homes, known)
        invalid = ~inside | (maps.labels.view(-1)[at] > 0) | maps.forbidden_at(at)
        if maps.no_start is not None:
            invalid |= maps.no_start.view(-1)[at]
        far = maps.settings.min_boundary_dist
        around = np.indices([2 * d + 1 for d in far]).reshape(3, -1).T - np.array(far)
        near = known.unsqueeze(1) + torch.as_tensor(around, device=maps.device)
        near = torch.minimum(near.clamp(min=0), shape - 1)
        close = (maps.labels.view(-1)[maps.flat(homes.unsqueeze(1), near)] > 0).any(1)
        told = torch.where(invalid, 1, torch.where(close, 2, 0))
        for lane in self.growing:
            if lane // self.settings.objects == number:
                within = maps.seed[lane].view(-1)[maps.flat(torch.zeros_like(homes), known)]
                told = torch.where((told == 0) & (within >= maps.segment), 3, told)
        return told

    def _refuse(self, home: _Home, number: int, point: Zyx, verdict: int) -> None:
        if verdict == 1:
            home.canvas.counters["seeds_invalid"] += 1
        elif verdict == 2:
            self.maps.labels[(number, *point)] = NOT_AN_OBJECT
            home.canvas.counters["seeds_too_close"] += 1
        else:
            home.later.append(point)

    # -- first steps ahead of their turn -----------------------------------------------------

    def _look_ahead(self, number: int, points: Tensor) -> None:
        """Compute the first step of seeds that are not known yet; of others, forget it."""
        home, maps = self.homes[number], self.maps
        wanted = [zyx(p) for p in points.tolist()]
        kept = {p: home.first_steps[p] for p in wanted if p in home.first_steps}
        new = [p for p in wanted if p not in kept]
        if new and wanted[0] not in kept:  # only when the next one is needed
            where = torch.tensor(new, device=maps.device)
            lanes = torch.full((len(new),), number * self.settings.objects, device=maps.device)
            image = maps.views(lanes, where)[0]
            z, y, x = (f // 2 for f in maps.fov)
            seed = torch.full_like(image, maps.pad)
            seed[:, z, y, x] = maps.init
            kept |= dict(zip(new, self._network(image, seed), strict=True))
        home.first_steps = kept

    def _ahead(self, lane: int, point: Zyx) -> Tensor | None:
        """The first step of the lane's object, if this is it and it is known."""
        growth = self.growing[lane]
        if growth.fovs or point != growth.start:
            return None
        return self.homes[lane // self.settings.objects].first_steps.pop(point, None)

    # -- the end of an object ----------------------------------------------------------------

    def _settle(self, lane: int) -> None:
        """Turn a finished growth into an object, or into a mark that there is none."""
        growth, canvas = self.growing.pop(lane), self._canvas(lane)
        number = lane // self.settings.objects
        box = canvas.touched(growth).slices()
        there, seed = self.maps.labels[number][box], self.maps.seed[lane][box]
        growth.seconds += time.perf_counter()
        weak = bool(self.maps.seed[(lane, *growth.start)] < self.maps.move)
        self._decide(canvas, growth, number, there, seed, weak=weak)
        # only what was touched is cleared
        seed.fill_(float("nan"))

    def _decide(
        self,
        canvas: Canvas,
        growth: Growth,
        number: int,
        there: Tensor,
        seed: Tensor,
        *,
        weak: bool,
    ) -> None:
        maps, start = self.maps, growth.start
        if growth.fovs == 0:
            canvas.counters["seeds_not_grown"] += 1
            return
        taken = seed >= maps.segment
        if growth.stopped is not None and growth.stopped.startswith("leak"):
            self._leave_out(canvas, growth, number, taken)
            return
        if weak:
            self._mark(canvas, number, start, "seeds_weak")
            return
        if self.settings.objects > 1 and bool(maps.labels[(number, *start)] > 0):
            canvas.counters["objects_collided"] += 1
            return
        ids, counts = there[taken].unique(return_counts=True)
        mask = taken & (there <= 0)
        voxels = int(mask.sum())
        if voxels < canvas.settings.min_segment_size:
            self._mark(canvas, number, start, "objects_too_small")
            return
        there[mask] = canvas.next_id
        if canvas.probability is not None:
            likely = 1 / (1 + np.exp(-seed[mask].cpu().numpy()))
            here = canvas.probability[canvas.touched(growth).slices()]
            here[mask.cpu().numpy()] = 1 + np.floor(254 * likely).astype(np.uint8)
        canvas.origins[canvas.next_id] = Origin(
            seed=start,
            fovs=growth.fovs,
            voxels=voxels,
            deleted=growth.deleted,
            seconds=growth.seconds,
            overlaps={i: n for i, n in zip(ids.tolist(), counts.tolist(), strict=True) if i > 0},
        )
        canvas.counters["objects"] += 1
        canvas.counters["voxels"] += voxels
        canvas.next_id += 1

    def _mark(self, canvas: Canvas, number: int, start: Zyx, why: str) -> None:
        if int(self.maps.labels[(number, *start)]) == 0:
            self.maps.labels[(number, *start)] = NOT_AN_OBJECT
        canvas.counters[why] += 1

    def _leave_out(self, canvas: Canvas, growth: Growth, number: int, taken: Tensor) -> None:
        """Keep a leak from being an object, and from being started again inside itself."""
        maps = self.maps
        if maps.no_start is None:
            maps.no_start = torch.zeros_like(maps.labels, dtype=torch.bool)
        maps.no_start[number][canvas.touched(growth).slices()] |= taken
        if canvas.leaked is None:
            canvas.leaked = np.zeros(canvas.shape, bool)
        canvas.leaked[canvas.touched(growth).slices()] |= taken.cpu().numpy()
        self._mark(canvas, number, growth.start, "leaks")
