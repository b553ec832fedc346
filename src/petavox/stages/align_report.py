"""What `petavox align` tells of its result: tables and figures.

What it is: pairs.csv, failures.csv, damage.csv, patch_correlation.npz, and the correlation of
neighbours that they tell. What it is not: a picture (petavox qc --aligned draws them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from petavox.align import match
from petavox.align.frames import Lattice, extent
from petavox.align.matching import Source
from petavox.align.stack_result import Result
from petavox.align.thumbnails import thumb_factor
from petavox.stages.memory import give_back
from petavox.stages.section_damage import Place
from petavox.stages.stitch_report import write_csv


def write_report(
    place: Path,
    result: Result,
    missing: Mapping[int, str],
    patches: Mapping[tuple[int, int], np.ndarray],
    hurt: Mapping[int, Sequence[Place]],
    corner: tuple[int, int],
) -> dict[str, Any]:
    """Write the tables of a finished alignment; returns the figures.

    hurt: damaged places by section (Hurt.places).  corner: the volume's first pixel (y, x).
    """
    rows = [
        {
            "a": p.a,
            "b": p.b,
            "matches": p.matches,
            "inlier_share": round(p.inliers, 3),
            "residual_px": round(p.residual_px, 3),
            "patch_correlation": round(float(np.nanmean(patches[p.a, p.b])), 4)
            if (p.a, p.b) in patches and np.isfinite(patches[p.a, p.b]).any()
            else "",
            "failed": p.failed,
        }
        for p in sorted(result.pairs, key=lambda p: (p.a, p.b))
    ]
    names = ("a", "b", "matches", "inlier_share", "residual_px", "patch_correlation", "failed")
    write_csv(place / "pairs.csv", rows, names)
    write_csv(
        place / "failures.csv",
        [{"section": k, "cause": c} for k, c in sorted(result.failures.items())],
        ["section", "cause"],
    )
    damage = [
        {
            "section": k,
            "kind": kind,
            **{
                n: v + at
                for n, v, at in zip(("y0", "x0", "y1", "x1"), box, corner * 2, strict=True)
            },
            "area_um2": area,
        }
        for k, found in sorted(hurt.items())
        for kind, box, area in found
        if kind != "blank"
    ]
    columns = ("section", "kind", "y0", "x0", "y1", "x1", "area_um2")
    write_csv(place / "damage.csv", damage, columns)
    kinds = [d["kind"] for d in damage]
    near = [p for p in result.pairs if p.b - p.a == 1]
    maps = [m for m in patches.values() if np.isfinite(m).any()]
    np.savez_compressed(
        place / "patch_correlation.npz",
        **{f"{a:05d}_{b:05d}": m.astype(np.float32) for (a, b), m in patches.items()},  # type: ignore[arg-type]
    )
    return {
        "sections": len(result.fields),
        "missing": sorted(missing),
        "failed": sorted(k for k in result.failures if k not in missing),
        "pairs": len(result.pairs),
        "pairs_failed": [f"{p.a}-{p.b}" for p in near if p.failed],
        "pairs_apart": apart(rows),
        "new_runs": result.breaks,
        "residual_px": _mean([p.residual_px for p in near]),
        "inlier_share": _mean([p.inliers for p in near]),
        "patch_correlation": _mean([float(np.nanmean(m)) for m in maps]),
        "damage": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "landmarks": [
            asdict(m) | {"residual_px": round(m.residual_px, 3)} for m in result.landmarks
        ],
        "notes": result.notes,
        "suspected_order": result.order,
    }


def patch_maps(
    source: Source,
    result: Result,
    patch_px: int,
    device: str,
    run: Callable[..., Iterable[Any]] = map,
) -> dict[tuple[int, int], np.ndarray]:
    """Patch correlation maps of neighbours after alignment, at the level of about 1000 px.

    patch_px: side of a patch, pixels of that level.  run: like `map`; sections and pairs at once.
    """
    known = sorted(result.fields)
    if len(known) < 2:
        return {}
    shape = source.shape(known[0])
    factor = thumb_factor(shape, 1400)
    boxes = {k: extent(result.fields[k], shape) for k in known}
    low = np.floor(np.min([b[0] for b in boxes.values()], axis=0) / factor).astype(int)
    high = np.ceil(np.max([b[1] for b in boxes.values()], axis=0) / factor).astype(int)
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    start = (int(low[0]), int(low[1]))

    def seen(k: int) -> Any:
        f = result.fields[k]
        spacing = f.lattice.spacing if f.lattice is not None else 200.0
        pull = f.inverse(Lattice.covering(*boxes[k], spacing))
        return match.warped(*source.level(k, factor), pull, start, size, factor, device)

    out: dict[tuple[int, int], np.ndarray] = {}
    before = seen(known[0])
    for i in range(1, len(known), 8):
        views = [before, *run(seen, known[i : i + 8])]
        maps = run(lambda v: match.patch_correlation(v[0], v[1], patch_px), pairwise(views))
        out.update(zip(pairwise(known[i - 1 : i + 8]), maps, strict=True))
        before = views[-1]
        give_back()
    return out


def apart(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Neighbours, "a-b", that were matched and yet do not lie on one another.

    rows: of pairs.csv. Fewer than half of a pair's matches fit, or its patches correlate less than
    half as well as those of the middle pair of the stack.
    """
    near = [r for r in rows if r["b"] - r["a"] == 1 and not r["failed"]]
    known = [r["patch_correlation"] for r in near if r["patch_correlation"] != ""]
    usual = float(np.median(known)) if known else 0.0
    return [
        f"{r['a']}-{r['b']}"
        for r in near
        if r["inlier_share"] < 0.5
        or (r["patch_correlation"] != "" and r["patch_correlation"] < usual / 2)
    ]


def _mean(values: Sequence[float]) -> float | None:
    good = [v for v in values if np.isfinite(v)]
    return round(float(np.mean(good)), 4) if good else None
