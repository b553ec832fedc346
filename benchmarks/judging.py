"""Asking the network about pairs of objects on arrays, one line of JSON each.

What it is: what the benchmarks of agglomeration share: resegmentation of pairs in a given order,
which goes on where it was, and the pairs with what was said of them. What it is not: blockwise
(`petavox agglomerate` does the same by blocks, with the same kernels), or a choice of pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from petavox.ffn.predictor import Predictor
from petavox.segment.resegment import ResegmentSettings, Scores, around, radii, resegment
from petavox.space import Box

NM = (10.0, 10.0, 10.0)
"""Voxels of both data sets."""


def judge(
    image: np.ndarray,
    labels: np.ndarray,
    pairs: dict[str, np.ndarray],
    order: np.ndarray,
    file: Path,
    predict: Predictor,
    settings: ResegmentSettings,
    over: Callable[[], bool],
) -> None:
    """Resegment pairs in this order until it is `over`; pairs in the file are not asked again."""
    known = {(row["a"], row["b"]) for row in rows_of(file)}
    radius = radii(settings, predict.spec, NM)[0]
    with open(file, "a") as out:
        for i in order:
            a, b, *point = (int(pairs[k][i]) for k in "abzyx")
            if (a, b) in known:
                continue
            if over():
                break
            box = around(point, radius).intersection(Box.of_shape(labels.shape))
            found = resegment(
                image[box.slices()],
                labels[box.slices()],
                a,
                b,
                [p - s for p, s in zip(point, box.start, strict=True)],
                predict,
                predict.spec,
                voxel_size=NM,
                settings=settings,
            )
            out.write(json.dumps({"a": a, "b": b} | found.row()) + "\n")
            out.flush()


def rows_of(file: Path) -> list[dict[str, Any]]:
    """The rows that were judged so far."""
    return [json.loads(x) for x in file.read_text().splitlines()] if file.exists() else []


def with_scores(pairs: dict[str, np.ndarray], file: Path) -> dict[str, np.ndarray]:
    """The pairs with the network's scores; NaN where it was not asked."""
    at = {(int(a), int(b)): i for i, (a, b) in enumerate(zip(pairs["a"], pairs["b"], strict=True))}
    names = [k for k, v in Scores().row().items() if not isinstance(v, str)]
    out = {k: np.full(len(at), 0.0 if k in ("fovs", "seconds") else np.nan) for k in names}
    for row in rows_of(file):
        i = at[row["a"], row["b"]]
        for k in names:
            out[k][i] = row[k]
    return pairs | out
