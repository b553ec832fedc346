"""Quality control of neighbouring sections: the part of `petavox qc` for aligned volumes.

What it is: the comparison of the pairs of a slab, the volumes that keep it, and the pictures of
the worst pairs. What it is not: the comparison of a pair (petavox.align.correlation, shift).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from petavox import volume
from petavox.align.correlation import overlay, patch_correlation, suspects
from petavox.align.reduced import Reduced
from petavox.align.shift import shift_field
from petavox.space import Box, VoxelSize
from petavox.stages.section_reading import piece_for, strips
from petavox.volume import Kind, Volume
from petavox.volume.pyramid import coarser_box

if TYPE_CHECKING:
    from petavox.stages.qc_settings import QcSettings

VOLUMES = ("correlation", "shift_y", "shift_x")
"""Names of the volumes (NAME.zarr), one voxel deep in z for every section."""
PICTURE = 1000
"""Longest side of a picture, px."""
NOTHING = -1.0
"""In the correlation volume: nothing to compare here."""


@dataclass
class PairResult:
    """Pairs of a slab of n sections.

    correlation: (n, gy, gx) float32, of each section with the next.  one, two: (n) medians with
    the next section and the one after.  shift: (2, n, gy, gx) float32, working pixels, against
    the section before.  trusted: (n) share of the covered cells whose shift was measured.
    """

    correlation: np.ndarray
    one: list[float]
    two: list[float]
    shift: np.ndarray
    trusted: list[float]


def compare(
    sections: Sequence[Reduced],
    deep: int,
    lead: int,
    corner: tuple[int, int],
    settings: QcSettings,
    device: str = "cpu",
) -> PairResult:
    """The pairs of a slab.

    sections: reduced ones, from `lead` (0 or 1) before the slab of `deep` on, to two after it.
    corner: place (y, x) of their first pixel on the lattice of reduced pixels of the volume.
    """
    mean = np.stack([s.mean for s in sections])
    seen = np.stack([s.cover >= 0.5 for s in sections])
    cell = settings.correlation_patch
    on = [_on_lattice(v, corner, cell) for v in (mean, seen)]
    grid = tuple(n // cell for n in on[0].shape[1:])
    maps = np.full((deep, *grid), np.nan, np.float32)
    medians: dict[int, list[float]] = {1: [], 2: []}
    for far in (1, 2):
        for k in range(lead, lead + deep):
            if k + far >= len(sections):
                medians[far].append(math.nan)
                continue
            found = patch_correlation(
                on[0][k : k + 1], on[0][k + far : k + far + 1],
                on[1][k : k + 1], on[1][k + far : k + far + 1],
                patch=cell, step=cell, device=device,
            )[0]  # fmt: skip
            medians[far].append(_median(found))
            if far == 1:
                maps[k - lead] = found
    step = settings.shift.step
    values, valid = (_on_lattice(v, corner, step) for v in (mean, seen))
    grid = tuple(n // step for n in values.shape[1:])
    shift, trusted = np.zeros((2, deep, *grid), np.float32), []
    for k in range(deep):
        if lead + k == 0:
            trusted.append(math.nan)
            continue
        a, b = slice(lead + k - 1, lead + k), slice(lead + k, lead + k + 1)
        left = shift_field(
            values[a], values[b], valid[a], valid[b], settings=settings.shift,
            device=device,
        )  # fmt: skip
        shift[:, k] = left.shift[0]
        trusted.append(float(left.trusted.sum() / max(1, np.isfinite(left.peak).sum())))
    maps = np.where(np.isnan(maps), NOTHING, maps).astype(np.float32)
    return PairResult(maps, medians[1], medians[2], shift, trusted)


def _on_lattice(values: np.ndarray, corner: tuple[int, int], cell: int) -> np.ndarray:
    """Sections padded with 0 to whole cells of the volume's lattice."""
    pad = [(0, 0)]
    for at, n in zip(corner, values.shape[1:], strict=True):
        pad.append((at % cell, -(at + n) % cell))
    return np.pad(values, pad)


def _median(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else math.nan


def arrays(got: PairResult, factor: int) -> dict[str, np.ndarray]:
    """The voxels of VOLUMES for a slab; shifts in voxels of the image."""
    fields = (got.correlation, got.shift[0] * factor, got.shift[1] * factor)
    return dict(zip(VOLUMES, fields, strict=True))


def sides(settings: QcSettings) -> dict[str, int]:
    """The side of a voxel of each of VOLUMES, reduced pixels."""
    step = settings.shift.step
    return dict(zip(VOLUMES, (settings.correlation_patch, step, step), strict=True))


def columns(got: PairResult, factor: int) -> list[dict[str, float]]:
    """What the section table says of each section's pairs."""
    length = np.hypot(got.shift[0], got.shift[1]) * factor
    return [
        {
            "correlation_next": got.one[k],
            "correlation_after_next": got.two[k],
            "shift_median_px": _median(length[k]) if math.isfinite(got.trusted[k]) else math.nan,
            "shift_measured": got.trusted[k],
        }
        for k in range(len(got.one))
    ]


def conclude(
    out: Path,
    path: str,
    rows: list[dict[str, Any]],
    words: Mapping[int, Sequence[str]],
    settings: QcSettings,
) -> list[dict[str, Any]]:
    """Draw the worst pairs (their names go to the rows) and name the suspects."""
    zs = [r["z"] for r in rows]
    one = [r["correlation_next"] for r in rows[:-1]]
    two = [r["correlation_after_next"] for r in rows[:-2]]
    known = sorted((v, k) for k, v in enumerate(one) if math.isfinite(v))
    drawn = {k for _, k in known[: settings.worst]}
    source = volume.open(path, voxel_size=settings.voxel_size)
    total = source.box if settings.box is None else settings.box
    maps = volume.open(out / "correlation.zarr", incomplete=True)
    for k, row in enumerate(rows):
        row["overlay"] = f"overlay_{zs[k]}_{zs[k + 1]}.png" if k in drawn else ""
        if k in drawn:
            b = maps.box
            cells = maps.read(Box((zs[k], *b.start[1:]), (zs[k] + 1, *b.stop[1:])))[0]
            side = round(maps.voxel_size.y / source.voxel_size.y)
            picture = _picture(source, total, zs[k], cells, (b.start[1], b.start[2]), side)
            Image.fromarray(picture).save(out / row["overlay"])
    return [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(s).items()}
        for s in suspects(zs, one, two, words, settings.suspects)
    ]


def _picture(
    source: Volume, total: Box, z: int, cells: np.ndarray, origin: tuple[int, int], side: int
) -> np.ndarray:
    """The whole pair, small, and beside it the worst patch with its surroundings."""
    whole = Box((z, *total.start[1:]), (z + 2, *total.stop[1:]))
    coarse = -(-max(whole.shape[1:]) // PICTURE)
    left = _pair_picture(source, whole, coarse)
    if coarse <= 2:
        return left
    known = np.where(cells > NOTHING, cells, np.inf)
    worst = np.unravel_index(int(known.argmin()), cells.shape)
    middle = [(int(c) + o) * side + side // 2 for c, o in zip(worst, origin, strict=True)]
    y0, x0 = (
        max(low, min(m - PICTURE // 2, high - PICTURE))
        for m, low, high in zip(middle, total.start[1:], total.stop[1:], strict=True)
    )
    y1, x1 = min(total.stop[1], y0 + PICTURE), min(total.stop[2], x0 + PICTURE)
    right = _pair_picture(source, Box((z, y0, x0), (z + 2, y1, x1)), 1)
    tall = max(left.shape[0], right.shape[0])
    return np.hstack([np.pad(p, ((0, tall - p.shape[0]), (0, 4), (0, 0))) for p in (left, right)])


def figures(table: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Correlation and shift over the pairs of a stack, from its section table (by column)."""
    one = [v for v in table["correlation_next"] if v is not None]
    slips = [v for v in table["shift_median_px"] if v is not None]
    return {
        "pairs": len(one),
        "correlation_median": round(float(np.median(one)), 4) if one else None,
        "correlation_lowest": round(float(np.min(one)), 4) if one else None,
        "shift_median_px": round(float(np.median(slips)), 3) if slips else None,
        "shift_highest_px": round(float(np.max(slips)), 3) if slips else None,
    }


def _pair_picture(source: Volume, box: Box, factor: int) -> np.ndarray:
    plane = (box.shape[1], box.shape[2])
    small = [Reduced.blank(plane, source.dtype, factor) for _ in range(2)]
    piece = piece_for(box.shape, source.dtype.itemsize, factor, 256)
    for at, values, seen in strips(source, box, piece):
        for k in (0, 1):
            small[k].put(at, values[k], seen[k])
    return overlay(small[0].mean, small[1].mean)


def create(out: Path, total: Box, size: VoxelSize, factor: int, settings: QcSettings) -> None:
    """The empty volumes of the pairs. A voxel of one is a patch, or a cell of the shift's grid."""
    for name, side in sides(settings).items():
        cell = side * factor
        volume.create(
            out / f"{name}.zarr",
            box=coarser_box(total, (1, cell, cell)),
            voxel_size=size.coarser((1, cell, cell)),
            dtype=np.float32,
            kind=Kind.IMAGE,
            chunk=(1, 256, 256),
            shard=(1, 1024, 1024),
        )
