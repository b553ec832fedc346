"""Even contrast over a stack: a new volume with each section normalised, or equalised by CLAHE.

    run("aligned.zarr", "even.zarr", ContrastSettings(method="clahe"))

What it is: the stage that gathers histograms block by block, makes lookup tables, and applies them
block by block (petavox.align.contrast). Sections are treated as wholes, so the result does not
depend on the blocks. A run that was broken off goes on with the blocks that are left
(stages/pieces.py). What it is not: alignment, or a change of type or place; it never inverts.

Memory: a block of the output and its copies (set by memory_mb), and the histograms: 2 kB (8 bit)
or 0.5 MB (16 bit) a section of a slab, and for CLAHE 2 kB a tile of every section of a slab.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PlainSerializer

from petavox import provenance, volume
from petavox.align import contrast
from petavox.blocks.content import content_digest
from petavox.errors import BadInput
from petavox.progress import Progress
from petavox.settings import BoxSetting, NmSetting, Settings
from petavox.space import Box, Grid
from petavox.stages.pieces import Pieces, key_of
from petavox.stages.room import require_apart
from petavox.stages.section_reading import image_of
from petavox.volume import Kind, Volume, opening

log = logging.getLogger("petavox")

CODE = ("petavox.stages.contrast", "petavox.align.contrast", "petavox.align.quality")
"""What decides the pixels."""
SHARD = 1024
"""Side of a shard of the output along y and x."""


class ContrastSettings(Settings):
    """How contrast is evened.

    method: normalize or clahe.  to: what normalisation brings the quantiles to: "fixed" (low and
    high, shares of the type's range, for the 1st and 99th percentile) or "neighbours" (the median
    quantiles of the sections within `window`).  tile: px, clip, strength: of CLAHE; see TileTables.
    """

    box: Annotated[BoxSetting, PlainSerializer(str)] | None = None
    voxel_size: NmSetting | None = None
    method: Literal["normalize", "clahe"] = "normalize"
    to: Literal["fixed", "neighbours"] = "fixed"
    low: float = Field(0.12, ge=0, lt=1)
    high: float = Field(0.88, gt=0, le=1)
    window: int = Field(10, ge=1)
    tile: int = Field(256, ge=8)
    clip: float = Field(2.0, ge=1)
    strength: float = Field(1.0, ge=0, le=1)
    memory_mb: int = Field(1024, ge=64)


def run(
    path: str, out: str | Path, settings: ContrastSettings, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write the evened volume `out`; returns figures.

    Raises BadInput before any work if the volume or the settings cannot be used.
    """
    began = time.monotonic()
    s = settings
    if s.low >= s.high:
        raise BadInput(f"low is {s.low:g} and high {s.high:g}: low must be the smaller.")
    require_apart(out, [path])
    source, total = image_of(path, s.box, s.voxel_size)
    depth = _depth(source, total, s)
    pieces = Pieces(out, key_of(s, [content_digest(path), str(total)], CODE))
    if pieces.going_on:
        target = volume.open(out, writable=True, incomplete=True)
        log.info("contrast goes on: %d blocks are there.", len(pieces.known))
    else:
        target = volume.create(
            out, box=total, voxel_size=source.voxel_size, dtype=source.dtype, kind=Kind.IMAGE,
            chunk=(min(depth, 64), 128, 128), shard=(depth, SHARD, SHARD), overwrite=overwrite,
        )  # fmt: skip
        pieces.begin()
    slabs = [
        Box((z, *total.start[1:]), (min(z + depth, total.stop[0]), *total.stop[1:]))
        for z in range(total.start[0], total.stop[0], depth)
    ]
    with Progress("contrast", total=2.0 * total.size, unit="voxel") as bar:
        makers: list[list[Map]]
        if s.method == "normalize" and s.to == "neighbours":
            knots = np.concatenate([_knots(source, slab, bar) for slab in slabs])
            wanted = [contrast.neighbour_targets(knots, s.window, k) for k in range(len(knots))]
            tables = _tables(source, knots, wanted)
            makers = [tables[slab.start[0] - total.start[0] :][: slab.shape[0]] for slab in slabs]
        else:
            makers = [[] for _ in slabs]
        for slab, ready in zip(slabs, makers, strict=True):
            left = [(box, at) for box, at in _blocks(slab) if str(box) not in pieces]
            if not left:
                bar.advance(slab.size * (1 if ready else 2))
                continue
            maps = ready or _maps(source, slab, s, bar)
            bar.advance(slab.size - sum(box.size for box, _ in left))
            for box, at in left:
                values = source.read(box)
                result = np.stack([m(at, v) for m, v in zip(maps, values, strict=True)])
                target.write(box, result)
                pieces.add(str(box), int((result != values).sum()))
                bar.advance(box.size)
    figures = {
        "sections": total.shape[0],
        "voxels": total.size,
        "changed_share": round(sum(pieces.known.values()) / total.size, 5),
        "seconds": round(time.monotonic() - began, 2),
    }
    record = provenance.record(
        "contrast", settings=s, inputs={"image": path}, counters=figures, seconds=figures["seconds"]
    )
    opening.finish(target, record)
    pieces.end()
    return figures


Map = Callable[[tuple[int, int], np.ndarray], np.ndarray]
"""Of one section: place (y, x) of a piece in it, and the piece, to the new piece."""


def _maps(source: Volume, slab: Box, s: ContrastSettings, bar: Progress) -> list[Map]:
    """How each section of a slab is changed, from one look at all of it."""
    levels = np.iinfo(source.dtype).max + 1
    if s.method == "normalize":
        knots = _knots(source, slab, bar)
        low, high = s.low * (levels - 1), s.high * (levels - 1)
        ends = knots[:, [0, -1]]
        return _tables(source, ends, [np.array([low, high])] * len(ends))
    plane = (slab.shape[1], slab.shape[2])
    made = [
        contrast.TileTables(plane, levels, tile=s.tile, clip=s.clip, strength=s.strength)
        for _ in range(slab.shape[0])
    ]
    for box, at in _blocks(slab):
        for tables, values in zip(made, source.read(box), strict=True):
            tables.gather(at, values)
        bar.advance(box.size)
    for tables in made:
        tables.finish()
    return [tables.apply for tables in made]


def _knots(source: Volume, slab: Box, bar: Progress) -> np.ndarray:
    """The knots (sections, k) of the sections of a slab."""
    levels = np.iinfo(source.dtype).max + 1
    counts = np.zeros((slab.shape[0], levels), np.int64)
    for box, _ in _blocks(slab):
        for k, values in enumerate(source.read(box)):
            counts[k] += contrast.histogram(values)
        bar.advance(box.size)
    return np.stack([contrast.knots(c) for c in counts])


def _tables(source: Volume, own: np.ndarray, wanted: Sequence[np.ndarray]) -> list[Map]:
    levels = np.iinfo(source.dtype).max + 1

    def mapped(table: np.ndarray) -> Map:
        return lambda _, values: table[values]

    pairs = zip(own, wanted, strict=True)
    return [mapped(contrast.table_to_knots(o, w, levels)) for o, w in pairs]


def _blocks(slab: Box) -> Iterator[tuple[Box, tuple[int, int]]]:
    """The shards of a slab, and the place (y, x) of each in its section."""
    for block in Grid(slab, (slab.shape[0], SHARD, SHARD)):
        b = block.write
        yield b, (b.start[1] - slab.start[1], b.start[2] - slab.start[2])


def _depth(source: Volume, total: Box, s: ContrastSettings) -> int:
    """Sections of a slab: whole chunks of the source, if a block with its copies fits."""
    block = min(SHARD, total.shape[1]) * min(SHARD, total.shape[2])
    one = block * (2 * source.dtype.itemsize + 1)
    if s.method == "clahe":
        tiles = max(1, total.shape[1] // s.tile) * max(1, total.shape[2] // s.tile)
        one += tiles * 256 * 12
    else:
        one += (np.iinfo(source.dtype).max + 1) * 8
    # the pixels at work in CLAHE are one section's: about 60 bytes each
    fit = max(1, ((s.memory_mb << 20) - 60 * block) // one)
    deep = min(max(source.chunk[0], 16), 64, fit)
    return min(1 << (deep.bit_length() - 1), total.shape[0])
