"""The truth of phantom tiles, brought into the frame of the volume that a run made of them.

    OUT/labels.zarr      the true neurite of every voxel of the image; 0 where there is none
    OUT/synapses.csv     the true synapses, where the run shows them (zyx, nm of the image)
    OUT/alignment.json   errors of stitching and alignment, px

A voxel is followed back: volume -> stitched section -> tile by the run's own fields, then tile ->
section -> tissue by the true ones. So a wrong alignment does not make the segmentation look wrong,
and both are scored. Voxels in damage, in filled sections or outside of all tiles are 0.

What it is: the join of petavox.phantom's truth to what stitch and align wrote. What it is not: a
score of segmentations (petavox.stages.run_scores). One section is in memory at a time.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from petavox import provenance, volume
from petavox.align import field_file
from petavox.align.frames import Field, Lattice, extent
from petavox.errors import BadInput
from petavox.phantom import Synapse, TilesTruth, Tissue, tissue
from petavox.phantom.looks import LOOKS
from petavox.progress import Progress
from petavox.settings import Settings
from petavox.space import Box
from petavox.stages.section_fields import read_fields
from petavox.volume import opening, state


class TileTruthSettings(Settings):
    """What is measured."""

    margin_px: int | None = None
    """Rim of the sections in which alignment is not measured; default 6 % and 60 px, at most a
    quarter of a section."""


def run(
    tiles: str | Path,
    sections: str | Path,
    fields: str | Path,
    image: str | Path,
    out: str | Path,
    settings: TileTruthSettings,
    *,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write the truth of the phantom tiles at `tiles` in the frame of `image`; gives figures.

    sections, fields: the folders of stitch and align.  Raises BadInput if they do not belong
    together.
    """
    began, place = time.monotonic(), Path(out)
    truth = TilesTruth.load(tiles)
    source = volume.open(image)
    followed = Followed(truth, Path(sections), Path(fields))
    opening.make_room(place, overwrite=overwrite)
    place.mkdir(parents=True)
    state.begin(place)
    errors = _alignment(truth, followed, settings)
    provenance.write_json(place / "alignment.json", errors)
    box = source.box
    labels = volume.create(
        place / "labels.zarr", box=box, voxel_size=source.voxel_size, dtype=np.uint64,
        kind="labels", chunk=(1, 256, 256), shard=(1, 1024, 1024),
    )  # fmt: skip
    sites: dict[int, Synapse] = {}
    known = 0
    with Progress("truth", total=box.shape[0], unit="section") as bar:
        for k in range(box.start[0], box.stop[0]):
            plane = followed.plane(k, box)
            if plane is not None:
                values, made = plane
                labels.write(Box((k, *box.start[1:]), (k + 1, *box.stop[1:])), values[None])
                known += int(np.count_nonzero(values))
                sites |= {s.id: s for s in made.synapses}
            bar.advance(1)
    rows = [row for i in sorted(sites) for row in followed.synapse(sites[i], box)]
    table = "\n".join(["id,pre,post,z_nm,y_nm,x_nm,size,score", *rows]) + "\n"
    provenance.write_atomically(place / "synapses.csv", table)
    figures = {
        "voxels": box.size,
        "known_share": round(known / box.size, 4),
        "synapses": len({row.split(",")[0] for row in rows}),
        "alignment": errors,
    }
    inputs = {"tiles": str(tiles), "sections": str(sections), "fields": str(fields)}
    record = provenance.record(
        "tile truth", settings=settings, inputs=inputs, counters=figures,
        seconds=time.monotonic() - began,
    )  # fmt: skip
    opening.finish(labels, {"stage": "tile truth", "part_of": str(place)})
    state.finish(place, record)
    return figures


class Followed:
    """Points followed through what stitch and align wrote, and through the truth; px, (y, x)."""

    def __init__(self, truth: TilesTruth, sections: Path, fields: Path) -> None:
        self.truth = truth
        pixel = truth.pixel_nm
        self.aligned = read_fields(fields, pixel)
        self.tiles: dict[int, dict[int, Field]] = {}
        for file in sorted((sections / "transforms").glob("section_*.npz")):
            named = field_file.load(file)
            self.tiles[int(file.stem.removeprefix("section_"))] = {
                _number(name, file): f.scaled(1 / pixel) for name, f in named.items()
            }
        if not set(self.aligned) <= set(self.tiles):
            raise BadInput(f"{fields} has sections that {sections} does not: they do not fit.")

    def stitch(self, k: int, i: int, p: np.ndarray) -> np.ndarray:
        """Pixel of a tile -> stitched section, as the run has it; NaN for a tile left out."""
        f = self.tiles.get(k, {}).get(i)
        return np.full(np.shape(p), np.nan) if f is None else f(p)

    def align(self, k: int, s: np.ndarray) -> np.ndarray:
        """Stitched section -> volume, as the run has it; NaN for a section left out."""
        f = self.aligned.get(k)
        return np.full(np.shape(s), np.nan) if f is None else f(s)

    def plane(self, k: int, box: Box) -> tuple[np.ndarray, Tissue] | None:
        """True labels (h, w) of section k of a volume, and its tissue; None if it is not there."""
        if k not in self.aligned or not self.tiles.get(k):
            return None
        lay, size = self.truth.layout, np.array(self.truth.settings.tile)
        shape = (int(size[0]), int(size[1]))
        reach = [extent(f, shape) for f in self.tiles[k].values()]
        high = np.max([r[1] for r in reach], axis=0)
        low, top = extent(self.aligned[k], (int(high[0]) + 1, int(high[1]) + 1))
        pull = _inverse(self.aligned[k], low, top)
        y, x = (np.arange(a, b, dtype=float) for a, b in zip(box.start[1:], box.stop[1:],
                                                            strict=True))  # fmt: skip
        at = pull.on_grid(y, x).reshape(-1, 2)
        best = np.full(len(at), -1.0)
        true = np.full(at.shape, np.nan)
        for (i, f), (low, top) in zip(self.tiles[k].items(), reach, strict=True):
            near = np.flatnonzero(((at >= low) & (at <= top)).all(1))
            p = _inverse(f, low, top)(at[near])
            # as the blend does: the tile whose edge is farthest is shown
            edge = np.minimum(p, size - 1 - p).min(1)
            mine = (edge >= 0) & (edge > best[near])
            best[near[mine]] = edge[mine]
            true[near[mine]] = lay.tile_to_section(k, i, p[mine])
        seen = np.flatnonzero(best >= 0)
        seen = seen[lay.warps[k].damaged(true[seen]) == 0]
        values = np.zeros(len(at), np.uint64)
        if not len(seen):
            return None
        u = np.rint(lay.warps[k].section_to_aligned(true[seen])).astype(int)
        lo, hi = u.min(0), u.max(0) + 1
        z = lay.order[k]
        made = self._tissue(Box((z, int(lo[0]), int(lo[1])), (z + 1, int(hi[0]), int(hi[1]))))
        values[seen] = made.labels[0, u[:, 0] - lo[0], u[:, 1] - lo[1]]
        return values.reshape(len(y), len(x)), made

    def _tissue(self, box: Box) -> Tissue:
        s = self.truth.settings
        look = LOOKS["serial-section"].model_copy(update={"slices": 1})
        return tissue(box, (s.thickness_nm, s.pixel_nm, s.pixel_nm), s.seed, look)

    def synapse(self, site: Synapse, box: Box) -> list[str]:
        """Rows of the table for one synapse; none if the run does not show its place."""
        s, order = self.truth.settings, self.truth.layout.order
        z = int(np.floor(site.position[0] / s.thickness_nm))
        # a pixel's number is the place of its centre
        u = site.position[1:][None] / s.pixel_nm - 0.5
        # in a section that is missing or damaged there, the nearest that is not says where
        for k in sorted(range(len(order)), key=lambda k: (abs(order[k] - z), k))[:5]:
            found = self.truth.forward(self.stitch, self.align, k, u, clear=0.0)[0]
            if np.isfinite(found).all():
                break
        else:
            return []
        listed = order.index(z) if 0 <= z < len(order) else k
        here = (listed, *np.rint(found).astype(int).tolist())
        if not all(a <= v < b for a, v, b in zip(box.start, here, box.stop, strict=True)):
            return []
        at = ((listed + 0.5) * s.thickness_nm, *((found + 0.5) * s.pixel_nm))
        area = np.pi * (site.radius * 1e-3) ** 2
        end = ",".join(f"{v:.2f}" for v in at) + f",{area:.5f},1"
        return [f"{site.id},{site.pre},{post},{end}" for post in site.posts]


def _inverse(f: Field, low: np.ndarray, high: np.ndarray) -> Field:
    spacing = f.lattice.spacing if f.lattice is not None else 512.0
    return f.inverse(Lattice.covering(low, high, spacing))


def _number(name: str, file: Path) -> int:
    """The number of a tile in the grid, from its file's name, t0003.png."""
    digits = Path(name).stem.removeprefix("t")
    if not digits.isdigit():
        raise BadInput(f"{file} holds a tile '{name}': these are not tiles of `petavox phantom`.")
    return int(digits)


def _alignment(
    truth: TilesTruth, followed: Followed, settings: TileTruthSettings
) -> dict[str, Any]:
    size = truth.settings.size
    usual = int(max(size) * 0.06 + 60)
    margin = settings.margin_px
    margin = min(usual, min(size) // 4) if margin is None else margin
    step = max(4, min(32, min(size) // 16))
    where = {"step": step, "margin": margin}
    found = {
        "seam_px": truth.seam(followed.stitch),
        "adjacent_px": truth.adjacent(followed.stitch, followed.align, **where),
        "span_px": truth.span(followed.stitch, followed.align, **where),
    }
    return {name: _plain(values) for name, values in found.items()}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers for JSON, which has no NaN."""
    return {
        k: None if isinstance(v, float) and not np.isfinite(v)
        else round(v, 4) if isinstance(v, float) else v
        for k, v in values.items()
    }  # fmt: skip
