"""Chapters on objects: segmentation, neurons and their meshes, synapses, the connectome, training.

What it is: a function a chapter, from results to HTML. What it is not: the reading, or the looks.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from petavox.errors import PetavoxError
from petavox.project import STEPS
from petavox.view import picture
from petavox.view.report import shots, surfaces, svg
from petavox.view.report.images import HALF, WIDE
from petavox.view.report.parts import (
    Chapter,
    Source,
    beside,
    facts,
    heading,
    paragraph,
    plot,
    shown,
)
from petavox.view.report.parts import picture as drawn
from petavox.view.report.reading import Record, Results
from petavox.volume import Volume

LARGEST, ALONE = 14, 12
"""Neurons drawn together and alone."""


def training(found: Results) -> Chapter | None:
    """The networks: what their files say, and how they learned, where that is beside them."""
    out = Chapter("training", "Networks")
    for step in found.project.steps:
        if step.model is None or found.state(step.name).state == "todo":
            continue
        file = found.project.model(step)
        title = heading(f"{step.model}: {file.name if file else ''}")
        if file is None or not file.is_file() or title in out.parts:
            continue
        out.add(title, facts(_network(found, file).facts(leave=("provenance", "settings"))))
        curve = file.parent / "curve.jsonl"
        if curve.is_file():
            out.add(_curve(found, curve))
        else:
            out.add(
                paragraph(
                    "No training curve: curve.jsonl is not beside this model (petavox train writes "
                    "it into its own folder).",
                    "note",
                )
            )
    return out if out.parts else None


def _network(found: Results, file: Path) -> Record:
    """The header of a .safetensors file."""
    with open(file, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        said = json.loads(f.read(size)).get("__metadata__", {}) if size < 2**26 else {}
    values: dict[str, Any] = {}
    for key, text in said.items():
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    spec = values.get("spec", values)
    name = found.rel(file)
    # a model that came with petavox lies somewhere on this machine: its name says enough
    far = name.startswith(("/", ".."))
    source = Source(file.name if far else name, "header: spec", linked=not far)
    return Record(source, spec if isinstance(spec, dict) else {})


def _curve(found: Results, file: Path) -> str:
    rows = [json.loads(x) for x in file.read_text().splitlines() if x.endswith("}")]
    rel = found.rel(file)

    def series(*names: str) -> dict[str, tuple[list[float], list[float]]]:
        return {
            n.removeprefix("validation_"): (
                [r["step"] for r in rows if n in r],
                [float(r[n]) for r in rows if n in r],
            )
            for n in names
            if any(n in r for r in rows)
        }

    loss = series("loss")
    known = [f"validation_{n}" for n in ("error", "adapted_rand", "f1", "precision", "recall")]
    judged = series(*[n for n in known if any(n in r for r in rows)][:4])
    return beside(
        plot(
            svg.lines(loss, x="step", y="loss", zero=True),
            f"Loss over {rows[-1]['step'] if rows else 0:,} steps.",
            Source(rel, "loss, step"),
        ),
        plot(
            svg.lines(judged, x="step", y="validation", points=True, zero=True),
            "Scores on tissue that was held out.",
            Source(rel, "validation_*"),
        ),
    )


def segmentation(found: Results) -> Chapter | None:
    """Objects before and after agglomeration, beside the image and the truth where there is one."""
    objects, neurons = found.thing("objects"), found.thing("neurons")
    image = found.thing("image")
    if objects is None and neurons is None:
        return None
    out = Chapter("segmentation", "Segmentation")
    last = "agglomerate" if neurons is not None else "reconcile"
    out.state = found.state(last).state
    for step in ("segment", "consensus", "reconcile", "agglomerate"):
        if found.state(step).figures:
            out.add(heading(STEPS[step].line), facts(found.figures(step).facts()))
    if image is not None:
        out.add(_panels(found, image, objects, neurons))
    out.add(_sizes(found, objects, neurons))
    return out


def _panels(found: Results, image: Volume, objects: Volume | None, neurons: Volume | None) -> str:
    truth = found.true_labels()
    out = ""
    for plane, title in (("xy", "A section"), ("xz", "Through the sections")):
        # labels may cover a part of the image
        extent = objects or neurons or image
        field = shots.field(extent, plane, HALF)
        if field.flat:
            field = shots.field(extent, plane, WIDE)
        grey = shots.sample(image, field)
        bounds = shots.bounds(grey)
        cut = None if truth is None else shots.sample(truth, field)
        parts = [_drawn(found, image, field, picture.grey(grey, bounds), "The image")]
        for words, labels in (("base objects", objects), ("agglomerated", neurons), ("", truth)):
            if labels is None:
                continue
            here = shots.sample(labels, field)
            ids = here if cut is None else picture.matched(here, cut)
            rgb = picture.overlay(grey, here, bounds=bounds, colour_ids=ids)
            count = len(np.unique(here[here > 0]))
            said = f"{count} {words}" if words else f"The truth, {count} bodies"
            parts.append(_drawn(found, labels, field, rgb, said))
        out += heading(title) + beside(*parts)
    if truth is not None:
        out += paragraph(
            "Colours are matched to the truth within each picture: what has another colour than "
            "the truth is a further piece of a split body, or the second body of a merger.",
            "note",
        )
    return out


def _drawn(found: Results, volume: Volume, field: shots.Field, rgb: np.ndarray, words: str) -> str:
    rgb = shots.scale_bar(rgb, field.nm)
    size = "full" if field.flat else "half"
    return drawn(shots.png(rgb), f"{words}; {field.said()}.", found.source(volume), size=size)


def _sizes(found: Results, objects: Volume | None, neurons: Volume | None) -> str:
    """Distribution of sizes, from the tables that say them."""
    series: dict[str, np.ndarray] = {}
    sources: list[Source] = []
    tables = []
    if (wiring := found.path("connectome")) is not None:
        tables = [
            ("base objects", Path(wiring) / "base/objects.parquet"),
            ("neurons", Path(wiring) / "neurons.parquet"),
        ]
    elif (meshes := found.path("meshes")) is not None:
        tables = [("inside of meshes", Path(meshes) / "meshes.parquet")]
    for name, file in tables:
        columns = found.columns(file)
        if "volume_nm3" in columns:
            series[name] = columns["volume_nm3"] / 1e9
            sources.append(Source(found.rel(file), "volume_nm3"))
    drawing = svg.histogram(series, x="volume (µm³)", y="objects", log=True)
    parts = [plot(drawing, "Sizes of objects.", sources)]
    labels = neurons or objects
    if not series and labels is not None:
        parts = [_counted(found, labels)]
    if (skeletons := found.path("skeletons")) is not None:
        file = Path(skeletons) / "skeletons.parquet"
        cable = found.columns(file).get("cable_nm", np.zeros(0)) / 1000
        parts.append(
            plot(
                svg.histogram({"skeletons": cable}, x="cable (µm)", y="neurons", log=True),
                f"Cable of {len(cable):,} skeletons, {np.nansum(cable) / 1000:.4g} mm in all.",
                Source(found.rel(file), "cable_nm"),
            )
        )
    return heading("Sizes") + beside(*parts) if any(parts) else ""


COUNTED = 64_000_000
"""Voxels up to which a volume without tables is counted for its sizes."""


def _counted(found: Results, labels: Volume) -> str:
    if np.prod(labels.shape, dtype=np.int64) > COUNTED:
        return paragraph("Sizes are shown once there are meshes or a connectome.", "note")
    ids, voxels = np.unique(labels.read(), return_counts=True)
    voxels = voxels[ids != 0]  # a volume without a gap holds no 0
    nm3 = float(np.prod(tuple(labels.voxel_size)))
    return plot(
        svg.histogram({"objects": voxels * nm3 / 1e9}, x="volume (µm³)", y="objects", log=True),
        "Sizes of objects, counted in the volume.",
        found.source(labels, "voxels of each id"),
    )


def neurons(found: Results) -> Chapter | None:
    """The largest neurons, drawn from their meshes."""
    path = found.path("meshes")
    if path is None:
        return None
    out = Chapter("neurons", "Neurons", state=found.state("mesh").state)
    for step in ("mesh", "skeletonize"):
        if found.state(step).figures:
            out.add(heading(STEPS[step].line), facts(found.figures(step).facts()))
    file = Path(path) / "meshes.parquet"
    columns = found.columns(file)
    if not {"id", "volume_nm3"} <= set(columns):
        return out
    order = np.lexsort((columns["id"], -columns["volume_nm3"]))[:LARGEST]
    ids, volumes = columns["id"][order], columns["volume_nm3"][order] / 1e9
    try:
        meshes = surfaces.Meshes(path)
        read = [meshes.read(int(i), 16_000) for i in ids]
    except PetavoxError as e:
        out.add(paragraph(str(e), "warning"))
        return out
    some = [
        (i, v, s)
        for i, v, s in zip(ids, volumes, read, strict=True)
        if s is not None and len(s.faces)
    ]
    if not some:
        return out
    paint = _soft(np.array([i for i, _, _ in some], np.uint64))
    labels = found.thing("neurons|objects")
    frame = None
    if labels is not None:
        size = np.array(tuple(labels.voxel_size))
        low, high = np.array(labels.box.start), np.array(labels.box.stop)
        frame = ((low * size)[::-1], (high * size)[::-1])
    whole = surfaces.render([s for _, _, s in some], paint, (880, 600), frame=frame)
    source = [Source(found.rel(path)), Source(found.rel(file), "volume_nm3")]
    out.add(
        drawn(
            shots.png(whole),
            f"The {len(some)} largest of {len(columns['id']):,} objects, in the volume's box.",
            source,
            size="full",
        )
    )
    alone = [
        drawn(
            shots.png(surfaces.render([s], paint[k : k + 1], (200, 200))),
            f"{i}: {shown(float(v))} µm³",
            Source(found.rel(file), f"id {i}"),
            size="small",
        )
        for k, (i, v, s) in enumerate(some[:ALONE])
    ]
    out.add(heading("One by one"), beside(*alone, kind="grid"))
    return out


def _soft(ids: np.ndarray) -> np.ndarray:
    """Colours of ids, a little paler than in slices."""
    return np.asarray(np.rint(picture.colours(ids) * 0.8 + 40), np.uint8)
