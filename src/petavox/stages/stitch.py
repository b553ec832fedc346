"""Stitch: tiles of a table -> one volume of sections.

What it is: the driver that reads tiles, calls petavox.align.mosaic and blend, and writes the
folder described in stages/section_folder.py. A tile that cannot be read is left out, listed, and
told by the exit code; all else is finished. What it is not: the science.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field as Default

from petavox import provenance
from petavox.align import absent, blend, frames, mosaic, tiles
from petavox.align.frames import extent
from petavox.align.seams import Seam, StitchSettings
from petavox.errors import BadInput, WorkFailed
from petavox.progress import Progress
from petavox.settings import Settings
from petavox.space import Box
from petavox.stages.section_folder import NAME
from petavox.stages.stitch_report import write_report
from petavox.stages.threads import one_torch_thread
from petavox.stages.tile_reading import TileCache
from petavox.volume import opening, pyramid, state

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
    """Where correlation and resampling run: cpu, cuda, xpu."""
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
    read = tiles.read(table)
    pixel = settings.pixel_nm or read.pixel_nm
    if pixel is None:
        raise BadInput(f"{table} does not say how large a pixel is: give --pixel-size in nm.")
    checked = tiles.check(read, pixel)
    place = Path(out)
    opening.make_room(place, overwrite=overwrite)
    place.mkdir(parents=True)
    state.begin(place, stage="stitch")
    with one_torch_thread(), ThreadPoolExecutor(settings.threads) as pool:
        work = Work(checked, pixel, settings, pool)
        work.measure()
        seconds = {"match": time.monotonic() - started}
        work.solve()
        seconds["solve"] = time.monotonic() - started - sum(seconds.values())
        work.render(place)
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
    if work.failures:
        raise WorkFailed(
            f"{len(work.failures)} of {len(checked.tiles)} tiles were left out (first: "
            f"{work.failures[0]['cause']}); all others are in {place}, see failures.csv."
        )
    return figures


class Work:
    """What a run of stitch knows; methods are the steps, in order."""

    def __init__(
        self,
        table: tiles.TileTable,
        pixel: float,
        settings: StitchStageSettings,
        pool: ThreadPoolExecutor,
    ) -> None:
        self.pixel, self.settings, self.pool = pixel, settings, pool
        self.listed = sorted(table.tiles, key=lambda t: (t.section, str(t.file)))
        self.load = TileCache(self.listed, settings.memory_mb)
        self.members: dict[int, list[int]] = {}
        self.failures: list[dict[str, Any]] = []
        self.places: dict[int, np.ndarray] = {}
        self.seams: dict[int, list[Seam]] = {}
        self.mosaics: dict[int, mosaic.Mosaic] = {}
        self.dtype: np.dtype[Any] | None = None
        self.lens: frames.Field | None = None
        for n, t in enumerate(self.listed):
            self.members.setdefault(t.section, []).append(n)

    def measure(self) -> None:
        """Positions and seams of every section."""
        total = len(self.listed)
        with Progress("match tiles", total=total, unit="tile") as progress:
            for k, numbers in self.members.items():
                good = [
                    n
                    for n, ok in zip(numbers, self.pool.map(self._usable, numbers), strict=True)
                    if ok
                ]
                self.members[k] = good
                stage, shapes = self._stage(good), self._shapes(good)
                places, seams, _ = mosaic.measure(
                    lambda i, good=good: self.load(good[i]),  # type: ignore[misc]
                    stage,
                    shapes,
                    self.settings.match,
                    self.settings.device,
                    self.pool.map,
                )
                self.places[k], self.seams[k] = places, seams
                for s in seams:
                    if s.trust < self.settings.match.least_trust and shares_an_edge(
                        stage, shapes, s.a, s.b
                    ):
                        log.warning(
                            "section %d: tiles %s and %s do NOT match (trust %.2f); the stage "
                            "position is used.",
                            k,
                            self.listed[good[s.a]].file.name,
                            self.listed[good[s.b]].file.name,
                            s.trust,
                        )
                progress.advance(len(numbers))
        if self.dtype is None:
            raise WorkFailed("no tile could be read: there is nothing to stitch.")

    def _usable(self, n: int) -> bool:
        tile = self.listed[n]
        try:
            image = self.load(n)
            if self.dtype is None:
                self.dtype = image.dtype
            if image.dtype != self.dtype:
                raise BadInput(f"{tile.file} is {image.dtype}, the tiles before are {self.dtype}.")
        except BadInput as e:
            log.error("section %d: %s The tile is left out.", tile.section, e)
            self.failures.append({"section": tile.section, "file": str(tile.file), "cause": str(e)})
            return False
        return True

    def _stage(self, numbers: Sequence[int]) -> np.ndarray:
        at = [[self.listed[n].y_nm, self.listed[n].x_nm] for n in numbers]
        return np.array(at, float).reshape(-1, 2) / self.pixel

    def _shapes(self, numbers: Sequence[int]) -> np.ndarray:
        return np.array([self.listed[n].shape for n in numbers], int).reshape(-1, 2)

    def lost(self) -> list[dict[str, Any]]:
        """Sections, and tiles that the sections around have, for which the table has no line."""
        listed = sorted({t.section for t in self.listed})
        out = [
            {"section": k, "file": "", "cause": "the table lists no tile of this section"}
            for k in absent.lost_sections(listed)
        ]
        stage = {
            k: np.array([[t.y_nm, t.x_nm] for t in self.listed if t.section == k]) for k in listed
        }
        size = np.median([t.shape for t in self.listed], axis=0) * self.pixel
        for k, places in absent.lost_tiles(stage, (float(size[0]), float(size[1]))).items():
            for y, x in places:
                cause = f"the table lists no tile near y = {y:.0f} nm, x = {x:.0f} nm"
                out.append({"section": k, "file": "", "cause": cause})
        return out

    def solve(self) -> None:
        """The common lens, then each section's fields; each section begins at (0, 0)."""
        every = self._shapes([n for part in self.members.values() for n in part])
        self.lens = mosaic.common_lens(self.seams, every, self.settings.match)
        for k, numbers in self.members.items():
            if not numbers:
                continue
            shapes = self._shapes(numbers)
            made = mosaic.finish(
                self.places[k], self.seams[k], shapes, self.lens, self.settings.match
            )
            low = np.floor(
                np.min([extent(f, tuple(shapes[i]))[0] for i, f in made.fields.items()], axis=0)
            )
            made.fields = {i: f.moved(-low) for i, f in made.fields.items()}
            for i, cause in made.failures.items():
                log.warning("section %d: tile %s: %s", k, self.listed[numbers[i]].file.name, cause)
            self.mosaics[k] = made

    def render(self, place: Path) -> None:
        """Write the volume of sections and the tiles' fields."""
        s = self.settings
        high = np.max(
            [
                extent(f, tuple(self._shapes(self.members[k])[i]))[1]
                for k, m in self.mosaics.items()
                for i, f in m.fields.items()
            ],
            axis=0,
        )
        size = np.ceil(high).astype(int) + 1
        first, last = min(self.members), max(self.members)
        assert self.dtype is not None
        volume = opening.create(
            place / NAME,
            box=Box((first, 0, 0), (last + 1, int(size[0]), int(size[1]))),
            voxel_size=(s.thickness_nm, self.pixel, self.pixel),
            dtype=self.dtype,
            kind="image",
            chunk=(1, 512, 512),
            shard=(1, -(-s.block_px // 512) * 512, -(-s.block_px // 512) * 512),
        )
        step = volume.write_shape[1:]
        with Progress("render sections", total=len(self.listed), unit="tile") as progress:
            for k, made in self.mosaics.items():
                numbers = self.members[k]
                load = lambda i, numbers=numbers: self.load(numbers[i])  # noqa: E731
                shapes = {i: tuple(x) for i, x in enumerate(self._shapes(numbers).tolist())}
                canvas = blend.prepare(
                    made.fields, shapes, made.gains, load, coarse=s.coarse_px, device=s.device
                )
                _, top = canvas.extent

                def block(
                    at: tuple[int, int], k: int = k, canvas: Any = canvas, load: Any = load
                ) -> None:
                    end = [min(a + b, int(n)) for a, b, n in zip(at, step, size, strict=True)]
                    shape = (end[0] - at[0], end[1] - at[1])
                    pixels = blend.render(canvas, load, at, shape, volume.dtype)
                    volume.write(Box((k, *at), (k + 1, end[0], end[1])), pixels[None])

                starts = [
                    (y, x)
                    for y in range(0, min(int(top[0]) + 2, int(size[0])), step[0])
                    for x in range(0, min(int(top[1]) + 2, int(size[1])), step[1])
                ]
                list(self.pool.map(block, starts))
                named = {
                    self.listed[numbers[i]].file.name: f.scaled(self.pixel)
                    for i, f in made.fields.items()
                }
                frames.save(place / "transforms" / f"section_{k:05d}.npz", named)
                progress.advance(len(numbers))
        if self.lens is not None:
            frames.save(place / "transforms" / "lens.npz", {"lens": self.lens.scaled(self.pixel)})
        if s.pyramid:
            pyramid.build(place / NAME, quiet=True)
        opening.finish(volume, {"stage": "stitch", "part_of": str(place)})


def shares_an_edge(stage: np.ndarray, shapes: np.ndarray, a: int, b: int) -> bool:
    """Do two tiles overlap along an edge, by their stage positions? A corner has too little to
    match, and its two tiles are held by their other neighbours.

    stage: (n, 2) y, x, pixels.  shapes: (n, 2) pixels.
    """
    low = np.maximum(stage[a], stage[b])
    high = np.minimum(stage[a] + shapes[a], stage[b] + shapes[b])
    return bool(((high - low) > 0.5 * np.minimum(shapes[a], shapes[b])).any())
