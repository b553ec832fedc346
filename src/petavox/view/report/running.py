"""Chapters on the run: scores, time, blocks, cost, what is missing, provenance, settings.

What it is: a function a chapter, from results to HTML. What it is not: the reading, or the looks.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from petavox.blocks.ledger import Ledger
from petavox.project import FILE, STEPS
from petavox.view.project import in_space
from petavox.view.report import svg
from petavox.view.report.parts import (
    Chapter,
    Fact,
    Source,
    amount,
    beside,
    duration,
    facts,
    folded,
    heading,
    paragraph,
    plot,
    table,
)
from petavox.view.report.reading import Record, Results
from petavox.view.status import STATUSES, Blocks, of_task
from petavox.volume import state

FILES = 200_000
"""Files of one output that are counted for its size."""
INKS = ("var(--line)", "var(--ok)", "var(--bad)", "#9646b4", "#e69628")
"""Of the statuses of blocks."""


def scores(found: Results) -> Chapter | None:
    """All scores against a truth, with the convention behind each."""
    path = found.path("scores")
    record = None if path is None else found.json(Path(path) / "scores.json")
    if record is None:
        return None
    out = Chapter("scores", "Scores", state=found.state("score").state)
    loose = [record.fact(k, k) for k, v in record.values.items() if not isinstance(v, Mapping)]
    out.add(facts(loose))
    for part, values in record.values.items():
        if not isinstance(values, Mapping):
            continue
        out.add(heading(part.replace("_", " ")))
        groups = list(_groups(values))
        keys = list(dict.fromkeys(k for _, group in groups for k in group))
        rows = [
            (name.replace("_", " ").replace(".", ": "), *(group.get(k, "") for k in keys),
             record.at(f"{part}.{name}"))
            for name, group in groups
        ]  # fmt: skip
        heads = ("voxels" if "voxels" in values else "", *(k.replace("_", " ") for k in keys))
        out.add(table((*heads, "source"), rows, numeric=1))
        alone = {k: v for k, v in values.items() if not isinstance(v, Mapping)}
        out.add(facts(Record(record.at(part), alone).facts()))
    if any("raw" in v for v in record.values.values() if isinstance(v, Mapping)):
        out.add(paragraph(_CONVENTIONS, "note"))
    return out


_CONVENTIONS = (
    "VI is in bits, split + merge. Raw: voxels with a true body and an object. Tolerant: of those, "
    "the ones off the boundaries of bodies. All voxels: empty ones within bodies count as one "
    "object. Oracle: had each object been given to the body with which it shares most voxels, the "
    "floor for agglomerating this result. docs/scores.md says each exactly."
)


def _groups(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Mappings of plain values within a mapping, by their dotted name."""
    for key, value in values.items():
        if isinstance(value, Mapping) and key != "conventions":
            plain = {k: v for k, v in value.items() if isinstance(v, (int, float)) or v is None}
            if plain:
                yield f"{prefix}{key}", plain
            yield from _groups(value, f"{prefix}{key}.")


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
        svg.timeline(rows),
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
    total, core, disk = 0.0, 0.0, 0
    image = found.thing("image")
    voxels = 0 if image is None else int(np.prod(image.shape, dtype=np.int64))
    for step in begun:
        said = found.state(step.name)
        size, whole = _bytes(found, step.name)
        busy = _busy(ledger, step.name)
        worked = said.seconds * max(said.workers, 1)
        total, core, disk = total + said.seconds, core + worked, disk + size
        rate = voxels / said.seconds / 1e6 if said.seconds and voxels else None
        rows.append(
            (
                step.name, said.state, duration(said.seconds), said.workers or 1, duration(worked),
                duration(busy) if busy is not None else "–",
                rate, amount(size) + ("" if whole else " or more"),
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
    rows.append(("all", "", duration(total), "", duration(core), "", None, amount(disk), ""))
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
            "again); a rate is voxels of the image over that time. petavox plan projects what "
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
                svg.layers(maps, INKS, STATUSES),
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


def missing(found: Results) -> Chapter | None:
    """What is not there, and why."""
    rows: list[tuple[Any, ...]] = []
    for step in found.project.steps:
        said = found.state(step.name)
        if step.name == "report" or said.state == "done":
            continue
        text = said.error or {
            "todo": "not run yet; petavox run goes on there",
            "running": "under way, or killed; petavox run goes on there",
        }.get(said.state, "")
        record = found.record(step.name).source
        rows.append((step.name, said.state, text, record if said.state != "todo" else Source(FILE)))
    for name, why in found.project.left_out.items():
        rows.append((name, "left out", why, Source(FILE)))
    warnings = [
        (s.name, "warning", found.state(s.name).warning, found.record(s.name).at("warning"))
        for s in found.project.steps
        if found.state(s.name).warning
    ]
    if not rows and not warnings and not found.trouble:
        return None
    out = Chapter("missing", "What is missing")
    out.add(table(("step", "state", "why", "source"), [*rows, *warnings]))
    out.add(*(paragraph(t, "warning") for t in dict.fromkeys(found.trouble)))
    return out


def provenance(found: Results) -> Chapter:
    """Who made what of what, and every setting."""
    out = Chapter("provenance", "Provenance and settings")
    rows, raw = [], []
    for step in found.project.steps:
        said = found.state(step.name)
        if said.state == "todo":
            continue
        rows.append(
            (
                step.name, said.version, said.host,
                _when(said.finished), said.key[:12], said.why,
                found.record(step.name).source,
            )
        )  # fmt: skip
        for path in found.project.outputs(step.name).values():
            mark = found.json(path / state.NAME) if path.is_dir() else None
            if mark is not None:
                text = json.dumps(mark.values, indent=1, default=str)
                raw.append(folded(mark.source.file, text[:40_000]))
    heads = ("step", "petavox", "machine", "finished", "key", "why it ran", "source")
    out.add(table(heads, rows))
    out.add(
        paragraph(
            "A key is a digest of code, settings and inputs: results with the same key are the "
            "same. The files below are those that lie in each result.",
            "note",
        )
    )
    out.add(*raw)
    out.add(heading("Settings"))
    out.add(folded(FILE, found.project.file.read_text()))
    for step in found.project.steps:
        said = found.state(step.name)
        if said.settings:
            text = yaml.safe_dump(said.settings, sort_keys=False)
            out.add(folded(f"{step.name}: all settings, defaults too", text))
    return out


def _when(moment: float | None) -> str:
    import datetime

    if moment is None:
        return "–"
    at = datetime.datetime.fromtimestamp(moment, datetime.UTC)
    return at.strftime("%Y-%m-%d %H:%M UTC")


def headline(found: Results) -> list[Fact | None]:
    """The few figures that stand at the top."""
    from petavox.view.report.images import about

    out: list[Fact | None] = []
    image = found.thing("image")
    if image is not None:
        known = {f.name: f for f in about(found, image)}
        out += [known["voxels"], known["extent (z y x)"], known["voxel size (z y x)"]]
    out.append(found.figures("reconcile").fact("objects", "objects"))
    wires = found.figures("connectome")
    out += [wires.fact(n, n) for n in ("neurons", "synapses", "edges")]
    done = [s.name for s in found.project.steps if found.state(s.name).state == "done"]
    if done:
        seconds = sum(found.state(n).seconds for n in done)
        source = Source("run/steps/*.json", "seconds, summed")
        out.append(Fact("all steps", duration(seconds), source))
    return out


def step_strip(found: Results) -> list[tuple[str, str, str, str]]:
    """Each step with its state, for the row at the top."""
    anchors = {
        "stitch": "stitch", "align": "image", "render": "image", "qc": "quality",
        "segment": "segmentation", "reconcile": "segmentation", "agglomerate": "segmentation",
        "synapses": "synapses", "mesh": "neurons", "skeletonize": "neurons",
        "connectome": "connectome", "score": "scores",
    }  # fmt: skip
    out = []
    for name in STEPS:
        if name == "report":
            continue
        if name in found.project.left_out:
            if "off unless" not in found.project.left_out[name]:
                out.append((name, "left out", "left out", "missing"))
            continue
        said = found.state(name)
        text = duration(said.seconds) if said.state == "done" else said.state
        out.append(
            (name, said.state, text, anchors.get(name, "") if said.state == "done" else "missing")
        )
    return out
