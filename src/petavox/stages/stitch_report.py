"""What `petavox stitch` tells of its result: seams, failures, what is lost, figures.

What it is: the tables. What it is not: the stitching.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from petavox import provenance
from petavox.align.seam_blocks import overlap_correlation

if TYPE_CHECKING:
    from petavox.stages.stitch_work import Work

log = logging.getLogger("petavox")


def write_report(place: Path, work: Work) -> dict[str, Any]:
    """Write seams.csv and failures.csv into the folder of a stitching; returns the figures."""
    rows, worst, stiff = [], [], []
    for k, made in work.mosaics.items():
        names = [work.names[n] for n in work.members[k]]
        for s in made.seams:
            residual = made.residuals.get((s.a, s.b), float("nan"))
            ok = s.matches is not None and len(s.matches.p) > 0
            after = float("nan")
            if ok:
                after = overlap_correlation(
                    work.load(work.members[k][s.a]),
                    work.load(work.members[k][s.b]),
                    made.fields[s.a],
                    made.fields[s.b],
                    s.matches.p,  # type: ignore[union-attr]
                )
            rows.append(
                {
                    "section": k,
                    "a": names[s.a],
                    "b": names[s.b],
                    "dy_px": round(float(-s.shift[0]), 3),
                    "dx_px": round(float(-s.shift[1]), 3),
                    "trust": round(s.trust, 3),
                    "widened": int(s.widened),
                    "matched": int(ok),
                    "blocks": 0 if s.matches is None else len(s.matches.p),
                    "residual_px": round(residual, 3),
                    "correlation": round(after, 4),
                }
            )
            if not ok:
                worst.append((k, names[s.a], names[s.b]))
        stiff += [
            {"section": k, "file": names[i], "cause": f"placed without its own field: {cause}"}
            for i, cause in sorted(made.failures.items())
        ]
    write_csv(place / "seams.csv", rows)
    lost = work.lost()
    for what in lost:
        log.warning("section %d: %s.", what["section"], what["cause"])
    listed = [
        *work.failures,
        *lost,
        *stiff,
        *(
            {"section": k, "file": f"{a} | {b}", "cause": "the overlap does not match"}
            for k, a, b in worst
        ),
    ]
    write_csv(place / "failures.csv", listed, ["section", "file", "cause"])
    values = np.array([r["residual_px"] for r in rows if r["matched"]], float)
    seen = np.array([r["correlation"] for r in rows if r["matched"]], float)
    values, seen = values[np.isfinite(values)], seen[np.isfinite(seen)]
    return {
        "sections": len(work.mosaics),
        "tiles": sum(len(m.fields) for m in work.mosaics.values()),
        "lost": [f"{what['section']}: {what['cause']}" for what in lost],
        "seams": len(rows),
        "seams_failed": len(worst),
        "seam_residual_px": round(float(values.mean()), 4) if len(values) else None,
        "seam_correlation": round(float(seen.mean()), 4) if len(seen) else None,
        "cycle_px": round(float(np.mean([m.cycle_px for m in work.mosaics.values()])), 4),
    }


def write_csv(
    path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> None:
    """A small table, atomically."""
    text = io.StringIO()
    names = list(columns or (rows[0] if rows else ["none"]))
    out = csv.DictWriter(text, names, lineterminator="\n")
    out.writeheader()
    out.writerows(rows)
    provenance.write_atomically(path, text.getvalue())
