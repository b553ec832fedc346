"""The steps of `petavox stitch`: measure every section, solve, render.

What it is: what a run knows and does, in order. A section that was measured is kept in
OUT.run/seams (stages/stitch_kept.py), a section that was rendered in OUT.run/pieces.jsonl
(stages/pieces.py): a run that was broken off goes on. What it is not: the science (petavox.align),
settings, reports.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from petavox.align import absent, blend, field_file, mosaic, tiles
from petavox.align.frames import Field, extent
from petavox.align.seams import Seam
from petavox.errors import BadInput, WorkFailed
from petavox.progress import Progress
from petavox.provenance import digest
from petavox.space import Box
from petavox.stages import stitch_kept
from petavox.stages.pieces import Pieces, key_of
from petavox.stages.section_folder import NAME
from petavox.stages.tile_reading import TileCache
from petavox.volume import opening, pyramid

if TYPE_CHECKING:
    from petavox.stages.stitch import StitchStageSettings

log = logging.getLogger("petavox")

CODE = tuple(
    f"petavox.align.{m}"
    for m in (
        "mosaic", "seams", "seam_blocks", "places", "lens", "correlate", "warp", "solve", "normal",
        "banded", "blend", "frames", "field_file",
    )
)  # fmt: skip
"""What decides positions and pixels."""


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
        self.names = names([(t.section, t.file) for t in self.listed])
        self.members: dict[int, list[int]] = {}
        self.failures: list[dict[str, Any]] = []
        self.places: dict[int, np.ndarray] = {}
        self.seams: dict[int, list[Seam]] = {}
        self.mosaics: dict[int, mosaic.Mosaic] = {}
        self.dtype: np.dtype[Any] | None = None
        self.lens: Field | None = None
        for n, t in enumerate(self.listed):
            self.members.setdefault(t.section, []).append(n)
        self.of_section = dict(self.members)  # members will lose those that cannot be read

    def section_key(self, k: int) -> str:
        """Digest of what decides the measurement of a section: its tiles, settings, code."""
        s = self.settings
        listed = [self.listed[n] for n in self.of_section[k]]
        files = [(str(t.file), *_signature(t.file), t.y_nm, t.x_nm, t.shape) for t in listed]
        return key_of(s.match, [files, self.pixel], CODE)

    def measure(self, kept: Path) -> None:
        """Positions and seams of every section; those that an earlier run left in `kept` stay."""
        total = len(self.listed)
        with Progress("match tiles", total=total, unit="tile") as progress:
            for k, numbers in self.members.items():
                key, file = self.section_key(k), kept / f"section_{k:05d}.npz"
                found = stitch_kept.load(file, key)
                if found is None or self.dtype not in (None, found.dtype):
                    found = self._measured(k, numbers)
                    stitch_kept.save(file, key, found)
                self.dtype = found.dtype if self.dtype is None else self.dtype
                self.failures += found.failures
                good = self.members[k] = [numbers[i] for i in found.good]
                self.places[k], self.seams[k] = found.places, found.seams
                stage, shapes = self._stage(good, self.pixel), self._shapes(good)
                for s in found.seams:
                    weak = s.trust < self.settings.match.least_trust
                    if weak and shares_an_edge(stage, shapes, s.a, s.b):
                        log.warning(
                            "section %d: tiles %s and %s do NOT match (trust %.2f); the stage "
                            "position is used.",
                            k, self.names[good[s.a]], self.names[good[s.b]], s.trust,
                        )  # fmt: skip
                progress.advance(len(numbers))
        if self.dtype is None:
            raise WorkFailed("no tile could be read: there is nothing to stitch.")

    def _measured(self, k: int, numbers: Sequence[int]) -> stitch_kept.Measured:
        """Positions and seams of a section, from its tiles."""
        dtype, good, failures = self.dtype, [], []
        for i, found in enumerate(self.pool.map(self._dtype_of, numbers)):
            file = self.listed[numbers[i]].file
            if dtype is None and not isinstance(found, str):
                dtype = found
            if not isinstance(found, str) and found != dtype:
                found = f"{file} is {found}, the tiles before are {dtype}."
            if isinstance(found, str):
                log.error("section %d: %s The tile is left out.", k, found)
                failures.append({"section": k, "file": str(file), "cause": found})
            else:
                good.append(i)
        listed = [numbers[i] for i in good]
        places, seams, _ = mosaic.measure(
            lambda i: self.load(listed[i]),
            self._stage(listed, self.pixel),
            self._shapes(listed),
            self.settings.match,
            self.settings.device,
            self.pool.map,
        )
        return stitch_kept.Measured(good, places, seams, failures, dtype)

    def _dtype_of(self, n: int) -> np.dtype[Any] | str:
        """The type of a tile, or why it cannot be read."""
        try:
            return self.load(n).dtype
        except BadInput as e:
            return str(e)

    def _stage(self, numbers: Sequence[int], unit_nm: float) -> np.ndarray:
        at = [[self.listed[n].y_nm, self.listed[n].x_nm] for n in numbers]
        return np.array(at, float).reshape(-1, 2) / unit_nm

    def _shapes(self, numbers: Sequence[int]) -> np.ndarray:
        return np.array([self.listed[n].shape for n in numbers], int).reshape(-1, 2)

    def lost(self) -> list[dict[str, Any]]:
        """Sections, and tiles that the sections around have, for which the table has no line."""
        listed = sorted(self.of_section)
        out = [
            {"section": k, "file": "", "cause": "the table lists no tile of this section"}
            for k in absent.lost_sections(listed)
        ]
        stage = {k: self._stage(self.of_section[k], 1.0) for k in listed}
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
                log.warning("section %d: tile %s: %s", k, self.names[numbers[i]], cause)
            self.mosaics[k] = made

    def made_of(self, k: int) -> str:
        """Digest of what decides the pixels of a section besides the settings: its tiles, their
        fields and gains. A tile that could not be read before, or another lens, changes it."""
        made, numbers = self.mosaics[k], self.members[k]
        parts: list[Any] = [[str(self.listed[n].file) for n in numbers]]
        for i, f in sorted(made.fields.items()):
            parts += [[i, made.gains[i]], f.matrix.tobytes(), f.shift.tobytes()]
            if f.lattice is not None and f.displacement is not None:
                parts += [[f.lattice.origin, f.lattice.spacing], f.displacement.shape]
                parts.append(np.ascontiguousarray(f.displacement).tobytes())
        return digest(*parts, self._shapes(numbers).tolist())

    def render(self, place: Path, pieces: Pieces) -> None:
        """Write the volume of sections and the tiles' fields; sections that `pieces` holds as
        they would be made now are there."""
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
        form = [first, last, *(int(n) for n in size), self.dtype.name]
        if pieces.known and pieces.known.get("volume") != form:
            log.info("the volume of sections has another size than before: all are rendered anew.")
            pieces.begin()
        if "volume" in pieces:
            volume = opening.open(place / NAME, writable=True, incomplete=True)
        else:
            volume = opening.create(
                place / NAME,
                box=Box((first, 0, 0), (last + 1, int(size[0]), int(size[1]))),
                voxel_size=(s.thickness_nm, self.pixel, self.pixel),
                dtype=self.dtype,
                kind="image",
                chunk=(1, 512, 512),
                shard=(1, -(-s.block_px // 512) * 512, -(-s.block_px // 512) * 512),
                overwrite=True,
            )
            pieces.add("volume", form)
        step = volume.write_shape[1:]
        with Progress("render sections", total=len(self.listed), unit="tile") as progress:
            for k, made in self.mosaics.items():
                numbers = self.members[k]
                made_of = self.made_of(k)
                if pieces.known.get(str(k)) == made_of:
                    progress.advance(len(numbers))
                    continue
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
                    self.names[numbers[i]]: f.scaled(self.pixel) for i, f in made.fields.items()
                }
                field_file.save(place / "transforms" / f"section_{k:05d}.npz", named)
                pieces.add(str(k), made_of)
                progress.advance(len(numbers))
        if self.lens is not None:
            field_file.save(
                place / "transforms" / "lens.npz", {"lens": self.lens.scaled(self.pixel)}
            )
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


def names(files: Sequence[tuple[int, Path]]) -> list[str]:
    """What tiles (section, file) are called in tables and transforms: by the name of the file, or,
    where two of a section have the same (r0/c0.png, r1/c0.png), by the path below the folder that
    all have in common."""
    if len({(k, f.name) for k, f in files}) == len(files):
        return [f.name for _, f in files]
    absolute = [f.absolute() for _, f in files]
    common = os.path.commonpath([f.parent for f in absolute])
    return [f.relative_to(common).as_posix() for f in absolute]


def _signature(file: Path) -> tuple[int, int]:
    """Size and time of change, which are cheap; (0, 0) where there is nothing."""
    try:
        s = file.stat()
    except OSError:
        return (0, 0)
    return (s.st_size, s.st_mtime_ns)
