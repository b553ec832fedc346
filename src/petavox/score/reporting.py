"""What is printed of scores: figures by name, and beside every one the convention behind it.

What it is: the words and the order of the figures. `a` is the result, `t` the truth. What it is
not: a score, or printing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from petavox.score import errors, overlap
from petavox.score.pairs import PairTable
from petavox.score.runs import RunScores


class Report(dict[str, Any]):
    """Figures by name; `notes` gives the convention of each (dotted name -> text)."""

    notes: dict[str, str]

    def __init__(self, figures: Mapping[str, Any], notes: Mapping[str, str]) -> None:
        super().__init__(figures)
        self.notes = dict(notes)
        self["conventions"] = self.notes


def report(
    every: PairTable,
    tolerant: PairTable | None = None,
    *,
    radius: float = 2.0,
    large: int = 1000,
    oracle: bool = False,
    where: str = "",
) -> Report:
    """All figures of a comparison, each with its convention.

    every: the table of all voxels.  tolerant: that of the voxels farther than `radius` from a
    truth boundary, if asked for.  large: voxels from which an object is large, and an overlap a
    split or merger.  where: words on the voxels scored.
    """
    domains = {"raw": (every.labelled(), "t>0, a>0", "voxels with t > 0 and a > 0")}
    if tolerant is not None:
        domains["tolerant"] = (
            tolerant.labelled(),
            f"also >{radius:g} voxels off boundaries",
            f"as raw, without voxels within {radius:g} voxels (of the sharpest axis, Euclidean, "
            "centre to centre) of a voxel of another truth id",
        )
    domains["all_voxels"] = (
        every.where(every.truth > 0),
        "t>0, a=0 as one object",
        "voxels with t > 0; those with a = 0 count as one object",
    )
    figures: dict[str, Any] = {"voxels": every.total, "fill": _plain(overlap.fill(every))}
    notes = {"voxels": where, "fill": "share of t>0 with a>0"}
    for name, (table, domain, _) in domains.items():
        figures[name] = _scores(table)
        notes |= {f"{name}.{k}": f"{text}; {domain}" for k, text in _MEANING.items()}
    if oracle:
        figures["oracle"] = {}
        for name, (table, domain, _) in domains.items():
            scores = _scores(overlap.oracle(table, every))
            figures["oracle"][name] = {k: scores[k] for k in _FLOOR}
            notes |= {f"oracle.{name}.{k}": f"{_MEANING[k]}; {domain}" for k in _FLOOR}
    for name, ids in (("result", every.result), ("truth", every.truth)):
        objects, big = overlap.counts(ids, every.voxels, large)
        figures |= {f"{name}_objects": objects, f"{name}_objects_large": big}
        notes |= {
            f"{name}_objects": f"ids above 0 in the {name}",
            f"{name}_objects_large": f"of those, of {large:,} voxels or more",
        }
    splits, mergers = errors.count_errors(every if tolerant is None else tolerant, large)
    figures |= {"splits": splits, "mergers": mergers}
    kind = "tolerant" if tolerant is not None else "raw"
    text = f"sharing {large:,} voxels or more with it, beyond the first; {domains[kind][1]}"
    notes |= {"splits": f"objects on a body {text}", "mergers": f"bodies on an object {text}"}
    notes |= {name: sentence for name, (_, _, sentence) in domains.items()}
    if oracle:
        notes["oracle"] = (
            "had each result object been given to the body with which it shares most voxels (of "
            "all voxels with t > 0): the floor for agglomerating this result"
        )
    return Report(figures, notes)


_MEANING = {
    "vi": "bits, split + merge",
    "vi_split": "bits, H(a|t)",
    "vi_merge": "bits, H(t|a)",
    "adapted_rand_error": "1 - F of pairs",
    "rand_precision": "joined in a, also in t",
    "rand_recall": "joined in t, also in a",
    "voxels": "count",
}
_FLOOR = ("vi", "vi_split", "vi_merge", "adapted_rand_error")


def _scores(table: PairTable) -> dict[str, float | int | None]:
    vi, rand = overlap.variation_of_information(table), overlap.adapted_rand(table)
    return {
        "vi": _plain(vi.total),
        "vi_split": _plain(vi.split),
        "vi_merge": _plain(vi.merge),
        "adapted_rand_error": _plain(rand.error),
        "rand_precision": _plain(rand.precision),
        "rand_recall": _plain(rand.recall),
        "voxels": table.total,
    }


def run_report(scores: RunScores, outside: int, merge_nodes: int) -> Report:
    """Figures of ERL, each with its convention."""
    names: tuple[str, ...] = ("erl", "erl_perfect", "nerl", "length", "splits", "mergers")
    names += ("splits_per_mm", "mergers_per_mm", "correct", "merged", "split", "missing")
    unit = {n: "_nm" for n in ("erl", "erl_perfect", "length")}
    figures: dict[str, Any] = {}
    for name in names:
        value = getattr(scores, name)
        if name in ("correct", "merged", "split", "missing"):
            figures[f"share_{name}"] = _plain(value / scores.length) if scores.length else None
        else:
            figures[name + unit.get(name, "")] = _plain(value)
    figures["nodes_outside"] = outside
    on = f"with {merge_nodes} node{'s' if merge_nodes > 1 else ''} or more"
    return Report(
        figures,
        {
            "erl_nm": "sum of squared runs / total length; a run is all correct edges of one "
            "skeleton in one object; an edge is correct if both nodes lie in one object that no "
            "other skeleton shares",
            "erl_perfect_nm": "ERL of a perfect result",
            "nerl": "ERL / ERL of a perfect result",
            "length_nm": "of all edges with both nodes in the volume",
            "splits": f"objects on a skeleton {on}, beyond the first",
            "mergers": f"skeletons on an object {on}, beyond the first",
            "splits_per_mm": "per mm of truth length",
            "mergers_per_mm": "per mm of truth length",
            "share_correct": "of the length",
            "share_merged": "of the length: an end in an object that another skeleton shares",
            "share_split": "of the length: its ends in two objects",
            "share_missing": "of the length: an end in no object",
            "nodes_outside": "nodes outside of the volume; their edges count nowhere",
        },
    )


def run_errors(scores: RunScores) -> errors.Columns:
    """A row per split and merger on skeletons, with its place in nm."""
    found = scores.errors
    out: errors.Columns = {
        "kind": np.array([e.kind for e in found], "<U6"),
        "skeleton": np.array([e.skeleton for e in found], np.uint64),
        "object": np.array([e.object for e in found], np.uint64),
        "other": np.array([e.other for e in found], np.uint64),
    }
    for i, axis in enumerate("zyx"):
        out[f"{axis}_nm"] = np.array([e.place_nm[i] for e in found], np.float64)
    return out


def joined(first: Report, **more: Report) -> Report:
    """One report of several; the later ones under their names."""
    figures = {k: v for k, v in first.items() if k != "conventions"}
    notes = dict(first.notes)
    for name, other in more.items():
        figures[name] = {k: v for k, v in other.items() if k != "conventions"}
        notes |= {f"{name}.{k}": text for k, text in other.notes.items()}
    return Report(figures, notes)


def _plain(value: float) -> float | None:
    """A number for JSON, which has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value
