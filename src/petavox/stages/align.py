"""Align: a volume of sections -> fields that bring them into one volume.

What it is: the driver around petavox.align.stack: reads sections, finds missing ones, solves,
measures how neighbours agree, and writes

    OUT/petavox.json       state and provenance
    OUT/fields.npz         section -> volume, one field per section, nm (docs/alignment.md)
    OUT/report.json, pairs.csv, sections.csv, failures.csv

What it is not: the science, or rendering (stages/render.py).
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field as Default

from petavox import provenance
from petavox.align import frames, match, solve, stack
from petavox.align.frames import Field, Lattice
from petavox.align.stack import AlignSettings
from petavox.errors import BadInput, WorkFailed
from petavox.progress import Progress
from petavox.settings import Settings
from petavox.stages.section_folder import Sections, volume_of
from petavox.stages.stitch import one_torch_thread, write_csv
from petavox.volume import opening, state

log = logging.getLogger("petavox")


class AlignStageSettings(Settings):
    """Settings of `petavox align`."""

    match: AlignSettings = AlignSettings()
    """How sections are matched and solved."""
    least_cover: float = 0.02
    """A section with less of its area valid than this counts as missing."""
    patch_px: int = 96
    """Side of the patches whose correlation is reported, pixels of the level used."""
    memory_mb: int = Default(1024, ge=64)
    """Bound on sections held in memory."""
    threads: int = Default(2, ge=1)
    """Pairs worked on at once."""
    device: str = "cpu"
    """Where correlation and resampling run: cpu, cuda, xpu."""


def run(
    sections: str | Path,
    out: str | Path,
    settings: AlignStageSettings,
    *,
    matches: str | Path | None = None,
    fixed: str | Path | None = None,
    landmarks: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Align the sections of a volume (or of a stitch folder); returns figures.

    matches: volume of the sections' shape, true where matches may lie (a match mask).  fixed: an
    older OUT whose sections stay as they are, while new ones are added.  landmarks: CSV with the
    columns a,ay_nm,ax_nm,b,by_nm,bx_nm.
    Raises WorkFailed at the end if sections could not be aligned; the others are in `out`.
    """
    started = time.monotonic()
    volume = volume_of(sections)
    pixel = volume.voxel_size.x
    if abs(volume.voxel_size.y - pixel) > 1e-6 * pixel:
        raise BadInput(f"{sections} has pixels of {volume.voxel_size}: they must be square.")
    masks = None if matches is None else opening.open(matches)
    if masks is not None and masks.box != volume.box:
        raise BadInput(f"the match mask {matches} has box {masks.box}, the sections {volume.box}.")
    held = {} if fixed is None else read_fields(fixed, pixel)
    marks = [] if landmarks is None else read_landmarks(landmarks, pixel)
    place = Path(out)
    opening.make_room(place, overwrite=overwrite)
    place.mkdir(parents=True)
    state.begin(place, stage="align")
    source = Sections(volume, matches=masks, memory_mb=settings.memory_mb)
    order = list(range(volume.box.start[0], volume.box.stop[0]))
    held = {k: f for k, f in held.items() if k in set(order)}
    missing = _missing(source, order, settings, held)
    for k, cause in missing.items():
        log.warning("section %d is MISSING: %s; it is bridged.", k, cause)
    with one_torch_thread(), ThreadPoolExecutor(settings.threads) as pool:
        with Progress("align", total=len(order) - len(missing), unit="section") as progress:
            result = stack.align(
                source,
                order,
                settings.match,
                fixed=held,
                landmarks=marks,
                missing=missing,
                device=settings.device,
                say=lambda line: log.warning("%s", line),
                done=progress.to,
                run=pool.map,
            )
        seconds = {"align": time.monotonic() - started}
        patches = _patches(source, result, settings, pool)
    seconds["report"] = time.monotonic() - started - seconds["align"]
    frames.save(
        place / "fields.npz",
        {f"section_{k:05d}": f.scaled(pixel) for k, f in sorted(result.fields.items())},
    )
    figures = _report(place, result, missing, patches) | {
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "out": str(place),
    }
    provenance.write_json(place / "report.json", figures)
    record = provenance.record(
        "align",
        settings=settings,
        inputs={
            "sections": str(sections),
            "fixed": str(fixed or ""),
            "matches": str(matches or ""),
        },
        counters=figures,
        seconds=time.monotonic() - started,
    )
    state.finish(place, record)
    failed = {k: c for k, c in result.failures.items() if k not in missing}
    if failed:
        k = min(failed)
        raise WorkFailed(
            f"{len(failed)} of {len(order)} sections could not be aligned (section {k}: "
            f"{failed[k]}); the others are in {place}, see failures.csv."
        )
    return figures


def read_fields(path: str | Path, pixel: float) -> dict[int, Field]:
    """Fields of an align folder or an npz, in pixels, by section number."""
    place = Path(path)
    if place.is_dir():
        state.require_complete(place)
        place = place / "fields.npz"
    out = {}
    for name, f in frames.load(place).items():
        number = name.removeprefix("section_")
        if not number.isdigit():
            raise BadInput(f"{place} holds a field '{name}'; names must be section_NUMBER.")
        out[int(number)] = f.scaled(1 / pixel)
    return out


def read_landmarks(path: str | Path, pixel: float) -> list[solve.Matches]:
    """Matches set by hand: CSV with the columns a,ay_nm,ax_nm,b,by_nm,bx_nm."""
    import csv

    names = ("a", "ay_nm", "ax_nm", "b", "by_nm", "bx_nm")
    try:
        with open(path, newline="") as f:
            rows = list(csv.DictReader(f))
        parsed = [[float(row[n]) for n in names] for row in rows]
    except (OSError, KeyError, TypeError, ValueError) as e:
        raise BadInput(
            f"cannot read the landmarks {path} ({e!r}); columns: {','.join(names)}."
        ) from None
    pairs: dict[tuple[int, int], list[list[float]]] = {}
    for row in parsed:
        pairs.setdefault((int(row[0]), int(row[3])), []).append(row)
    out = []
    for (a, b), part in pairs.items():
        v = np.array(part) / pixel
        weight = np.full(len(v), 4.0)
        out.append(solve.Matches(a, b, v[:, 1:3], v[:, 4:6], weight, 100.0))
    return out


def _missing(
    source: Sections, order: Sequence[int], settings: AlignStageSettings, held: Mapping[int, Field]
) -> dict[int, str]:
    """Sections with next to nothing in them."""
    factor = stack.thumb_factor(source.shape(order[0]), settings.match.thumbnail_px)
    out = {}
    for k in order:
        if k in held:
            continue
        _, valid = source.level(k, factor)
        if valid.mean() < settings.least_cover:
            out[k] = f"only {100 * valid.mean():.1f} % of its area has an image"
    return out


def _patches(
    source: Sections, result: stack.Result, settings: AlignStageSettings, pool: ThreadPoolExecutor
) -> dict[tuple[int, int], np.ndarray]:
    """Patch correlation maps of neighbours after alignment, at the level of about 1000 px."""
    known = sorted(result.fields)
    if len(known) < 2:
        return {}
    shape = source.shape(known[0])
    factor = stack.thumb_factor(shape, 1400)
    pulls, boxes = {}, []
    for k in known:
        f = result.fields[k]
        low, high = stack.extent(f, shape)
        spacing = f.lattice.spacing if f.lattice is not None else 200.0
        pulls[k] = f.inverse(Lattice.covering(low, high, spacing))
        boxes.append((low, high))
    low = np.floor(np.min([b[0] for b in boxes], axis=0) / factor).astype(int)
    high = np.ceil(np.max([b[1] for b in boxes], axis=0) / factor).astype(int)
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    start = (int(low[0]), int(low[1]))

    def seen(k: int) -> Any:
        return match.warped(
            *source.level(k, factor), pulls[k], start, size, factor, settings.device
        )

    out = {}
    before = seen(known[0])
    for a, b in itertools.pairwise(known):
        after = seen(b)
        out[a, b] = match.patch_correlation(before, after, settings.patch_px)
        before = after
    return out


def _report(
    place: Path,
    result: stack.Result,
    missing: Mapping[int, str],
    patches: Mapping[tuple[int, int], np.ndarray],
) -> dict[str, Any]:
    """Tables, and the figures."""
    rows = [
        {
            "a": p.a,
            "b": p.b,
            "matches": p.matches,
            "inlier_share": round(p.inliers, 3),
            "residual_px": round(p.residual_px, 3),
            "patch_correlation": round(float(np.nanmean(patches[p.a, p.b])), 4)
            if (p.a, p.b) in patches and np.isfinite(patches[p.a, p.b]).any()
            else "",
            "failed": p.failed,
        }
        for p in sorted(result.pairs, key=lambda p: (p.a, p.b))
    ]
    names = ("a", "b", "matches", "inlier_share", "residual_px", "patch_correlation", "failed")
    write_csv(place / "pairs.csv", rows, names)
    write_csv(
        place / "failures.csv",
        [{"section": k, "cause": c} for k, c in sorted(result.failures.items())],
        ["section", "cause"],
    )
    near = [p for p in result.pairs if p.b - p.a == 1]
    maps = [m for m in patches.values() if np.isfinite(m).any()]
    np.savez_compressed(
        place / "patch_correlation.npz",
        **{f"{a:05d}_{b:05d}": m.astype(np.float32) for (a, b), m in patches.items()},  # type: ignore[arg-type]
    )
    return {
        "sections": len(result.fields),
        "missing": sorted(missing),
        "failed": sorted(k for k in result.failures if k not in missing),
        "pairs": len(result.pairs),
        "pairs_failed": [f"{p.a}-{p.b}" for p in near if p.failed],
        "residual_px": _mean([p.residual_px for p in near]),
        "inlier_share": _mean([p.inliers for p in near]),
        "patch_correlation": _mean([float(np.nanmean(m)) for m in maps]),
        "notes": result.notes,
        "suspected_order": result.order,
    }


def _mean(values: Sequence[float]) -> float | None:
    good = [v for v in values if np.isfinite(v)]
    return round(float(np.mean(good)), 4) if good else None
