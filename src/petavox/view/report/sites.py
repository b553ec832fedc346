"""Chapters on wiring: synapses and the connectome.

What it is: a function a chapter, from results to HTML. What it is not: the reading, or the looks.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from petavox.errors import PetavoxError
from petavox.neuron.plots import ordered
from petavox.view.report import shots, svg
from petavox.view.report.parts import (
    Chapter,
    Fact,
    Source,
    beside,
    facts,
    heading,
    paragraph,
    plot,
)
from petavox.view.report.parts import picture as drawn
from petavox.view.report.reading import Results
from petavox.view.synapses import Synapses
from petavox.view.synapses import read as read_synapses
from petavox.volume import Volume

SITES = 10
"""Synapses drawn."""
MATRIX = 120
"""Neurons in the matrix."""


def synapses(found: Results) -> Chapter | None:
    """Synapses: how many, how sure, and the best with their partners."""
    given = found.path("synapses")
    if given is None:
        return None
    file = Path(given)
    file = file / "synapses.parquet" if file.is_dir() else file
    out = Chapter("synapses", "Synapses")
    try:
        sites = read_synapses(file)
    except PetavoxError as e:
        out.add(paragraph(str(e), "warning"))
        return out
    if found.project.settings.input.synapses is None:
        out.state = found.state("synapses").state
        out.add(facts(found.figures("synapses").facts()))
    rel = found.rel(file)
    # a synapse with several partners has several rows at one place
    one = len(np.unique(sites.place, axis=0))
    out.add(
        facts(
            [
                Fact("synapses", one, Source(rel, "distinct places")),
                Fact("partners", len(sites), Source(rel, "rows")),
                *(
                    Fact(f"without {name}", int((ids == 0).sum()), Source(rel, f"rows, {key} = 0"))
                    for name, key, ids in (
                        ("a presynaptic object", "pre", sites.pre),
                        ("a postsynaptic object", "post", sites.post),
                    )
                ),
            ]
        ),
        beside(
            plot(
                svg.histogram({"rows": sites.score}, x="score", y="rows"),
                "Scores.",
                Source(rel, "score"),
            ),
            plot(
                svg.histogram({"rows": sites.size}, x="size", y="rows", log=True),
                "Sizes of clefts.",
                Source(rel, "size"),
            ),
        ),
    )  # fmt: skip
    image, labels = found.thing("image"), found.thing("neurons|objects")
    if image is not None and len(sites):
        out.add(heading("The best"), _sites(found, sites, image, labels, rel))
    return out


def _sites(found: Results, sites: Synapses, image: Volume, labels: Volume | None, rel: str) -> str:
    """Crops about the synapses with the highest score: pre red, post blue."""
    order = np.lexsort((np.arange(len(sites)), -np.nan_to_num(sites.score)))
    _, first = np.unique(sites.place[order], axis=0, return_index=True)
    rows = order[np.sort(first)][:SITES]
    parts = []
    for row in rows.tolist():
        place = sites.place[row]
        mine = (sites.place == place).all(1)
        field = shots.around(place, "xy", max(700.0, 40 * image.voxel_size.x), 180, image)
        grey = shots.sample(image, field)
        rgb = shots.grey(grey).astype(np.float32)
        if labels is not None:
            here = shots.sample(labels, field)
            for ids, ink in ((sites.post[mine], (70, 160, 255)), (sites.pre[mine], (255, 90, 60))):
                share = np.isin(here, ids[ids > 0])[..., None] * 0.35
                rgb += (np.array(ink) - rgb) * share
        rgb8 = shots.ring(np.rint(rgb).astype(np.uint8), field, place)
        rgb8 = shots.scale_bar(rgb8, field.nm)
        score = sites.score[row]
        said = f"score {score:.3g}, " if np.isfinite(score) else ""
        partners = int(mine.sum())
        caption = f"{said}{partners} partner{'s' if partners > 1 else ''}; z {place[0]:,.0f} nm"
        parts.append(drawn(shots.png(rgb8, 96), caption, Source(rel, f"row {row}"), size="small"))
    note = "Presynaptic objects are red, postsynaptic ones blue; the cleft is in the yellow ring."
    return beside(*parts, kind="grid") + paragraph(note, "note")


def connectome(found: Results) -> Chapter | None:
    """Neurons, edges, degrees, the ordered matrix."""
    path = found.path("connectome")
    if path is None:
        return None
    out = Chapter("connectome", "Connectome", state=found.state("connectome").state)
    out.add(facts(found.figures("connectome").facts()))
    file = Path(path) / "edges.parquet"
    edges = found.columns(file)
    rel = found.rel(file)
    if not edges or not len(edges["pre"]):
        out.add(paragraph(f"There are no edges ({rel} is empty).", "note"))
        return out
    degree = {}
    for side, name in (("pre", "partners after it"), ("post", "partners before it")):
        degree[name] = np.unique(edges[side], return_counts=True)[1]
    top = edges
    both, times = np.unique(np.concatenate([edges["pre"], edges["post"]]), return_counts=True)
    if len(both) > MATRIX:
        best = both[np.argsort(-times, kind="stable")[:MATRIX]]
        keep = np.isin(edges["pre"], best) & np.isin(edges["post"], best)
        top = {k: v[keep] for k, v in edges.items()}
    _, matrix = ordered(pa.table({k: top[k] for k in ("pre", "post", "count")}))
    many = f" (the {len(matrix)} most connected of {len(both):,})" if len(both) > MATRIX else ""
    out.add(
        beside(
            plot(
                svg.matrix(matrix, x="post (ordered)", y="pre (ordered)"),
                f"Synapses between {len(matrix)} neurons{many}.",
                Source(rel, "count"),
            ),
            plot(
                svg.histogram(degree, x="partners", y="neurons", bins=20),
                "How many partners neurons have.",
                Source(rel, "pre, post"),
            ),
        )
    )
    return out
