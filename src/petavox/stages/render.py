"""Render: sections and their fields -> one aligned image volume.

What it is: the driver that fills an OME-Zarr volume shard by shard: each shard asks, for each of
its sections, which points of the section it shows (the inverse field), reads that piece and
resamples it (cubic convolution). Memory: one shard and one piece of a section per thread, and the
fields of two layers of shards. What it is not: the fields. A run that was broken off goes on with
the shards that are left (stages/pieces.py).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field as Default

from petavox import provenance
from petavox.align import blend, warp
from petavox.align.frames import Field, extent
from petavox.blocks.content import content_digest
from petavox.errors import BadInput
from petavox.ffn.devices import device_of
from petavox.progress import Progress
from petavox.settings import BoxSetting, Settings, ZyxSetting
from petavox.space import Block, Box, Grid
from petavox.stages.pieces import Pieces, key_of
from petavox.stages.render_sections import Pulls, at_once, near, shown_at
from petavox.stages.room import require_apart
from petavox.stages.section_fields import SectionFields
from petavox.stages.section_folder import image_path, volume_of
from petavox.stages.threads import in_turn, one_torch_thread
from petavox.volume import opening, pyramid
from petavox.volume.volume import Volume

log = logging.getLogger("petavox")

CODE = tuple(
    f"petavox.{m}"
    for m in (
        "stages.render", "stages.render_sections", "stages.section_fields", "align.warp",
        "align.blend", "align.frames", "align.field_file",
    )
)  # fmt: skip
"""What decides the pixels."""


class RenderSettings(Settings):
    """Settings of `petavox render`."""

    box: BoxSetting | None = None
    """Only this box of the aligned volume, voxels; default: all that the sections cover."""
    chunk: ZyxSetting = (16, 128, 128)
    """Chunks of the volume, voxels."""
    shard: ZyxSetting = (16, 1024, 1024)
    """Shards: what one task renders and writes."""
    fill_missing: bool = False
    """Show the nearest section in place of a missing one; listed in the report."""
    fill_gaps: int = Default(0, ge=0)
    """Where a section has no image (a lost tile, a crack, a masked fold), show the nearest section
    that has one, at most this many away."""
    threads: int = Default(2, ge=1)
    """Shards rendered at once."""
    device: str = "cpu"
    """Where resampling runs: auto, cpu, cuda, cuda:1, xpu, mps."""
    pyramid: bool = True
    """Also make coarser levels."""


def run(
    sections: str | Path,
    aligned: str | Path,
    out: str | Path,
    settings: RenderSettings,
    *,
    render_mask: str | Path | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Render the sections through the fields that align wrote; returns figures.

    render_mask: volume of the sections' shape; pixels where it is 0 are not shown.
    """
    started = time.monotonic()
    settings = settings.model_copy(update={"device": str(device_of(settings.device))})
    require_apart(out, (sections, aligned, render_mask))
    source = volume_of(sections)
    pixel = source.voxel_size.x
    mask = None if render_mask is None else opening.open(render_mask)
    if mask is not None and mask.box != source.box:
        raise BadInput(
            f"the render mask {render_mask} has box {mask.box}, the sections {source.box}."
        )
    with SectionFields(aligned, pixel) as stored:
        known = [k for k in stored if source.box.start[0] <= k < source.box.stop[0]]
        if not known:
            raise BadInput(f"{aligned} holds no field for the sections of {sections}.")
        # reads every field once: what is none is refused before any work
        reach = {k: extent(stored[k], (source.shape[1], source.shape[2])) for k in known}
        low = np.floor(np.min([r[0] for r in reach.values()], axis=0)).astype(int)
        high = np.ceil(np.max([r[1] for r in reach.values()], axis=0)).astype(int) + 1
        box = settings.box or Box(
            (source.box.start[0], int(low[0]), int(low[1])),
            (source.box.stop[0], int(high[0]), int(high[1])),
        )
        made_of = [content_digest(image_path(sections)), content_digest(aligned)]
        if render_mask is not None:
            made_of.append(content_digest(render_mask))
        key = key_of(settings, made_of, CODE, apart=("threads", "device", "pyramid"))
        pieces = Pieces(out, key)
        if pieces.going_on:
            target = opening.open(out, writable=True, incomplete=True)
            log.info("render goes on: %d shards are there.", len(pieces.known))
        else:
            target = opening.create(
                out,
                box=box,
                voxel_size=source.voxel_size,
                dtype=source.dtype,
                kind="image",
                chunk=settings.chunk,
                shard=settings.shard,
                overwrite=overwrite,
            )
            pieces.begin()
        shown = {
            k: shown_at(k, known, fill=settings.fill_missing)
            for k in range(box.start[0], box.stop[0])
        }
        grid = Grid(box, block=target.write_shape)
        layers = at_once(len(grid), grid.shape[1] * grid.shape[2], settings.threads)
        # what the threads work on, and what fills its gaps
        deep = target.write_shape[0] + 2 * settings.fill_gaps
        pulls = Pulls(stored, reach, max(2, layers) * deep)
        show = Show(source, target, mask, pulls, shown, known, settings.fill_gaps, settings.device)
        _render(show, grid, pieces, settings.threads)
    rendered = time.monotonic() - started
    levels = pyramid.build(out, quiet=True)["levels"] if settings.pyramid else 1
    figures = {
        "box": str(box),
        "sections": len(known),
        "blank": [k for k, j in shown.items() if j is None],
        "filled_from": {str(k): j for k, j in shown.items() if j is not None and j != k},
        "levels": levels,
        "seconds": {
            "render": round(rendered, 2),
            "pyramid": round(time.monotonic() - started - rendered, 2),
        },
        "out": str(out),
    }
    opening.finish(
        target,
        provenance.record(
            "render",
            settings=settings,
            inputs={"sections": str(sections), "aligned": str(aligned)},
            counters=figures,
            seconds=time.monotonic() - started,
        ),
    )
    pieces.end()
    return figures


@dataclass(frozen=True)
class Show:
    """What is shown where.

    shown: z of the target -> section, or None.  known: sections with a field, ascending.
    gaps: how far away a section may be that fills a gap.
    """

    source: Volume
    target: Volume
    mask: Volume | None
    pulls: Pulls
    shown: Mapping[int, int | None]
    known: Sequence[int]
    gaps: int
    device: str


def _render(show: Show, grid: Grid, pieces: Pieces, threads: int) -> None:
    """Render the shards that are left, in order of z."""
    with (
        one_torch_thread(),
        ThreadPoolExecutor(threads) as pool,
        Progress("render", total=grid.total.size, unit="voxel") as progress,
    ):

        def shard(block: Block) -> int:
            if str(block.number) not in pieces:
                _block(block, show)
                pieces.add(str(block.number))
            return block.write.size

        for n in in_turn(pool, shard, grid, 4 * threads):
            progress.advance(n)


def _block(block: Block, show: Show) -> None:
    """Render one shard."""
    box, source = block.write, show.source
    values = np.zeros(box.shape, source.dtype)
    y = np.arange(box.start[1], box.stop[1], dtype=float)
    x = np.arange(box.start[2], box.stop[2], dtype=float)

    def seen(k: int) -> np.ndarray:
        return resampled(source, show.mask, k, show.pulls(k), y, x, show.device)

    for z in range(box.start[0], box.stop[0]):
        k = show.shown[z]
        if k is None:
            continue
        plane = values[z - box.start[0]]
        plane[:] = seen(k)
        for j in near(z, show.known, show.gaps):
            gap = plane == 0
            if not gap.any():
                break
            if j != k:
                plane[gap] = seen(j)[gap]
    show.target.write(box, values)


def resampled(
    source: Volume,
    mask: Volume | None,
    k: int,
    pull: Field,
    y: np.ndarray,
    x: np.ndarray,
    device: str = "cpu",
) -> np.ndarray:
    """Section k at the pixels (y, x) of the aligned volume, of the volume's type; 0 = no data."""
    shape = (source.shape[1], source.shape[2])
    at = pull.on_grid(y, x)
    piece = warp.reach(at, shape)
    if any(s.stop <= s.start for s in piece):
        return np.zeros(at.shape[:2], source.dtype)
    offset = source.box.start[1:]
    read = Box(
        (k, piece[0].start + offset[0], piece[1].start + offset[1]),
        (k + 1, piece[0].stop + offset[0], piece[1].stop + offset[1]),
    )
    pixels = source.read(read)[0]
    ok = pixels > 0
    if mask is not None:
        ok &= mask.read(read)[0] > 0
    if not ok.any():
        return np.zeros(at.shape[:2], source.dtype)
    at -= [piece[0].start, piece[1].start]
    coordinates = torch.as_tensor(at, dtype=torch.float32, device=device)
    valid = torch.as_tensor(ok, device=device)
    image = torch.as_tensor(pixels.astype(np.float32), device=device)
    image = torch.where(valid, image, image[valid].mean())
    share = warp.sample(valid.float(), coordinates, cubic=False)
    seen = (share > 0.5) & warp.inside(coordinates, (pixels.shape[0], pixels.shape[1]))
    return blend.cast(warp.sample(image, coordinates), seen, source.dtype)
