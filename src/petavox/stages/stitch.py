"""Stitch: tiles of a table -> one volume of sections.

What it is: the settings and the order of steps (stages/stitch_work.py); the folder is described in
stages/section_folder.py. A tile that cannot be read is left out, listed, and told by the exit code;
all else is finished. A run that was broken off goes on when it is started again. What it is not:
the science.
"""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pydantic import Field as Default

from petavox import provenance
from petavox.align import tiles
from petavox.align.seams import StitchSettings
from petavox.errors import BadInput, WorkFailed
from petavox.ffn.devices import device_of
from petavox.settings import Settings
from petavox.stages.pieces import Pieces, key_of
from petavox.stages.stitch_report import write_report
from petavox.stages.stitch_work import CODE, Work
from petavox.stages.threads import one_torch_thread
from petavox.volume import opening, state

log = logging.getLogger("petavox")


class StitchStageSettings(Settings):
    """Settings of `petavox stitch`."""

    pixel_nm: float | None = None
    """Edge of a pixel, nm; may be left out where the table says it (FEABAS files)."""
    thickness_nm: float = Default(40.0, gt=0)
    """Thickness of a section, nm: the volume's voxel size along z."""
    match: StitchSettings = StitchSettings()
    """How tiles are matched and solved."""
    block_px: int = Default(2048, ge=64)
    """Side of the blocks (shards) of a section that are rendered and written at once."""
    coarse_px: int = Default(8, ge=2)
    """Structures larger than about this are feathered across seams, smaller ones never mixed."""
    memory_mb: int = Default(1024, ge=64)
    """Bound on the tiles held in memory."""
    threads: int = Default(2, ge=1)
    """Pairs and blocks worked on at once."""
    device: str = "cpu"
    """Where correlation and resampling run: auto, cpu, cuda, cuda:1, xpu, mps."""
    pyramid: bool = True
    """Also make coarser levels of the sections, for viewing."""


def run(
    table: str | Path, out: str | Path, settings: StitchStageSettings, *, overwrite: bool = False
) -> dict[str, Any]:
    """Stitch all sections of a table into the folder `out`; returns figures.

    Raises BadInput before any work for a table that cannot be used, WorkFailed after it if some
    tiles could not be read or some sections could not be stitched.
    """
    started = time.monotonic()
    settings = settings.model_copy(update={"device": str(device_of(settings.device))})
    read = tiles.read(table)
    pixel = settings.pixel_nm or read.pixel_nm
    if pixel is None:
        raise BadInput(f"{table} does not say how large a pixel is: give --pixel-size in nm.")
    checked = tiles.check(read, pixel)
    place = Path(out)
    with one_torch_thread(), ThreadPoolExecutor(settings.threads) as pool:
        work = Work(checked, pixel, settings, pool)
        keys = [work.section_key(k) for k in work.members]
        free = ("threads", "memory_mb", "device", "pyramid")
        pieces = Pieces(place, key_of(settings, keys, CODE, apart=free))
        if pieces.going_on:
            log.info("stitch goes on where it was broken off.")
        else:
            opening.make_room(place, overwrite=overwrite)
            place.mkdir(parents=True)
            pieces.begin()
        work.measure(place.with_name(place.name + ".run") / "seams")
        seconds = {"match": time.monotonic() - started}
        work.solve()
        seconds["solve"] = time.monotonic() - started - sum(seconds.values())
        work.render(place, pieces)
        seconds["render"] = time.monotonic() - started - sum(seconds.values())
    figures = write_report(place, work) | {
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "out": str(place),
    }
    record = provenance.record(
        "stitch",
        settings=settings,
        inputs={
            "table": provenance.digest(Path(table).read_bytes())
            if Path(table).is_file()
            else str(table)
        },
        counters=figures,
        seconds=time.monotonic() - started,
    )
    provenance.write_json(place / "report.json", figures)
    state.finish(place, record)
    pieces.end()
    if work.failures:
        raise WorkFailed(
            f"{len(work.failures)} of {len(checked.tiles)} tiles were left out (first: "
            f"{work.failures[0]['cause']}); all others are in {place}, see failures.csv."
        )
    return figures
