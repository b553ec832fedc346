"""Render: sections and their fields -> one aligned image volume.

What it is: the driver that fills an OME-Zarr volume shard by shard: each shard asks, for each of
its sections, which points of the section it shows (the inverse field), reads that piece and
resamples it (cubic convolution). Memory: one shard and one piece of a section per thread. What
it is not: the fields. A run that was broken off goes on with the shards that are left
(stages/pieces.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field as Default

from petavox import provenance
from petavox.align import blend, warp
from petavox.align.frames import Field, Lattice, extent
from petavox.blocks.content import content_digest
from petavox.errors import BadInput
from petavox.ffn.devices import device_of
from petavox.progress import Progress
from petavox.settings import BoxSetting, Settings, ZyxSetting
from petavox.space import Block, Box, Grid
from petavox.stages.align import read_fields
from petavox.stages.pieces import Pieces, key_of
from petavox.stages.room import require_apart
from petavox.stages.section_folder import image_path, volume_of
from petavox.stages.threads import one_torch_thread
from petavox.volume import opening, pyramid
from petavox.volume.volume import Volume

log = logging.getLogger("petavox")

CODE = tuple(f"petavox.{m}" for m in ("stages.render", "align.warp", "align.blend", "align.frames"))
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
    fields = {
        k: f
        for k, f in read_fields(aligned, pixel).items()
        if source.box.start[0] <= k < source.box.stop[0]
    }
    if not fields:
        raise BadInput(f"{aligned} holds no field for the sections of {sections}.")
    shape = (source.shape[1], source.shape[2])
    reach = {k: extent(f, shape) for k, f in fields.items()}
    low = np.floor(np.min([r[0] for r in reach.values()], axis=0)).astype(int)
    high = np.ceil(np.max([r[1] for r in reach.values()], axis=0)).astype(int) + 1
    box = settings.box or Box(
        (source.box.start[0], int(low[0]), int(low[1])),
        (source.box.stop[0], int(high[0]), int(high[1])),
    )
    made_of = [content_digest(image_path(sections)), content_digest(aligned)]
    if render_mask is not None:
        made_of.append(content_digest(render_mask))
    pieces = Pieces(out, key_of(settings, made_of, CODE, apart=("threads", "device", "pyramid")))
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
    shown = {k: _shown(k, sorted(fields), settings) for k in range(box.start[0], box.stop[0])}
    near = {k: _near(k, sorted(fields), settings.fill_gaps) for k in shown}
    grid = Grid(box, block=target.write_shape)
    # two layers of shards at once, and what fills their gaps
    pulls = Pulls(fields, reach, 2 * (target.write_shape[0] + 2 * settings.fill_gaps))
    with (
        one_torch_thread(),
        ThreadPoolExecutor(settings.threads) as pool,
        Progress("render", total=box.size, unit="voxel") as progress,
    ):

        def shard(block: Block) -> int:
            if str(block.number) not in pieces:
                _block(block, source, target, mask, pulls, shown, near, settings.device)
                pieces.add(str(block.number))
            return block.write.size

        for n in pool.map(shard, grid):
            progress.advance(n)
    rendered = time.monotonic() - started
    levels = pyramid.build(out, quiet=True)["levels"] if settings.pyramid else 1
    filled = {str(k): j for k, j in shown.items() if j is not None and j != k}
    figures = {
        "box": str(box),
        "sections": len(fields),
        "blank": [k for k, j in shown.items() if j is None],
        "filled_from": filled,
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


class Pulls:
    """Inverse fields, volume -> section, made when asked for; the newest `most` are kept, for
    those of all sections of a long stack would take gigabytes. Threads may ask at once.

    reach: the corners (low, high) of each section's place in the volume, pixels.
    """

    def __init__(
        self, fields: Mapping[int, Field], reach: Mapping[int, tuple[Any, Any]], most: int
    ) -> None:
        self.fields, self.reach, self.most = fields, reach, most
        self._kept: OrderedDict[int, Field] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, k: int) -> Field:
        """The inverse field of section k."""
        with self._lock:
            if k not in self._kept:
                f = self.fields[k]
                spacing = f.lattice.spacing if f.lattice is not None else 512.0
                self._kept[k] = f.inverse(Lattice.covering(*self.reach[k], spacing))
                while len(self._kept) > self.most:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(k)
            return self._kept[k]


def _shown(k: int, known: list[int], settings: RenderSettings) -> int | None:
    """The section to show at z = k: itself, the nearest if it is missing and that is wanted."""
    if k in known:
        return k
    if not settings.fill_missing:
        return None
    return min(known, key=lambda j: (abs(j - k), j))


def _near(k: int, known: list[int], most: int) -> list[int]:
    """The known sections at most `most` away from k, nearest first, the lower one before."""
    return sorted((j for j in known if 0 < abs(j - k) <= most), key=lambda j: (abs(j - k), j))


def _block(
    block: Block,
    source: Volume,
    target: Volume,
    mask: Volume | None,
    pulls: Pulls,
    shown: dict[int, int | None],
    near: dict[int, list[int]],
    device: str,
) -> None:
    """Render one shard."""
    box = block.write
    values = np.zeros(box.shape, source.dtype)
    y = np.arange(box.start[1], box.stop[1], dtype=float)
    x = np.arange(box.start[2], box.stop[2], dtype=float)
    for z in range(box.start[0], box.stop[0]):
        k = shown[z]
        if k is None:
            continue
        plane = values[z - box.start[0]]
        plane[:] = resampled(source, mask, k, pulls(k), y, x, device)
        for j in near[z]:
            gap = plane == 0
            if not gap.any():
                break
            if j != k:
                plane[gap] = resampled(source, mask, j, pulls(j), y, x, device)[gap]
    target.write(box, values)


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
