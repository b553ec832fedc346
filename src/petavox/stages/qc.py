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
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from petavox import provenance, volume
from petavox.align import quality
from petavox.align.damage import KINDS
from petavox.blocks import Costs, Engine, Ledger
from petavox.errors import WorkFailed
from petavox.space import Grid
from petavox.stages import qc_pairs
from petavox.stages.qc_settings import QcSettings
from petavox.stages.qc_slab import MASKS, View, part_of
from petavox.stages.room import require_apart
from petavox.stages.stage import Stage, run_stage
from petavox.volume import Kind, opening, state
from petavox.volume.pyramid import coarser_box

FINDING = pa.schema(
    [("z", pa.int64()), ("kind", pa.string())]
    + [(n, pa.int64()) for n in ("y0", "x0", "y1", "x1")]
    + [("area_um2", pa.float64()), ("score", pa.float64())]
)
"""findings.parquet: boxes half-open, in voxels of the volume."""


class Qc(Stage):
    """Look at a stack in slabs of sections; a slab owns its shards of every output."""

    name = "qc"
    function = "petavox.stages.qc_slab:look"
    code = tuple(
        f"petavox.{m}"
        for m in (
            "align.quality", "align.damage", "align.damage_view", "align.lines",
            "align.correlation", "align.shift", "align.reduced", "stages.qc_pairs",
            "stages.section_reading",
        )
    )  # fmt: skip
    smaller = "a smaller memory_mb"
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
                part = json.loads(part_of(out, block).read_text())
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
