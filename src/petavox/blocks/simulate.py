"""A run that was not made: the schedule of many blocks on many nodes, event by event.

What it is: a discrete-event simulation of what the engine does: workers take the next block when
they are free; blocks take measured times, some far longer than the mean; nodes are lost and
replaced, their blocks sent again after the silence is noticed; jobs end at their walltime and no
block is sent that could pass it; one driver hands out only so many messages a second.
What it is not: a model of the file system (the rate it must bear is given beside the result), or
of the queue of a computing centre beyond a fixed wait.
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from petavox.blocks.bundle import MOST, TARGET_S
from petavox.errors import BadInput


@dataclass(frozen=True)
class Machine:
    """What the schedule depends on. Times in seconds.

    mtbf_hours: of one node.  replace_s: from a node's loss to a fresh one in its place.
    notice_s: silence after which a loss is noticed.  start_s: from a job's start to its first
    block (modules, imports, the model).  queue_s: from a job's end to its successor's start.
    messages_per_s: of the driver; 0: no limit.
    """

    nodes: int
    workers_per_node: int = 1
    walltime_s: float = math.inf
    drain_s: float = 0.0
    mtbf_hours: float = math.inf
    replace_s: float = 600.0
    notice_s: float = 120.0
    start_s: float = 60.0
    queue_s: float = 0.0
    messages_per_s: float = 1500.0


@dataclass(frozen=True)
class Schedule:
    """What came of it. efficiency: seconds of blocks that counted over seconds of all workers."""

    wall_s: float
    block_s: float
    workers: int
    lost_blocks: int
    lost_nodes: int
    jobs_rounds: int

    @property
    def efficiency(self) -> float:
        """Useful over paid time, 0..1."""
        return self.block_s / (self.workers * self.wall_s) if self.wall_s else 0.0

    def figures(self, machine: Machine) -> dict[str, Any]:
        """For showing."""
        return {
            "nodes": machine.nodes,
            "workers": self.workers,
            "wall_hours": self.wall_s / 3600,
            "node_hours": self.wall_s * machine.nodes / 3600,
            "efficiency": self.efficiency,
            "lost_blocks": self.lost_blocks,
            "lost_nodes": self.lost_nodes,
            "rounds_of_jobs": self.jobs_rounds,
        }


def simulate(blocks: int, seconds: Sequence[float], machine: Machine, *, seed: int = 0) -> Schedule:
    """Run `blocks` blocks on a machine.

    seconds: measured times of blocks, drawn from with replacement.  About a microsecond a block.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    workers = machine.nodes * machine.workers_per_node
    sample = np.asarray(seconds, float)
    longest = float(sample.max())
    takes = rng.choice(sample, blocks)
    useful = float(takes.sum())
    queue = takes.tolist()
    bundle = max(1, min(MOST, int(TARGET_S / max(float(sample.mean()), 1e-6))))
    gap = 1.0 / (machine.messages_per_s * bundle) if machine.messages_per_s else 0.0
    losses: list[list[float]] = [[] for _ in range(machine.nodes)]
    mean_life = machine.mtbf_hours * 3600
    period = machine.walltime_s + machine.queue_s
    last_start = machine.walltime_s - max(machine.drain_s, longest)
    if last_start <= machine.start_s:
        raise BadInput(
            f"a job of {machine.walltime_s:.0f} s leaves no time for blocks of up to "
            f"{longest:.0f} s after a start of {machine.start_s:.0f} s: use smaller blocks."
        )
    free = [(machine.start_s, w) for w in range(workers)]
    again: list[tuple[float, float]] = []
    clock = end = 0.0
    at = lost_blocks = 0
    lost_nodes: set[tuple[int, int]] = set()
    while at < blocks or again:
        t, w = free[0]
        if t % period > last_start:
            heapq.heapreplace(free, ((t // period + 1) * period + machine.start_s, w))
            continue
        if t % period < machine.start_s:
            heapq.heapreplace(free, (t - t % period + machine.start_s, w))
            continue
        if again and again[0][0] <= t:
            take = heapq.heappop(again)[1]
        elif at < blocks:
            take = queue[at]
            at += 1
        else:
            # all that is left are blocks whose loss is not noticed yet
            heapq.heapreplace(free, (again[0][0], w))
            continue
        start = max(t, clock)
        clock = start + gap
        stop = start + take
        if math.isfinite(mean_life):
            node = w // machine.workers_per_node
            of_node = losses[node]
            while not of_node or of_node[-1] < stop:
                before = of_node[-1] + machine.replace_s if of_node else 0.0
                of_node.append(before + float(rng.exponential(mean_life)))
            n = bisect.bisect_left(of_node, start)
            if of_node[n] < stop:
                died = of_node[n]
                lost_blocks += 1
                lost_nodes.add((node, n))
                heapq.heappush(again, (died + machine.notice_s, take))
                heapq.heapreplace(free, (died + machine.replace_s, w))
                continue
        end = max(end, stop)
        heapq.heapreplace(free, (stop, w))
    rounds = math.ceil(end / period) if math.isfinite(period) else 1
    return Schedule(end, useful, workers, lost_blocks, len(lost_nodes), rounds)
