"""The chapter on quality: the table of sections, damage, and masks.

What it is: a function from results to HTML. What it is not: the reading, or the looks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from petavox.view import picture
from petavox.view.report import shots, svg
from petavox.view.report.images import WIDE
from petavox.view.report.parts import Chapter, Source, beside, facts, paragraph, plot, table
from petavox.view.report.parts import picture as shown
from petavox.view.report.reading import Results
from petavox.volume import Volume


def quality(found: Results) -> Chapter | None:
    """The table of sections, and the masks."""
    path = found.path("qc")
    masks = found.path("mask")
    if path is None and masks is None:
        return None
    out = Chapter("quality", "Quality and masks")
    if path is not None:
        out.state = found.state("qc").state
        file = Path(path) / "sections.csv"
        table_ = found.columns(file)
        rel = found.rel(file)
        out.add(facts(found.figures("qc").facts()))
        if table_:
            z = table_["z"]
            few = len(z) < 40
            lines = [
                ("focus", "focus", "sharpness"),
                ("mean", "mean grey value", "exposure"),
                ("correlation_next", "correlation with the next section", "alignment and damage"),
                ("shift_median_px", "shift against the section before (px)", "what is left"),
            ]
            out.add(
                beside(
                    *(
                        plot(
                            svg.lines({name: (z, table_[name])}, x="section", y=label, points=few),
                            f"{label[0].upper()}{label[1:]}: {what}.",
                            Source(rel, name),
                        )
                        for name, label, what in lines
                        if name in table_ and table_[name].dtype.kind == "f"
                    )
                )
            )
        out.add(_masks(found, Path(path)))
    given = found.volume(masks)
    image = found.thing("image")
    if given is not None and image is not None:
        out.add(_masked(found, image, given, "The mask that was given", None))
    return out


def _masks(found: Results, qc: Path) -> str:
    """The section with most damage, coloured by kind."""
    image, damage = found.thing("image"), found.volume(qc / "damage.zarr")
    findings = found.columns(qc / "findings.parquet")
    if image is None or damage is None:
        return ""
    if not findings or not len(findings["z"]):
        return paragraph(
            f"No damage was found ({found.rel(qc / 'findings.parquet')} is empty).", "note"
        )
    z = int(findings["z"][np.argmax(findings["area_um2"])])
    counts = {k: int((findings["kind"] == k).sum()) for k in sorted(set(findings["kind"]))}
    said = ", ".join(f"{n} {k}" for k, n in counts.items())
    return table(
        ("damage", "places", "µm²", "source"),
        [
            (
                kind,
                count,
                float(findings["area_um2"][findings["kind"] == kind].sum()),
                Source(found.rel(qc / "findings.parquet"), "kind, area_um2"),
            )
            for kind, count in counts.items()
        ],
    ) + _masked(found, image, damage, f"Section {z} with its damage in colour ({said} in all)", z)


def _masked(found: Results, image: Volume, mask: Volume, caption: str, z: int | None) -> str:
    at = None if z is None else (z + 0.5) * image.voxel_size.z
    field = shots.field(image, "xy", WIDE, at=at)
    grey, marks = shots.sample(image, field), shots.sample(mask, field)
    rgb = picture.overlay(grey, marks, bounds=shots.bounds(grey), alpha=0.5)
    sources = (found.source(image), found.source(mask))
    return shown(shots.png(shots.scale_bar(rgb, field.nm)), f"{caption}; {field.said()}.", sources)
