"""Chapters on images: raw tiles, stitched sections, the aligned volume.

What it is: a function a chapter, from results to HTML. What it is not: the reading, or the looks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from petavox.view import picture
from petavox.view.report import shots, svg
from petavox.view.report.parts import (
    Chapter,
    Fact,
    Source,
    beside,
    facts,
    heading,
    paragraph,
    plot,
    table,
)
from petavox.view.report.parts import picture as shown
from petavox.view.report.reading import Results
from petavox.volume import Volume

WIDE, HALF = 760, 520
"""Pixels of pictures."""


def tiles(found: Results) -> Chapter | None:
    """Raw tiles: how many, and one of them."""
    given = found.project.settings.input.tiles
    if given is None:
        return None
    from petavox.align.tiles import read

    out = Chapter("tiles", "Raw tiles")
    path = found.project.path(given)
    listed = read(path)
    source = Source(found.rel(path))
    counts = {k: len(v) for k, v in listed.sections.items()}
    out.add(
        facts(
            [
                Fact("tiles", len(listed.tiles), Source(source.file, "rows")),
                Fact("sections", len(counts), Source(source.file, "distinct values of section")),
                Fact(
                    "tiles of one section",
                    f"{min(counts.values())} to {max(counts.values())}",
                    Source(source.file, "rows of a section"),
                ),
            ]
        )
    )
    middle = list(listed.sections.values())[len(counts) // 2]
    tile = middle[0]
    try:
        with Image.open(tile.file) as opened:
            size = opened.size
            raw = np.asarray(opened)
    except OSError as e:
        found.trouble.append(f"{found.rel(tile.file)} cannot be read: {e}.")
        return out
    raw = raw if raw.ndim == 2 else raw[..., 0]
    step = max(1, max(raw.shape) // HALF)
    more = max(1, HALF // max(raw.shape))
    rgb = picture.stretched(shots.grey(raw[::step, ::step]), (more, more))
    if listed.pixel_nm or found.project.settings.voxel_size:
        nm = listed.pixel_nm or found.project.settings.voxel_size[2]  # type: ignore[index]
        rgb = shots.scale_bar(rgb, nm * step / more)
    caption = f"A raw tile: section {tile.section}, {size[0]} × {size[1]} pixels."
    tile_picture = shown(shots.png(rgb), caption, Source(found.rel(tile.file)), size="half")
    sections = found.thing("sections")
    whole = ""
    if sections is not None:
        whole = _slice(found, sections, "xy", HALF, "The same section, stitched", z=tile.section)
    out.add(beside(tile_picture, whole))
    return out


def stitched(found: Results) -> Chapter | None:
    """Seams: residuals and correlation."""
    path = found.path("sections")
    if path is None or found.project.settings.input.sections:
        return None
    out = Chapter("stitch", "Stitching", state=found.state("stitch").state)
    record = found.json(Path(path) / "report.json") or found.figures("stitch")
    out.add(facts(record.facts()))
    file = Path(path) / "seams.csv"
    seams = found.columns(file)
    if seams:
        rel = found.rel(file)
        out.add(
            beside(
                plot(
                    svg.histogram({"seams": seams["residual_px"]}, x="residual (px)", y="seams"),
                    f"What is left of the shift across {len(seams['residual_px'])} seams.",
                    Source(rel, "residual_px"),
                ),
                plot(
                    svg.histogram({"seams": seams["correlation"]}, x="correlation", y="seams"),
                    "Correlation of both tiles across each seam.",
                    Source(rel, "correlation"),
                ),
            )
        )
    out.add(_failures(found, Path(path) / "failures.csv"))
    return out


def aligned(found: Results) -> Chapter | None:
    """Sections on one another: before and after, residuals, the volume in three planes."""
    image = found.thing("image")
    fields = found.path("fields")
    if image is None and fields is None:
        return None
    given = found.project.settings.input.image is not None
    out = Chapter("image", "The image volume" if given else "Alignment")
    if fields is not None:
        out.state = found.state("align").state
        record = found.json(Path(fields) / "report.json") or found.figures("align")
        out.add(facts(record.facts()))
        for note in record.get("notes") or []:
            out.add(paragraph(f"{note}.", "note"))
        out.add(_pairs(found, Path(fields)))
    if image is None:
        out.add(paragraph("The aligned volume is not rendered yet.", "warning"))
        return out
    out.add(facts(about(found, image)))
    before = found.thing("sections")
    if before is not None and fields is not None:
        out.add(
            heading("Before and after alignment"),
            beside(
                _slice(found, before, "xz", HALF, "Stitched sections, one above the other"),
                _slice(found, image, "xz", HALF, "Aligned"),
            ),
        )
    out.add(
        heading("Three planes"),
        _planes(found, image),
    )
    return out


def _planes(found: Results, image: Volume) -> str:
    across = _slice(found, image, "xy", WIDE, "Across the sections", size="most")
    through = [_slice(found, image, p, HALF, "Through the sections") for p in ("xz", "yz")]
    if shots.field(image, "xz", HALF).flat:
        return beside(across) + beside(*through)
    return beside(across, beside(*through, kind="stack"))


def about(found: Results, volume: Volume) -> list[Fact]:
    """Box, voxel size and type of a volume."""
    meta = "zarr.json" if (Path(volume.path) / "zarr.json").is_file() else ""
    file = found.rel(Path(volume.path) / meta) if meta else found.rel(volume.path)
    z, y, x = (n * s / 1000 for n, s in zip(volume.shape, volume.voxel_size, strict=True))
    voxels = int(np.prod(volume.shape, dtype=np.int64))
    return [
        Fact("voxels", voxels, Source(file, "shape")),
        Fact("shape (z y x)", _by(volume.shape), Source(file, "shape"), "voxels"),
        Fact("voxel size (z y x)", _by(volume.voxel_size), Source(file, "scale"), "nm"),
        Fact("extent (z y x)", f"{z:.3g} × {y:.3g} × {x:.3g}", Source(file, "shape × scale"), "µm"),
        Fact("type", str(volume.dtype), Source(file, "data_type")),
    ]


def _by(values: Iterable[float]) -> str:
    return " × ".join(f"{v:,.6g}" for v in values)


def _pairs(found: Results, folder: Path) -> str:
    pairs = found.columns(folder / "pairs.csv")
    if not pairs:
        return ""
    rel = found.rel(folder / "pairs.csv")
    gap = pairs["b"] - pairs["a"]
    near = gap == 1
    series = {
        f"next but {int(g) - 1}" if g > 1 else "next": (
            pairs["a"][gap == g],
            pairs["residual_px"][gap == g],
        )
        for g in np.unique(gap)[:3]
    }
    few = len(pairs["a"]) < 80
    return beside(
        plot(
            svg.lines(series, x="section", y="residual (px)", points=few, zero=True),
            "Residual of the matches of each pair of sections.",
            Source(rel, "residual_px"),
        ),
        plot(
            svg.lines(
                {"next": (pairs["a"][near], pairs["patch_correlation"][near])},
                x="section", y="patch correlation", points=few,
            ),
            "Correlation of each section with the next, patch by patch, after alignment.",
            Source(rel, "patch_correlation"),
        ),
    ) + _failures(found, folder / "failures.csv")  # fmt: skip


def _failures(found: Results, file: Path) -> str:
    rows = found.columns(file)
    if not rows:
        return ""
    names = list(rows)
    body = list(zip(*(rows[n].tolist() for n in names), strict=True))
    more = f" ({len(body) - 20} more in the file)" if len(body) > 20 else ""
    return heading(f"What did not work{more}") + table(
        (*names, "source"), [(*r, Source(found.rel(file))) for r in body[:20]]
    )


def _slice(
    found: Results,
    volume: Volume,
    plane: str,
    pixels: int,
    caption: str,
    *,
    z: int | None = None,
    size: str = "half",
) -> str:
    at = None if z is None else (z + 0.5) * volume.voxel_size.z
    field = shots.field(volume, plane, pixels, at=at)
    if size == "half" and plane != "yz" and field.flat:
        field, size = shots.field(volume, plane, WIDE, at=at), "full"
    rgb = shots.scale_bar(shots.grey(shots.sample(volume, field)), field.nm)
    return shown(shots.png(rgb), f"{caption}; {field.said()}.", found.source(volume), size=size)
