"""Align: a volume of sections -> fields that bring them into one volume.

What it is: the driver around petavox.align.stack: reads sections, finds missing ones, solves,
measures how neighbours agree, and writes

    OUT/petavox.json       state and provenance
    OUT/fields.npz         section -> volume, one field per section, nm (docs/alignment.md)
    OUT/report.json, pairs.csv, failures.csv, damage.csv

While it runs, OUT.run holds the ledger and the matches that are done; a run that was stopped goes
on from there. What it is not: the science, the matching (stages/align_blocks.py), or rendering
(stages/render.py).
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field as Default

from petavox import provenance
from petavox.align import field_file, stack
from petavox.align.banded import factor_bytes
from petavox.align.damage_view import DamageSettings
from petavox.align.frames import Field, Lattice
from petavox.align.stack_settings import AlignSettings
from petavox.blocks import Engine, Ledger
from petavox.blocks.content import content_digest
from petavox.blocks.plan import memory_available
from petavox.errors import BadInput, WorkFailed
from petavox.ffn.devices import device_of
from petavox.progress import Progress
from petavox.provenance import digest
from petavox.settings import Settings
from petavox.stages.align_blocks import BlockMatcher, Place, forget
from petavox.stages.align_report import patch_maps, write_report
from petavox.stages.landmarks import read_landmarks
from petavox.stages.room import require_apart, require_room
from petavox.stages.section_damage import SectionDamage
from petavox.stages.section_fields import read_fields
from petavox.stages.section_folder import Sections, image_path, volume_of
from petavox.stages.threads import one_torch_thread
from petavox.volume import Volume, opening, places, state

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
    """Sections and pairs worked on at once in each process."""
    slab: int = Default(16, ge=1)
    """Sections of one block task of matching."""
    find_damage: bool = True
    """Look for folds, cracks, dust and empty areas, unless a match mask is given: no matches are
    sought there, and folds and cracks weaken the section's springs."""
    damage: DamageSettings = DamageSettings()
    """What counts as damage."""
    device: str = "cpu"
    """Where correlation and resampling run: auto, cpu, cuda, cuda:1, xpu, mps."""


def run(
    sections: str | Path,
    out: str | Path,
    settings: AlignStageSettings,
    *,
    matches: str | Path | None = None,
    fixed: str | Path | None = None,
    landmarks: str | Path | None = None,
    engine: Engine | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Align the sections of a volume (or of a stitch folder); returns figures.

    matches: volume of the sections' shape, true where matches may lie (a match mask); without it
    damage is looked for.  fixed: an older OUT whose sections stay as they are, while new ones are
    added.  landmarks: CSV with the columns a,ay_nm,ax_nm,b,by_nm,bx_nm.  engine: where the
    matching runs; default: this process.
    Raises WorkFailed at the end if sections could not be aligned, or fit none before them; the
    others are in `out`.
    """
    started = time.monotonic()
    settings = settings.model_copy(update={"device": str(device_of(settings.device))})
    place = Path(out)
    work = place.with_name(place.name + ".run")
    require_apart(place, (sections, fixed, matches, landmarks))
    require_room(place, overwrite=overwrite, going_on=work.exists())
    volume = volume_of(sections)
    pixel = volume.voxel_size.x
    if abs(volume.voxel_size.y - pixel) > 1e-6 * pixel:
        raise BadInput(f"{sections} has pixels of {volume.voxel_size}: they must be square.")
    if matches is not None and opening.open(matches).box != volume.box:
        raise BadInput(
            f"the match mask {matches} has box {opening.open(matches).box}, the sections "
            f"{volume.box}."
        )
    _require_memory(volume, settings.match)
    held = {} if fixed is None else read_fields(fixed, pixel)
    corner = (volume.box.start[1], volume.box.start[2])
    order = list(range(volume.box.start[0], volume.box.stop[0]))
    marks = [] if landmarks is None else read_landmarks(landmarks, pixel, order, corner)
    source_path = image_path(sections)
    where = Place(
        volume=_absolute(source_path),
        content=_content(source_path, matches),
        mask=None if matches is None else _absolute(matches),
        damage=settings.damage if settings.find_damage and matches is None else None,
        run=str(work.absolute()),
        memory_mb=settings.memory_mb,
        threads=settings.threads,
        device=settings.device,
    )
    source = where.open()
    held = {k: f for k, f in held.items() if k in set(order)}
    with (
        Ledger(work / "ledger.db") as ledger,
        one_torch_thread(),
        ThreadPoolExecutor(settings.threads) as pool,
    ):
        missing = _missing(source, order, settings, held, pool)
        for k, cause in missing.items():
            log.warning("section %d is MISSING: %s; it is bridged.", k, cause)
        for m in marks:
            if m.a in missing or m.b in missing:
                log.warning("the landmarks of %d and %d are NOT used: one is missing.", m.a, m.b)
        with Progress("align", total=len(order) - len(missing), unit="section") as progress:
            result = stack.align(
                source,
                order,
                settings.match,
                fixed=held,
                springs=None if source.damage is None else _springs(source.damage),
                landmarks=marks,
                missing=missing,
                device=settings.device,
                say=lambda line: log.warning("%s", line),
                done=progress.to,
                run=pool.map,
                matcher=BlockMatcher(where, ledger, engine, settings.slab),
            )
        seconds = {"align": time.monotonic() - started}
        patches = patch_maps(source, result, settings.patch_px, settings.device, pool.map)
    seconds["report"] = time.monotonic() - started - seconds["align"]
    opening.make_room(place, overwrite=True)  # only now: until here an old result is kept
    place.mkdir(parents=True)
    state.begin(place, stage="align")
    field_file.save(
        place / "fields.npz",
        {f"section_{k:05d}": f.scaled(pixel) for k, f in sorted(result.fields.items())},
    )
    # the places only: with the masks, a thousand large sections are tens of GB
    hurt = (
        {}
        if source.damage is None
        else {k: source.damage(k).places for k in order if k not in missing}
    )
    figures = write_report(place, result, missing, patches, hurt, corner) | {
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "out": str(place),
    }
    if figures["pairs_apart"]:
        log.warning(
            "sections %s do NOT lie on one another, and all after them may be off: look at them "
            "with petavox qc --aligned, then give --landmarks between them.",
            ", ".join(figures["pairs_apart"]),
        )
    provenance.write_json(place / "report.json", figures)
    record = provenance.record(
        "align",
        settings=settings,
        inputs={
            "sections": str(sections),
            "fixed": str(fixed or ""),
            "landmarks": str(landmarks or ""),
            "matches": str(matches or ""),
        },
        counters=figures,
        seconds=time.monotonic() - started,
    )
    state.finish(place, record)
    shutil.rmtree(work)
    forget()
    failed = {k: c for k, c in result.failures.items() if k not in missing}
    if failed:
        k = min(failed)
        raise WorkFailed(
            f"{len(failed)} of {len(order)} sections could not be aligned (section {k}: "
            f"{failed[k]}); the others are in {place}, see failures.csv."
        )
    if result.breaks:
        runs = ", ".join(map(str, result.breaks))
        raise WorkFailed(
            f"new runs begin at section {runs}: nothing tells how these lie against the sections "
            f"before; all are in {place}. Give --landmarks between the runs (two or more a pair)."
        )
    return figures


def _require_memory(volume: Volume, settings: AlignSettings) -> None:
    """Raise BadInput where the joint solve of a window would not fit this machine's memory."""
    spacing = settings.spacing_px or 1.25 * max(settings.smooth_px, settings.jerk_px)
    side = volume.box.shape[1:]
    sections = min(settings.window, volume.box.shape[0])
    needed = sections * factor_bytes((int(side[0] / spacing) + 3, int(side[1] / spacing) + 3))
    free = memory_available()
    if free is not None and needed > free:
        raise BadInput(
            f"sections of {side[0]} x {side[1]} px with control points every {spacing:.0f} px need "
            f"up to {needed / 2**30:.1f} GiB for the joint solve of {sections} of them, "
            f"{free / 2**30:.1f} GiB are free: choose a smaller match.window (it takes memory in "
            "proportion), or a larger match.spacing_px (by its cube)."
        )


def _content(sections: str | Path, matches: str | Path | None) -> str:
    """Digest of what the sections and the match mask hold."""
    own = content_digest(sections)
    return own if matches is None else digest(own, content_digest(matches))


def _absolute(path: str | Path) -> str:
    """Workers may start in another folder."""
    place = places.named(path)
    return place if places.is_url(place) else str(Path(place).absolute())


def _springs(damage: SectionDamage) -> Callable[[int, Lattice], np.ndarray]:
    return lambda k, lattice: damage(k).springs(lattice)


def _missing(
    source: Sections,
    order: Sequence[int],
    settings: AlignStageSettings,
    held: Mapping[int, Field],
    pool: ThreadPoolExecutor,
) -> dict[int, str]:
    """Sections with next to nothing in them."""
    factor = stack.thumb_factor(source.shape(order[0]), settings.match.thumbnail_px)
    asked = [k for k in order if k not in held]
    cover = pool.map(lambda k: float(source.level(k, factor)[1].mean()), asked)
    return {
        k: f"only {100 * share:.1f} % of its area has an image that can be matched"
        for k, share in zip(asked, cover, strict=True)
        if share < settings.least_cover
    }
