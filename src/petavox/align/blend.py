"""Rendering of one section from its tiles, block by block, with two-band blending.

What it is: each output pixel takes its fine detail from the tile whose edge is farthest (so no
structure is doubled), and its brightness (what is coarser than about `coarse` pixels) from the
distance-weighted mean of all tiles there (so no step shows at seams). What it is not: contrast
normalisation; grey values stay the tiles' own, but for gain and offset.

      out = tile_nearest + (mean of low bands - low band of tile_nearest)

The bracket is smooth within a tile: it is kept on a grid `coarse` times coarser, per tile. 0 is
kept for "no data": a pixel that a tile covers is at least 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from petavox.align import warp
from petavox.align.frames import Field, Lattice, extent

Load = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Piece:
    """A tile in its section: pull field section -> tile, box low..high in the section (pixels),
    gain and offset, and the brightness correction on its coarse grid (first coarse pixel `at`)."""

    pull: Field
    low: np.ndarray
    high: np.ndarray
    shape: tuple[int, int]
    gain: float
    offset: float
    at: tuple[int, int]
    correction: Tensor


@dataclass(frozen=True)
class Canvas:
    """All pieces of a section; `coarse`: section pixels per coarse pixel."""

    pieces: dict[int, Piece]
    coarse: int
    device: str

    @property
    def extent(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners (y, x) of the box that holds all tiles, section pixels."""
        if not self.pieces:
            return np.zeros(2), np.zeros(2)
        lows = np.min([p.low for p in self.pieces.values()], axis=0)
        return lows, np.max([p.high for p in self.pieces.values()], axis=0)


def prepare(
    fields: Mapping[int, Field],
    shapes: Mapping[int, tuple[int, int]],
    gains: Mapping[int, tuple[float, float]],
    load: Load,
    *,
    coarse: int = 8,
    device: str = "cpu",
) -> Canvas:
    """Invert the fields and work out the brightness of each tile; loads each tile once.

    fields: tile -> section (pixels).  gains: value * gain + offset per tile.
    """
    pieces: dict[int, Piece] = {}
    lows, weights = {}, {}
    for i, f in fields.items():
        low, high = extent(f, shapes[i])
        spacing = f.lattice.spacing if f.lattice is not None else max(shapes[i]) / 4
        pull = f.inverse(Lattice.covering(low, high, spacing))
        gain, offset = gains.get(i, (1.0, 0.0))
        small, _ = warp.average_down(load(i), None, coarse)
        level = warp.blur(torch.as_tensor(small, device=device), 1.0) * gain + offset
        first = np.floor(low / coarse).astype(int) - 1
        last = np.ceil(high / coarse).astype(int) + 2
        size = (int(last[0] - first[0]), int(last[1] - first[1]))
        half = (coarse - 1) / 2
        y = (first[0] + np.arange(size[0])) * coarse + half
        x = (first[1] + np.arange(size[1])) * coarse + half
        at = torch.as_tensor(pull.on_grid(y, x), dtype=torch.float32, device=device)
        lows[i] = warp.sample(level, (at - half) / coarse, cubic=False)
        weights[i] = _edge(at, shapes[i]).clamp_min(0)
        pieces[i] = Piece(
            pull, low, high, shapes[i], gain, offset, (int(first[0]), int(first[1])), lows[i]
        )
    if not pieces:
        return Canvas({}, coarse, device)
    begin = np.min([p.at for p in pieces.values()], axis=0)
    end = np.max([np.add(p.at, p.correction.shape) for p in pieces.values()], axis=0)
    total = torch.zeros(tuple(int(n) for n in end - begin), device=device)
    count = torch.zeros_like(total)
    places = {}
    for i, p in pieces.items():
        y, x = p.at[0] - begin[0], p.at[1] - begin[1]
        places[i] = (slice(y, y + p.correction.shape[0]), slice(x, x + p.correction.shape[1]))
        total[places[i]] += lows[i] * weights[i]
        count[places[i]] += weights[i]
    for i, p in pieces.items():
        mean = total[places[i]] / count[places[i]].clamp_min(1e-6)
        correction = torch.where(count[places[i]] > 1e-3, mean - lows[i], 0.0)
        pieces[i] = Piece(p.pull, p.low, p.high, p.shape, p.gain, p.offset, p.at, correction)
    return Canvas(pieces, coarse, device)


def render(
    canvas: Canvas, load: Load, start: tuple[int, int], shape: tuple[int, int], dtype: np.dtype
) -> np.ndarray:
    """The pixels of one block of a section, of `dtype` (uint8 or uint16); 0 where no tile is.

    start: first pixel (y, x) in the section.  load: tile number -> (h, w).
    """
    device = canvas.device
    best = torch.full(shape, 0.0, device=device)
    out = torch.zeros(shape, device=device)
    for i, p in sorted(canvas.pieces.items()):
        a = np.maximum(np.floor(p.low).astype(int), start)
        b = np.minimum(np.ceil(p.high).astype(int) + 1, np.add(start, shape))
        if (b <= a).any():
            continue
        y, x = np.arange(a[0], b[0]), np.arange(a[1], b[1])
        at = p.pull.on_grid(y.astype(float), x.astype(float))
        place = (slice(a[0] - start[0], b[0] - start[0]), slice(a[1] - start[1], b[1] - start[1]))
        piece = warp.reach(at, p.shape)
        if min(piece[0].stop - piece[0].start, piece[1].stop - piece[1].start) < 1:
            continue
        whole = torch.as_tensor(at, dtype=torch.float32, device=device)
        weight = _edge(whole, p.shape)
        nearer = weight > best[place]
        if not bool(nearer.any()):
            continue
        source = torch.as_tensor(
            np.ascontiguousarray(load(i)[piece]), dtype=torch.float32, device=device
        )
        shift = torch.tensor([piece[0].start, piece[1].start], device=device)
        value = warp.sample(source, whole - shift) * p.gain + p.offset
        half = (canvas.coarse - 1) / 2
        ry = _linear((y - half) / canvas.coarse - p.at[0], p.correction.shape[0], device)
        rx = _linear((x - half) / canvas.coarse - p.at[1], p.correction.shape[1], device)
        value += ry @ p.correction @ rx.T
        out[place] = torch.where(nearer, value, out[place])
        best[place] = torch.where(nearer, weight, best[place])
    return cast(out, best > 0, dtype)


def cast(values: Tensor, valid: Tensor, dtype: np.dtype) -> np.ndarray:
    """Rounded to `dtype`, within 1 .. its largest; 0 where not valid."""
    top = float(np.iinfo(dtype).max)
    rounded = torch.where(valid, values.round().clamp(1.0, top), 0.0)
    return np.asarray(rounded.cpu().numpy().astype(dtype))


def _edge(at: Tensor, shape: tuple[int, int]) -> Tensor:
    """How far points of a tile (..., 2) lie inside its edge, pixels; negative outside.

    Half a pixel is added, so that the tile's own last pixels count as inside.
    """
    y, x = at[..., 0], at[..., 1]
    top, right = shape[0] - 1 - y, shape[1] - 1 - x
    return torch.minimum(torch.minimum(y, top), torch.minimum(x, right)) + 0.5


def _linear(at: np.ndarray, n: int, device: str) -> Tensor:
    """Matrix (len(at), n) of linear interpolation at fractional places, clamped."""
    q = np.clip(at, 0, n - 1)
    i = np.minimum(q.astype(int), max(n - 2, 0))
    t = q - i
    out = np.zeros((len(q), n), np.float32)
    rows = np.arange(len(q))
    out[rows, i] += 1 - t
    out[rows, np.minimum(i + 1, n - 1)] += t
    return torch.as_tensor(out, device=device)
