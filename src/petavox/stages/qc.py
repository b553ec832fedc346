"""Quality control of a stack: the section table, masks, and after alignment the pairs.

    run("stack.zarr", Path("qc"), QcSettings(aligned=True))

What it is: the stage that takes any image volume section by section through petavox.align's
quality, damage, correlation and shift, and writes what they find:

    OUT/sections.csv, sections.parquet   one row per section: measures, damage, pairs, flags
    OUT/findings.parquet                 one row per damaged place
    OUT/match.zarr, render.zarr          1 where matching may look / where the pixel is shown
    OUT/damage.zarr                      0 where sound, else 1 + the kind's place in damage.KINDS
    with aligned:
    OUT/correlation.zarr                 of each section with the next, patch by patch
    OUT/shift_y.zarr, shift_x.zarr       of each section against the one before, in voxels
    OUT/suspects.json, overlay_*.png     sections at fault, the worst pairs in red and green

What it is not: the judgement itself (petavox.align), or a repair.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, PlainSerializer

from petavox import provenance, volume
from petavox.align import quality
from petavox.align.correlation import SuspectSettings
from petavox.align.damage import KINDS, find
from petavox.align.damage_view import DamageSettings
from petavox.align.reduced import Reduced, factor_for
from petavox.align.shift import ShiftSettings
from petavox.blocks import Context, Costs, Counters, Engine, Ledger
from petavox.errors import BadInput, WorkFailed
from petavox.settings import BoxSetting, NmSetting, Settings
from petavox.space import Block, Box, Grid, VoxelSize
from petavox.stages import qc_pairs
from petavox.stages.room import require_apart
from petavox.stages.section_reading import piece_for, strips, voxel_bytes
from petavox.stages.stage import Stage, run_stage
from petavox.volume import Kind, Volume, opening, state
from petavox.volume.pyramid import coarser_box

MASKS = ("match", "render", "damage")
FINDING = pa.schema(
    [("z", pa.int64()), ("kind", pa.string())]
    + [(n, pa.int64()) for n in ("y0", "x0", "y1", "x1")]
    + [("area_um2", pa.float64()), ("score", pa.float64())]
)
"""findings.parquet: boxes half-open, in voxels of the volume."""


class QcSettings(Settings):
    """A request to look at a stack.

    aligned: neighbours lie on one another, so compare them.  pair_nm: resolution at which pairs
    are compared.  correlation_patch: side of a correlated patch, in pixels of that resolution.
    worst: pairs drawn as overlays.  memory_mb: of one process.
    """

    box: Annotated[BoxSetting, PlainSerializer(str)] | None = None
    voxel_size: NmSetting | None = None
    aligned: bool = False
    pair_nm: float = Field(10.0, gt=0)
    correlation_patch: int = Field(96, ge=8)
    worst: int = Field(5, ge=0)
    damage: DamageSettings = DamageSettings()
    outliers: quality.OutlierSettings = quality.OutlierSettings()
    shift: ShiftSettings = ShiftSettings()
    suspects: SuspectSettings = SuspectSettings()
    memory_mb: int = Field(1024, ge=64)


class Qc(Stage):
    """Look at a stack in slabs of sections; a slab owns its shards of every output."""

    name = "qc"
    function = "petavox.stages.qc:look"
    code = tuple(
        f"petavox.align.{m}"
        for m in ("quality", "damage", "lines", "correlation", "shift", "reduced")
    )
    settings: QcSettings

    def grid(self) -> Grid:
        """Slabs of whole sections."""
        view = View(self.reads["image"], self.settings)
        return Grid(view.total, (view.depth, *view.total.shape[1:]))

    def costs(self) -> Costs:
        """The setting bounds the slab; the libraries come on top."""
        return Costs(memory_bytes=(self.settings.memory_mb << 20) + 400_000_000)

    def create(self) -> None:
        """The empty folder and volumes."""
        out, view = Path(self.writes["out"]), View(self.reads["image"], self.settings)
        opening.make_room(out, overwrite=True)
        (out / ".parts").mkdir(parents=True)
        state.begin(out)
        box = coarser_box(view.total, (1, view.factor, view.factor))
        size = view.size.coarser((1, view.factor, view.factor))
        for name in MASKS:
            volume.create(
                out / f"{name}.zarr", box=box, voxel_size=size, dtype=np.uint8, kind=Kind.LABELS,
                chunk=(1, 256, 256), shard=(view.depth, 1024, 1024),
            )  # fmt: skip
        if self.settings.aligned:
            qc_pairs.create(out, view.total, view.size, view.pair_factor, self.settings)

    def after(self, ledger: Ledger, *_: Any, **__: Any) -> None:
        """The tables of the whole stack: flags, suspects, pictures."""
        out, s = Path(self.writes["out"]), self.settings
        rows: list[dict[str, Any]] = []
        with pq.ParquetWriter(out / "findings.parquet", FINDING) as findings:
            for block in self.grid():
                part = json.loads(_part(out, block).read_text())
                rows += part["rows"]
                findings.write_table(pa.Table.from_pylist(part["findings"], FINDING))
        _flag(rows, s)
        said = {r["z"]: r["flags"] for r in rows}
        if s.aligned:
            named = qc_pairs.conclude(out, self.reads["image"], rows, said, s)
        else:
            named = [{"section": z, "cause": ", ".join(w)} for z, w in said.items() if w]
        provenance.write_json(out / "suspects.json", named)
        _write_table(out, rows)
        record = provenance.record(
            "qc",
            settings=s,
            inputs=self.reads,
            counters={"sections": len(rows)},
            seconds=float(sum(ledger.seconds(self.name))),
        )
        for name in MASKS + (qc_pairs.VOLUMES if s.aligned else ()):
            state.finish(out / f"{name}.zarr", record)


def run(
    path: str,
    out: Path,
    settings: QcSettings,
    *,
    engine: Engine | None = None,
    ledger: Ledger | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Look at every section of an image volume; writes the folder `out`, returns figures.

    ledger: the project's; without one, a stopped run is resumed from OUT.work.
    Raises BadInput before any work if the volume or the settings cannot be used, WorkFailed if
    sections could not be read; what was finished is kept.
    """
    began = time.monotonic()
    require_apart(out, [path])
    stage = Qc(settings, reads={"image": path}, writes={"out": out})
    stage.grid()
    with _own_ledger(out, ledger, overwrite) as known:
        outcome = run_stage(stage, ledger=known, engine=engine, overwrite=overwrite)
    if not outcome.complete:
        raise WorkFailed(
            f"{outcome.total - outcome.kept - outcome.done} of {outcome.total} slabs of {path} "
            "could not be looked at; see the lines above. Run again to go on from there."
        )
    # not before all is complete: a run killed in between makes the tables from them again
    shutil.rmtree(out / ".parts", ignore_errors=True)
    return _figures(out, settings) | {"seconds": round(time.monotonic() - began, 2)}


@contextlib.contextmanager
def _own_ledger(out: Path, ledger: Ledger | None, overwrite: bool) -> Iterator[Ledger]:
    """The ledger given, or one beside the output that goes when all is done."""
    if ledger is not None:
        yield ledger
        return
    work = out.with_name(out.name + ".work")
    if not work.exists():
        opening.make_room(out, overwrite=overwrite)
    own = Ledger(work / "ledger.sqlite")
    try:
        yield own
    finally:
        own.close()
    if (state.read(out) or {}).get("state") == "complete":
        shutil.rmtree(work)


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
    provenance.write_json(_part(out, block), {"rows": table, "findings": findings})
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


def _part(out: Path, block: Block) -> Path:
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


def image_of(
    path: str, box: Box | None, voxel_size: tuple[float, float, float] | None
) -> tuple[Volume, Box]:
    """The image volume and the box to work on. Raises BadInput for anything but uint8, uint16."""
    source = volume.open(path, voxel_size=voxel_size)
    if source.dtype not in (np.uint8, np.uint16):
        raise BadInput(
            f"{path} holds {source.dtype}: sections are uint8 or uint16. Give an image volume."
        )
    total = source.box if box is None else box
    if not source.box.contains(total) or total.is_empty:
        raise BadInput(f"box {total} does not lie in {path}, whose box is {source.box}.")
    return source, total


def _flag(rows: list[dict[str, Any]], settings: QcSettings) -> None:
    """Say of each row what is wrong with it, compared with its neighbours."""
    measures = [quality.SectionQuality(*(r[name] for name in quality.MEASURES)) for r in rows]
    for row, words in zip(rows, quality.outliers(measures, settings.outliers), strict=True):
        damaged = [k for k in ("fold", "crack") if row[f"{k}_um2"] > 0]
        row["flags"] = [*words, *damaged]


def _write_table(out: Path, rows: list[dict[str, Any]]) -> None:
    flat = [
        {k: ("; ".join(v) if k == "flags" else None if _nan(v) else v) for k, v in r.items()}
        for r in rows
    ]
    pq.write_table(pa.Table.from_pylist(flat), out / "sections.parquet")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(flat[0]), lineterminator="\n")
    writer.writeheader()
    for row in flat:
        writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
    provenance.write_atomically(out / "sections.csv", text.getvalue())


def _nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _figures(out: Path, settings: QcSettings) -> dict[str, Any]:
    table = pq.read_table(out / "sections.parquet").to_pydict()
    kinds = pq.read_table(out / "findings.parquet", columns=["kind"])["kind"].to_pylist()
    figures: dict[str, Any] = {
        "sections": len(table["z"]),
        "match_share": round(float(np.mean(table["match_share"])), 5),
        "render_share": round(float(np.mean(table["render_share"])), 5),
        "findings": {kind: kinds.count(kind) for kind in KINDS},
        "flagged_sections": sum(bool(f) for f in table["flags"]),
        "suspects": len(json.loads((out / "suspects.json").read_text())),
    }
    return figures | (qc_pairs.figures(table) if settings.aligned else {})
