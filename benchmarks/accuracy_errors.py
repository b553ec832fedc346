"""What is left after agglomeration: scores, run length, suspects and their pictures.

What it is: the part of `benchmarks.accuracy` that looks at a result. What it is not: a command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.judging import NM
from petavox.score.overlap import adapted_rand, fill, majority, oracle, variation_of_information
from petavox.score.pairs import PairTable, pair_table
from petavox.score.reporting import run_errors, run_report
from petavox.score.runs import run_scores
from petavox.segment.agglomeration import ACCEPTED, final_of
from petavox.segment.suspects import By, suspects
from petavox.stages.skeleton_scores import read_skeletons
from petavox.stages.table_files import write_table


class Tissue:
    """The labels, the truth, and the scores of any merging of the labels."""

    def __init__(self, labels: np.ndarray, truth: np.ndarray, near: np.ndarray) -> None:
        self.labels, self.truth, self.near = labels, truth, near
        self.raw, self.tolerant = pair_table(labels, truth), pair_table(labels, truth, ~near)
        self.objects, self.bodies = majority(self.raw)

    def body(self, ids: np.ndarray) -> np.ndarray:
        """The majority body of each id."""
        return self.bodies[np.searchsorted(self.objects, ids)]

    def scores(self, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
        """Of the labels after merging the pairs (a[i], b[i])."""

        def merged(table: PairTable) -> PairTable:
            return table.with_result(final_of(table.result, a, b))

        return scores_of(merged(self.raw), merged(self.tolerant))


def scores_of(raw: PairTable, tolerant: PairTable) -> dict[str, float]:
    """VI and adapted Rand, raw and tolerant, with the floor of further merging."""
    out: dict[str, float] = {"fill": round(fill(raw), 4)}
    for name, table in (("raw", raw), ("tolerant", tolerant)):
        seen = table.labelled()
        vi = variation_of_information(seen)
        out |= {
            f"vi_{name}": round(vi.total, 4),
            f"merge_{name}": round(vi.merge, 4),
            f"rand_{name}": round(adapted_rand(seen).error, 4),
            f"floor_{name}": round(variation_of_information(oracle(seen, raw)).total, 4),
        }
    return out


LOOKS = 50
"""Suspects that are looked at."""


def looked_at(
    tissue: Tissue, edges: dict[str, np.ndarray], same: np.ndarray, by: By
) -> dict[str, Any]:
    """How many of the first suspects are errors, and the scores once those are put right.

    A look at a pair shows whether its two objects are of one body, by their majorities, and of
    all pairs between the same two objects.
    """
    ids, voxels = np.unique(tissue.labels[tissue.labels > 0], return_counts=True)
    ok = edges["decision"] == ACCEPTED
    found = suspects(edges, ids, voxels, by=by)
    first = found["edge"][:LOOKS]
    wrong = ok[first] != same[first]
    ends = np.stack([np.minimum(found["object_a"], found["object_b"])[:LOOKS],
                     np.maximum(found["object_a"], found["object_b"])[:LOOKS]], 1)  # fmt: skip
    final = [final_of(edges[k], edges["a"][ok], edges["b"][ok]) for k in "ab"]
    mended, holds_one = ok.copy(), wrong.copy()
    mended[first] = same[first]
    for i in np.flatnonzero(~ok[first]):
        between = ~ok & (np.minimum(*final) == ends[i, 0]) & (np.maximum(*final) == ends[i, 1])
        mended[between] = same[between]
        holds_one[i] = same[between].any()
    rows = np.flatnonzero(mended)
    return {
        "rows": first,
        "listed": len(found["edge"]),
        "looked_at": len(first),
        "errors": int(wrong.sum()),
        "errors_between_the_two_objects": int(holds_one.sum()),
        "errors_expected": round(float(found["chance"][:LOOKS].sum()), 1),
        "errors_of_first_20": int(wrong[:20].sum()),
        "mended": tissue.scores(edges["a"][rows], edges["b"][rows]),
    }


def run_lengths(
    tissue: Tissue,
    pairs: dict[str, np.ndarray],
    ok: np.ndarray,
    skeletons: Path,
    errors: Path | None = None,
) -> dict[str, Any]:
    """ERL and NERL on truth skeletons after joining some pairs; errors: a table of places."""
    truth = read_skeletons(skeletons)
    final = final_of(tissue.raw.result, pairs["a"][ok], pairs["b"][ok])
    out: dict[str, Any] = {}
    for nodes in (1, 2, 5):
        at = []
        for s in truth:
            z, y, x = np.floor(s.nodes / np.array(NM) + 1e-6).astype(np.int64).T
            found = tissue.labels[z, y, x]
            at.append(np.where(found > 0, final[np.searchsorted(tissue.raw.result, found)], 0))
        scores = run_scores(truth, at, merge_nodes=nodes)
        report = run_report(scores, 0, nodes)
        report.pop("conventions")
        out[f"merge_nodes_{nodes}"] = report
        if errors is not None and nodes == 5:
            write_table(errors, run_errors(scores))
    return out


def pictured(
    tissue: Tissue, image: np.ndarray, edges: dict[str, np.ndarray], rows: np.ndarray, file: Path
) -> None:
    """A PNG of some pairs, one a row: the image through each decision point (z, y and x across).

    Red and cyan: the two objects.  Yellow: boundaries of true bodies.
    """
    half, gap = 60, 4
    sheets = []
    padded = np.pad(image, half, "edge")
    ids, bodies = (np.pad(v, half) for v in (tissue.labels, tissue.truth))
    for i in rows:
        point = [int(edges[k][i]) + half for k in "zyx"]
        tiles = []
        for axis in range(3):
            cut = tuple(
                slice(p, p + 1) if k == axis else slice(p - half, p + half)
                for k, p in enumerate(point)
            )
            gray, mine, own = (v[cut].squeeze(axis) for v in (padded, ids, bodies))
            tile = np.repeat(gray[..., None].astype(np.float64), 3, 2)
            for name, colour in (("a", (255, 40, 40)), ("b", (40, 220, 220))):
                here = mine == edges[name][i]
                tile[here] = 0.65 * tile[here] + 0.35 * np.array(colour)
            rim = np.zeros(own.shape, bool)
            rim[1:] |= own[1:] != own[:-1]
            rim[:, 1:] |= own[:, 1:] != own[:, :-1]
            tile[rim] = 0.5 * tile[rim] + 0.5 * np.array((255, 230, 0))
            tile[half - 3 : half + 4, half] = tile[half, half - 3 : half + 4] = 255
            tiles.append(np.pad(tile, ((0, gap), (0, gap), (0, 0)), constant_values=255))
        sheets.append(np.concatenate(tiles, 1))
    Image.fromarray(np.concatenate(sheets).astype(np.uint8)).save(file)
