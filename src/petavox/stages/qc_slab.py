"""A slab of sections looked at by one block of quality control.

What it is: reading of the slab, quality and damage of each section, its pairs where they are
aligned, and what of it is written. What it is not: the tables of the whole stack
(petavox.stages.qc).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from petavox import provenance, volume
from petavox.align import quality
from petavox.align.damage import KINDS, find
from petavox.align.reduced import Reduced, factor_for
from petavox.blocks import Context, Counters
from petavox.errors import BadInput
from petavox.space import Block, Box, VoxelSize
from petavox.stages import qc_pairs
from petavox.stages.qc_settings import QcSettings
from petavox.stages.section_reading import image_of, piece_for, strips, voxel_bytes

MASKS = ("match", "render", "damage")


class View:
    """A volume as quality control sees it: the box, the resolutions, and the depth of a slab.

    Raises BadInput for a volume that is no image, or whose pixels are not square.
    """

    def __init__(self, path: str, settings: QcSettings) -> None:
        self.source, self.total = image_of(path, settings.box, settings.voxel_size)
        self.size = VoxelSize.of(tuple(self.source.voxel_size))
        if not math.isclose(self.size.y, self.size.x, rel_tol=0.01):
            raise BadInput(
                f"{path} has pixels of {self.size.y:g} x {self.size.x:g} nm: quality control "
                "needs square ones."
            )
        plane = (self.total.shape[1], self.total.shape[2])
        most = settings.damage.max_working_px
        self.factor = factor_for(self.size.y, settings.damage.working_nm, plane, most)
        self.pair_factor = factor_for(self.size.y, settings.pair_nm, plane, most)
        finest = self.pair_factor if settings.aligned else self.factor
        one = (plane[0] // finest + 1) * (plane[1] // finest + 1)
        one *= (8 + 2 * self.source.dtype.itemsize) * (3 if settings.aligned else 1)
        # whole chunks of the source, if their reduced copies fit in a quarter of the memory
        fit = max(1, (settings.memory_mb << 20) // 4 // one)
        deep = min(max(self.source.chunk[0], 16), 64, fit)
        self.depth = min(1 << (deep.bit_length() - 1), self.total.shape[0])


def look(block: Block, context: Context) -> Counters:
    """Quality and damage of the sections of a slab, and its pairs where they are aligned."""
    s, out = context.parsed(QcSettings), Path(context.writes["out"])
    view = View(context.reads["image"], s)
    source, box = view.source, block.write
    # pairs reach one section back, for the shift, and two on: the next and the one after it
    first = max(box.start[0] - s.aligned, view.total.start[0])
    last = min(box.stop[0] + 2 * s.aligned, view.total.stop[0])
    step = math.lcm(view.factor, view.pair_factor)
    wide = Box((first, *box.start[1:]), (last, *box.stop[1:])).snapped_out((1, step, step))
    plane = (wide.shape[1], wide.shape[2])
    n, deep, lead = wide.shape[0], box.shape[0], box.start[0] - first
    small = [Reduced.blank(plane, source.dtype, view.factor) for _ in range(deep)]
    pairs = [Reduced.blank(plane, source.dtype, view.pair_factor) for _ in range(n * s.aligned)]
    measured = [quality.Gathering(box.shape[1:], source.dtype) for _ in range(deep)]
    piece = piece_of(wide.shape, source.dtype.itemsize, step, s.memory_mb // 2)
    for at, values, seen in strips(source, wide, piece):
        for k in range(n):
            if lead <= k < lead + deep:
                small[k - lead].put(at, values[k], seen[k])
                measured[k - lead].put(at, values[k], seen[k])
            if s.aligned:
                pairs[k].put(at, values[k], seen[k])

    masks = {name: np.zeros((deep, *small[0].mean.shape), np.uint8) for name in MASKS}
    table, findings = [], []
    for k in range(deep):
        found = find(small[k], view.size.y, s.damage)
        masks["match"][k], masks["render"][k] = found.match, found.render
        masks["damage"][k] = found.kinds
        areas = {
            f"{kind}_um2": round(sum(f.area_um2 for f in found.findings if f.kind == kind), 4)
            for kind in KINDS
        }
        z = {"z": box.start[0] + k}
        shares = {
            "match_share": float(found.match.mean()),
            "render_share": float(found.render.mean()),
        }
        table.append(z | asdict(measured[k].result()) | areas | shares)
        for f in found.findings:
            rim = dict(zip(("y0", "x0", "y1", "x1"), f.box, strict=True))
            rim = {name: v + wide.start[1 if name[0] == "y" else 2] for name, v in rim.items()}
            findings.append(z | {"kind": f.kind, **rim, "area_um2": f.area_um2, "score": f.score})
    corner = (wide.start[1] // view.factor, wide.start[2] // view.factor)
    for name, values in masks.items():
        _write_slab(out / f"{name}.zarr", box, values, corner)
    if s.aligned:
        corner = (wide.start[1] // view.pair_factor, wide.start[2] // view.pair_factor)
        got = qc_pairs.compare(pairs, deep, lead, corner, s, context.device)
        cells = qc_pairs.sides(s)
        for name, values in qc_pairs.arrays(got, view.pair_factor).items():
            at = (corner[0] // cells[name], corner[1] // cells[name])
            _write_slab(out / f"{name}.zarr", box, values, at)
        for row, more in zip(table, qc_pairs.columns(got, view.pair_factor), strict=True):
            row |= more
    provenance.write_json(part_of(out, block), {"rows": table, "findings": findings})
    return {"sections": deep, "findings": len(findings)}


def piece_of(
    shape: tuple[int, int, int], itemsize: int, step: int, memory_mb: int
) -> tuple[int, int]:
    """Rows and columns of a piece of sections (z, y, x) that fits in memory: multiples of `step`,
    and of the patches of quality.Gathering too where such a piece fits."""
    whole = math.lcm(step, quality.PATCH)
    piece = piece_for(shape, itemsize, whole, memory_mb)
    fits = voxel_bytes(itemsize) * shape[0] * piece[0] * piece[1] <= memory_mb << 20
    return piece if fits else piece_for(shape, itemsize, step, memory_mb)


def part_of(out: Path, block: Block) -> Path:
    """The file of what was found in a slab."""
    return out / ".parts" / f"{block.number:08d}.json"


def _write_slab(path: Path, slab: Box, values: np.ndarray, corner: tuple[int, int]) -> None:
    """Write the sections of a slab: values (z, y, x), of which the first is voxel `corner` (y, x)
    of the output. They may begin before it: what was looked at is snapped out to whole blocks."""
    target = volume.open(path, writable=True, incomplete=True)
    b = target.box
    here = Box((slab.start[0], *b.start[1:]), (slab.stop[0], *b.stop[1:]))
    y, x = b.start[1] - corner[0], b.start[2] - corner[1]
    part = values[:, y : y + b.shape[1], x : x + b.shape[2]]
    target.write(here, np.ascontiguousarray(part, target.dtype))
