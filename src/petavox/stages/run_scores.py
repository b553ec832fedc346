"""Scores of a run where its truth is known: segmentation, neurons, synapses, wiring.

    OUT/scores.json            all figures, by what is scored
    OUT/objects.csv, neurons.csv     a row per split and merger, with its place

What it is: petavox.stages.score and petavox.score.synapses on all that a run made, in one file.
What it is not: a score. Alignment is scored where the truth is made (petavox.stages.tile_truth).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from petavox import provenance, volume
from petavox.neuron.tables import SITES, checked
from petavox.score import synapses as wiring
from petavox.score.overlap import majority
from petavox.settings import Settings
from petavox.space import Box, VoxelSize
from petavox.stages import score
from petavox.stages.connectome import read_table
from petavox.stages.score import ScoreSettings
from petavox.stages.table_files import write_table
from petavox.volume import opening, state


class RunScoreSettings(Settings):
    """How a run is scored."""

    segmentation: ScoreSettings = ScoreSettings(intersect=True, places=True)
    within_nm: float = 200.0
    """Distance at which a detected synapse is a true one."""


def run(
    out: str | Path,
    settings: RunScoreSettings,
    *,
    segmentations: Mapping[str, str | Path],
    labels: str | Path | None,
    synapses: str | Path | None = None,
    true_synapses: str | Path | None = None,
    more: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Score what a run made; gives the figures by name.

    segmentations: name -> labels volume, the last being that of the synapses' partners.  labels:
    true objects.  synapses, true_synapses: tables.  more: figures to keep beside.
    Synapses count where that segmentation and the true objects both are, as the labels do.
    """
    began, place = time.monotonic(), Path(out)
    opening.make_room(place, overwrite=overwrite)
    place.mkdir(parents=True)
    state.begin(place)
    found: dict[str, Any] = dict(more or {})
    named: tuple[np.ndarray, np.ndarray] | None = None
    where: tuple[Box, VoxelSize] | None = None
    if labels is not None:
        truth = volume.open(labels)
        for name, path in segmentations.items():
            tables = score.tables(volume.open(path), truth, settings.segmentation, quiet=True)
            report = tables.report(oracle=True)
            found[name] = {k: v for k, v in report.items() if k != "conventions"}
            if settings.segmentation.places:
                write_table(place / f"{name}.csv", tables.errors())
            named, where = majority(tables.every), (tables.box, truth.voxel_size)
    elif segmentations:
        last = volume.open(list(segmentations.values())[-1])
        where = last.box, last.voxel_size
    if synapses is not None and true_synapses is not None:
        own, true = (checked(read_table(Path(p)), SITES, str(p)) for p in (synapses, true_synapses))
        if where is not None:
            own, true = (inside(t, *where) for t in (own, true))
        found["synapses"], found["edges"] = partners(own, true, named, settings.within_nm)
    provenance.write_json(place / "scores.json", found)
    inputs = {k: str(v) for k, v in segmentations.items()} | {"labels": str(labels)}
    seconds = time.monotonic() - began
    state.finish(
        place,
        provenance.record(
            "scores", settings=settings, inputs=inputs, counters=found, seconds=seconds
        ),
    )
    return found


def inside(table: pa.Table, box: Box, voxel_size: VoxelSize) -> pa.Table:
    """The rows of the synapses whose place lies in a box of voxels.

    table: rows of id, z_nm, y_nm, x_nm.  A synapse has one place, that of its first row: it is
    kept with all its partners, or not at all.
    """
    # a place on a voxel's face, such as 3 x 4.6 nm, must not fall back by rounding
    voxels = np.floor(_places(table) / np.array(tuple(voxel_size)) + 1e-6)
    within = ((voxels >= box.start) & (voxels < box.stop)).all(1)
    _, which = np.unique(_column(table, "id"), return_inverse=True)
    return table.filter(pa.array(within[which], pa.bool_()))


def partners(
    found: pa.Table,
    truth: pa.Table,
    named: tuple[np.ndarray, np.ndarray] | None,
    within: float,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores of the synapses' places and partners, and of the wiring between true bodies.

    found, truth: rows of id, pre, post, z_nm, y_nm, x_nm.  named: objects and their true bodies;
    None: only places are scored.
    """
    places = [_places(t) for t in (found, truth)]
    met = wiring.detection(places[0], places[1], within=within)
    figures: dict[str, Any] = {
        "found": len(places[0]),
        "true": len(places[1]),
        "matched": len(met.matches),
        **{k: _plain(getattr(met, k)) for k in ("precision", "recall", "f1")},
    }
    if named is None:
        return figures, {}
    ids, body = named
    own = [
        _wires(_names(found, "pre", ids, body), _names(found, "post", ids, body)),
        _wires(_column(truth, "pre"), _column(truth, "post")),
    ]
    edges: dict[str, Any] = {}
    for name, weighted in (("edges", False), ("synapses_on_edges", True)):
        scored = wiring.edge_scores(own[0], own[1], weighted=weighted)
        edges[name] = {k: _plain(getattr(scored, k)) for k in ("precision", "recall", "f1")}
    edges |= {"found": len(own[0]), "true": len(own[1])}
    pairs = _partner_pairs(found, truth, met.matches, ids, body)
    return figures | pairs, edges


def _partner_pairs(
    found: pa.Table, truth: pa.Table, matches: np.ndarray, ids: np.ndarray, body: np.ndarray
) -> dict[str, Any]:
    """Of matched synapses: how often the presynaptic body, and one postsynaptic one, is right."""
    sides = []
    for table, named in ((found, True), (truth, False)):
        rows = np.unique(_column(table, "id"), return_inverse=True)[1]
        ends = [
            _names(table, end, ids, body) if named else _column(table, end)
            for end in ("pre", "post")
        ]
        sides.append([(set(a), set(b)) for a, b in _grouped(rows, *ends)])
    k = len(matches)
    right = [
        [bool((sides[0][i][end] & sides[1][j][end]) - {0}) for end in (0, 1)] for i, j in matches
    ]
    share = np.array(right, float).reshape(-1, 2)
    return {
        "pre_right": float(share[:, 0].mean()) if k else None,
        "post_right": float(share[:, 1].mean()) if k else None,
        "both_right": float(share.all(1).mean()) if k else None,
    }


def _grouped(rows: np.ndarray, pre: np.ndarray, post: np.ndarray) -> list[tuple[Any, Any]]:
    """The pre and the post of each number in `rows`, from 0 on, in the order that they come in."""
    order = np.argsort(rows, kind="stable")
    cuts = np.searchsorted(rows[order], np.arange(1, int(rows.max(initial=0)) + 1))
    parts = [np.split(ends[order], cuts) for ends in (pre, post)]
    return [(a.tolist(), b.tolist()) for a, b in zip(*parts, strict=True)]


def _places(table: pa.Table) -> np.ndarray:
    """One place a synapse, (n, 3) nm, in ascending order of id."""
    _, first = np.unique(_column(table, "id"), return_index=True)
    at = [np.asarray(table[f"{a}_nm"].to_numpy(), float)[first] for a in "zyx"]
    return np.stack(at, 1).reshape(-1, 3)


def _column(table: pa.Table, name: str) -> np.ndarray:
    return np.asarray(table[name].to_numpy(), np.uint64)


def _names(table: pa.Table, end: str, ids: np.ndarray, body: np.ndarray) -> np.ndarray:
    """The true bodies of a column of object ids; 0 where an object lies on none."""
    wanted = _column(table, end)
    if not len(ids):
        return np.zeros(len(wanted), np.uint64)
    at = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[at] == wanted, body[at], np.uint64(0))


def _wires(pre: np.ndarray, post: np.ndarray) -> dict[tuple[int, int], float]:
    """(pre, post) -> synapses; rows with a side that is nobody, or twice the same one, are not."""
    out: dict[tuple[int, int], float] = {}
    for a, b in zip(pre.tolist(), post.tolist(), strict=True):
        if a and b and a != b:
            out[a, b] = out.get((a, b), 0.0) + 1.0
    return out


def _plain(value: float) -> float | None:
    return None if value != value else round(float(value), 4)
