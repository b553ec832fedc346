"""Chapters on the run: scores, what is missing, provenance, settings, and the page's head.

What it is: a function a chapter, from results to HTML. What it is not: the reading, the looks, or
what the run took (effort).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from petavox.project import FILE, STEPS
from petavox.view.report.parts import (
    Chapter,
    Fact,
    Source,
    duration,
    facts,
    folded,
    heading,
    paragraph,
    table,
)
from petavox.view.report.reading import Record, Results
from petavox.volume import state


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
