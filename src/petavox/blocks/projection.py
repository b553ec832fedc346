"""What a run will cost elsewhere: measured blocks, another volume, another machine.

What it is: the arithmetic of `petavox plan` over the tasks of a ledger. What it is not: the
simulation itself, or a promise: every figure rests on the assumptions that are returned with it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from petavox.blocks.ledger import Ledger
from petavox.blocks.plan import interval
from petavox.blocks.simulate import Machine, simulate
from petavox.blocks.sites import Site
from petavox.errors import BadInput
from petavox.space import Zyx, zyx

SIMULATED_BLOCKS = 500_000
"""More blocks are simulated on proportionally fewer nodes, and at most so many."""


def machine_of(site: Site, nodes: int) -> Machine:
    """The simulated machine of a site with so many nodes."""
    local = site.scheduler == "local"
    return Machine(
        nodes=nodes,
        workers_per_node=site.workers_per_node,
        walltime_s=site.walltime_s or math.inf,
        drain_s=site.drain_s if site.walltime_s else 0.0,
        mtbf_hours=site.node_mtbf_hours,
        notice_s=float(site.lost_after_s),
        start_s=5.0 if local else 60.0,
    )


def shape_of(parts: dict[str, Any]) -> Zyx:
    """Shape of the box that a task's grid covers, in its own voxels, zyx."""
    start, stop, _, _ = parts["grid"]
    return zyx([b - a for a, b in zip(start, stop, strict=True)])


def measured_shape(ledger: Ledger) -> Zyx | None:
    """Shape of the volume that a ledger's blocks were measured on: its largest grid, zyx."""
    known = [ledger.parts(task["name"]) for task in ledger.tasks()]
    shapes = [shape_of(p) for p in known if p is not None and "grid" in p]
    return max(shapes, key=math.prod, default=None)


def blocks_of(parts: dict[str, Any], volume: Zyx | None, measured: Zyx | None = None) -> int:
    """Blocks of a task's grid on its own volume, or on one of another shape (voxels, zyx).

    measured: shape of the volume the blocks were measured on. The grid of a coarser level, or of
    the shards of a file, covers something else: its blocks grow in number as the volume grows.
    """
    own = shape_of(parts)
    # a block larger than what was measured was measured in part: its seconds are of that part
    block = [min(b, n) for b, n in zip(parts["grid"][2], own, strict=True)]
    if volume is None or measured is None or own == measured:
        return _count(volume or own, block)
    return -(-_count(own, block) * math.prod(volume) // math.prod(measured))


def _count(shape: Zyx, block: Sequence[int]) -> int:
    return math.prod(-(-n // b) for n, b in zip(shape, block, strict=True))


def project(
    ledger: Ledger,
    site: Site,
    *,
    nodes: int,
    volume: Zyx | None = None,
    speed: float = 1.0,
    tasks: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Cost of every task of a ledger with measured blocks, on `nodes` nodes of a site.

    volume: shape of another volume in voxels, zyx.  speed: of one of the site's workers against
    one that was measured.  Raises BadInput if nothing was measured.
    """
    rows: dict[str, Any] = {}
    measured_on = measured_shape(ledger)
    for task in ledger.tasks():
        name = task["name"]
        measured = ledger.seconds(name)
        parts = ledger.parts(name)
        if (tasks and name not in tasks) or not measured or parts is None or "grid" not in parts:
            continue
        n = blocks_of(parts, volume, measured_on)
        rows[name] = project_task(
            n, [s / speed for s in measured], ledger.costs(name), site, nodes=nodes, seed=seed
        )
    if not rows:
        raise BadInput(
            f"{ledger.path} holds no measured blocks: run a part of the work first, such as a "
            "small box."
        )
    return {
        "stages": rows,
        "node_hours": sum(r["node_hours"] for r in rows.values()),
        "wall_hours": sum(r["wall_hours"] for r in rows.values()),
        "write_tib_at_most": sum(r["write_tib_at_most"] for r in rows.values()),
        "files_at_most": sum(r["files_at_most"] for r in rows.values()),
        "assumptions": assumptions(site, speed),
    }


def measured_tasks(ledger: Ledger) -> list[str]:
    """Tasks of a ledger that a projection can be made from."""
    names = [task["name"] for task in ledger.tasks() if task["done"]]
    return [n for n in names if "grid" in (ledger.parts(n) or {})]


@dataclass(frozen=True)
class Measured:
    """A ledger to project from.

    volume: shape of the volume to project to, zyx; None: that of the ledger's own blocks.
    subset: name of the part of the volume that the ledger is of; "" where it is of all.
    """

    ledger: Ledger
    volume: Zyx | None = None
    subset: str = ""


def first_measured(
    known: Sequence[Measured], steps: Collection[str] | None = None
) -> Iterator[tuple[Measured, list[str]]]:
    """Each ledger with its measured tasks that no ledger before it has.

    steps: of a project; tasks of steps that it does not run now are left out.
    """
    seen: set[str] = set()
    for one in known:
        names = [
            n for n in measured_tasks(one.ledger)
            if n not in seen and (steps is None or n.partition("/")[0] in steps)
        ]  # fmt: skip
        seen.update(names)
        if names:
            yield one, names


def project_all(
    known: Sequence[Measured], site: Site, *, steps: Collection[str] | None = None, **options: Any
) -> dict[str, Any]:
    """`project` over several ledgers; of a task that is in more than one, the first counts.

    Costs of a subset alone are not added to those of the whole: then there are no sums.
    Raises BadInput if nothing was measured in any.
    """
    found: dict[str, Any] = {}
    alone: list[str] = []
    for one, names in first_measured(known, steps):
        more = project(one.ledger, site, tasks=names, volume=one.volume, **options)
        if one.subset:
            for row in more["stages"].values():
                row["measured_on"] = f"subset {one.subset}"
            alone += names if one.volume is None else []
        for key, value in more.items():
            if key == "stages":
                found.setdefault(key, {}).update(value)
            else:
                found[key] = value if key == "assumptions" else found.get(key, 0) + value
    if not found:
        return project(known[0].ledger, site, **options)
    if alone:
        found = {k: found[k] for k in ("stages", "assumptions")}
        found["not_summed"] = (
            f"{', '.join(alone)}: measured on a subset, and the size of the whole image is not "
            "known, so these are the costs of the subset alone; give --volume to project all"
        )
    return found


def project_task(
    blocks: int,
    seconds: Sequence[float],
    costs: dict[str, int],
    site: Site,
    *,
    nodes: int,
    seed: int = 0,
) -> dict[str, Any]:
    """Cost of one task: simulated schedule, interval of its work, bytes, files, rate of I/O."""
    # as many blocks for each worker, so the tail and the losses keep their weight; where there are
    # too few nodes for that, each has so many blocks that its time is in proportion to them
    scale = max(1, -(-blocks // SIMULATED_BLOCKS))
    few, some = max(1, nodes // scale), max(1, blocks // scale)
    made = simulate(some, seconds, machine_of(site, few), seed=seed)
    longer = (blocks / nodes) / (some / few)
    mean, low, high = interval(seconds, blocks, seed=seed)
    wall = made.wall_s * longer
    moved = (costs.get("read_bytes", 0) + costs.get("write_bytes", 0)) * blocks
    return {
        "blocks": blocks,
        "measured_blocks": len(seconds),
        "block_seconds_mean": mean / blocks,
        "block_seconds_longest": max(seconds),
        "worker_hours": mean / 3600,
        "worker_hours_95": [low / 3600, high / 3600],
        "nodes": nodes,
        "wall_hours": wall / 3600,
        "wall_hours_95": [wall / 3600 * low / mean, wall / 3600 * high / mean],
        "node_hours": wall * nodes / 3600,
        "efficiency": made.efficiency,
        "lost_blocks": round(made.lost_blocks * blocks / some),
        "rounds_of_jobs": math.ceil(made.jobs_rounds * longer),
        "memory_gib_per_worker": costs.get("memory_bytes", 0) / 2**30,
        "read_tib": costs.get("read_bytes", 0) * blocks / 2**40,
        "write_tib_at_most": costs.get("write_bytes", 0) * blocks / 2**40,
        "files_at_most": costs.get("files", 0) * blocks,
        "file_system_gib_per_s": moved / 2**30 / wall if wall else 0.0,
    }


def efficiencies(
    blocks: int, seconds: Sequence[float], site: Site, nodes: Sequence[int], *, seed: int = 0
) -> list[dict[str, Any]]:
    """The simulated schedule of the same blocks for several counts of nodes."""
    found = []
    for n in nodes:
        row = project_task(blocks, seconds, {}, site, nodes=n, seed=seed)
        found.append({k: row[k] for k in ("nodes", "wall_hours", "node_hours", "efficiency")})
    return found


def assumptions(site: Site, speed: float) -> list[str]:
    """What a projection takes for granted, in words."""
    said = [
        f"a worker of {site.name} does a block in 1/{speed:g} of the measured time",
        f"{site.workers_per_node} workers a node, each as fast as the one measured",
        f"a node is lost every {site.node_mtbf_hours:,.0f} h, noticed after {site.lost_after_s} s, "
        "replaced after 600 s",
        "block times are drawn from the measured ones: no block is slower than the slowest seen",
        "the file system keeps up with the rate given",
    ]
    if site.walltime_s:
        said.append(
            f"jobs of {site.walltime_s / 3600:g} h follow one another without a gap; the wait in "
            "the scheduler's queue is not counted"
        )
    return said
