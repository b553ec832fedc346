"""The chapter on time, blocks and cost.

What it is: what steps and ledger tell, from results to HTML. What it is not: the reading, the
looks, or a projection (petavox plan).
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np

from petavox.blocks.ledger import Ledger
from petavox.view.project import in_space
from petavox.view.report import svg, svg_blocks
from petavox.view.report.parts import (
    Chapter,
    Source,
    amount,
    beside,
    duration,
    heading,
    paragraph,
    plot,
    table,
)
from petavox.view.report.reading import Results
from petavox.view.status import STATUSES, Blocks, of_task

FILES = 200_000
"""Files of one output that are counted for its size."""
INKS = ("var(--line)", "var(--ok)", "var(--bad)", "#9646b4", "#e69628")
"""Of the statuses of blocks."""


def work(found: Results) -> Chapter | None:
    """When what ran, block by block, and what it cost."""
    steps = [s for s in found.project.steps if s.name != "report"]
    begun = [s for s in steps if found.state(s.name).started is not None]
    if not begun:
        return None
    out = Chapter("work", "Time, blocks and cost")
    file = found.project.ledger_file
    ledger = Ledger(file, readonly=True) if file.is_file() else None
    try:
        out.add(_timeline(found, begun, ledger))
        out.add(_cost(found, begun, ledger))
        if ledger is not None:
            out.add(_blocks(found, ledger))
    finally:
        if ledger is not None:
            ledger.close()
    return out


def _timeline(found: Results, begun: list[Any], ledger: Ledger | None) -> str:
    rows, sources = [], [Source("run/steps/*.json", "started, finished")]
    for step in begun:
        said = found.state(step.name)
        start = said.started or 0.0
        bars = [(start, (said.finished or start) - start)]
        dots: list[float] = []
        for task in _tasks(ledger, step.name) if ledger is not None else []:
            assert ledger is not None
            done = next(t["done"] for t in ledger.tasks() if t["name"] == task)
            some = itertools.islice(ledger.rows(task, "done"), 0, None, max(1, done // 300))
            dots += [r.finished for r in some if r.finished]
            # runs before the last one, which were stopped
            bars += [
                (r["begun"], r["seconds"]) for r in ledger.runs(task) if r["begun"] < start - 1
            ]
        rows.append((step.name, bars, dots))
    if ledger is not None:
        sources.append(Source(found.rel(ledger.path), "runs, blocks.finished"))
    return plot(
        svg_blocks.timeline(rows),
        "When each step ran; ticks are finished blocks. Pauses in which nothing ran are cut out "
        "(dashed).",
        sources,
        size="full",
    )


def _tasks(ledger: Ledger, step: str) -> list[str]:
    return [t["name"] for t in ledger.tasks() if t["name"].partition("/")[0] == step]


def _cost(found: Results, begun: list[Any], ledger: Ledger | None) -> str:
    rows: list[tuple[Any, ...]] = []
    bars: list[tuple[str, float, str]] = []
    total, disk = 0.0, 0
    core: list[float | None] = []
    image = found.thing("image")
    voxels = 0 if image is None else int(np.prod(image.shape, dtype=np.int64))
    for step in begun:
        said = found.state(step.name)
        size, whole = _bytes(found, step.name)
        busy = _busy(ledger, step.name)
        core.append(said.seconds * said.workers if said.workers else None)
        total, disk = total + said.seconds, disk + size
        rate = voxels / said.seconds / 1e6 if said.seconds and voxels else None
        rows.append(
            (
                step.name, said.state, duration(said.seconds), said.workers or "–",
                duration(core[-1]), duration(busy), rate,
                amount(size) + ("" if whole else " or more"),
                Source(found.record(step.name).source.file, "seconds, workers"),
            )
        )  # fmt: skip
        bars.append((step.name, said.seconds, duration(said.seconds)))
    heads: tuple[str, ...] = (
        "step",
        "state",
        "time",
        "workers",
        "time × workers",
        "in blocks",
        "Mvoxel/s",
    )
    heads += ("on disk", "source")
    known = [c for c in core if c is not None]
    worked = duration(sum(known) if len(known) == len(core) else None)
    rows.append(("all", "", duration(total), "", worked, "", None, amount(disk), ""))
    return (
        heading("Cost")
        + table(heads, rows, numeric=2)
        + plot(
            svg.bars(bars, x="wall time of the run that made it"),
            "Where the time went.",
            Source("run/steps/*.json", "seconds"),
        )
        + paragraph(
            "Time is wall time of the run that made each result (kept results are not counted "
            "again); a rate is voxels of the image over that time. How many workers a cluster "
            "gave is not recorded: there the time in blocks counts. petavox plan projects what "
            "another size or machine would cost.",
            "note",
        )
    )


def _busy(ledger: Ledger | None, step: str) -> float | None:
    """Seconds in blocks, all of a step's tasks together."""
    if ledger is None:
        return None
    mine = [t for t in ledger.tasks() if t["name"].partition("/")[0] == step]
    return float(sum(t["block_seconds"] for t in mine)) if mine else None


def _bytes(found: Results, step: str) -> tuple[int, bool]:
    """Bytes of a step's outputs, and whether all files were counted."""
    size, count = 0, 0
    for path in found.project.outputs(step).values():
        if path.is_file():
            size += path.stat().st_size
        for folder, _, names in os.walk(path):
            for name in names:
                size += os.stat(os.path.join(folder, name)).st_size
                count += 1
                if count >= FILES:
                    return size, False
    return size, True


def _blocks(found: Results, ledger: Ledger) -> str:
    """Maps of blocks, seconds of blocks, and the first trouble of each task."""
    out, rel = "", found.rel(ledger.path)
    rows, trouble = [], []
    for task in ledger.tasks():
        name = task["name"]
        rows.append(
            (
                name, task["total"], *(task[s] for s in STATUSES[1:]),
                duration(task["block_seconds"] / task["done"]) if task["done"] else "–",
                Source(rel, f"blocks of {name}"),
            )
        )  # fmt: skip
        for status in STATUSES[2:]:
            row = next(ledger.rows(name, status), None)
            if row is not None:
                trouble.append((name, row.number, status, row.error, Source(rel, "error")))
    out += heading("Blocks")
    heads = ("task", "blocks", *STATUSES[1:], "seconds a block", "source")
    out += table(heads, rows, numeric=1)
    if trouble:
        out += heading("First trouble of each task")
        out += table(("task", "block", "status", "error", "source"), trouble)
    seconds, drawn = {}, []
    for task in ledger.tasks():
        if not in_space(task["name"]):
            continue
        blocks = of_task(ledger, task["name"])
        if blocks is None or len(blocks.grid) < 2:
            continue
        maps, said = block_map(blocks)
        drawn.append(
            plot(
                svg_blocks.layers(maps, INKS, STATUSES),
                f"{task['name']}{said}.",
                Source(rel, "blocks.status"),
                size="map",
            )
        )
        seconds[task["name"]] = ledger.seconds(task["name"])
    if drawn:
        out += heading("Blocks in space, layer by layer along z") + beside(*drawn)
    out += beside(
        *(
            plot(
                svg.histogram({name: values}, x="seconds", y="blocks", bins=24),
                f"How long blocks of {name} took.",
                Source(rel, "seconds"),
            )
            for name, values in seconds.items()
            if len(values) > 3
        )
    )
    return out


def block_map(
    blocks: Blocks, most: int = 12, side: int = 40
) -> tuple[list[tuple[str, np.ndarray]], str]:
    """Layers of statuses (indices), at most `most`, of at most `side` cells; a sentence on that.

    Where a cell stands for several blocks it shows the worst of them.
    """
    nz, ny, nx = blocks.grid.shape
    step = max(1, -(-max(ny, nx) // side))
    shown = np.unique(np.linspace(0, nz - 1, min(nz, most)).round().astype(int))
    # from best to worst; "todo" is worse than done, better than trouble
    order = [STATUSES.index(s) for s in ("done", "todo", "lost", "failed", "quarantined")]
    rank = np.argsort(order)
    layers = blocks.states.reshape(nz, ny, nx)
    maps = []
    for z in shown.tolist():
        worst = rank[layers[z]]
        for axis, n in ((0, ny), (1, nx)):
            worst = np.maximum.reduceat(worst, np.arange(0, n, step), axis=axis)
        maps.append((f"layer {z}", np.array(order)[worst]))
    said = f" ({len(shown)} of {nz} layers)" if len(shown) < nz else ""
    if step > 1:
        said += f"; a square stands for {step} × {step} blocks and shows the worst"
    return maps, said
