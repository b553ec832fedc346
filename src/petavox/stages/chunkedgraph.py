"""Export of an agglomerated volume and its graph for ingestion by PyChunkedGraph.

    OUT/ws             uint64 precomputed: the objects, cut at the faces of chunks
    OUT/edges          edges_x_y_z.proto.zst of every chunk that has edges
    OUT/components     components_x_y_z.proto of every chunk that has objects
    OUT/config.yml     what `ingest graph` is given, with these paths
    OUT/pieces.parquet     piece, object, final, voxels

What it is: the join of petavox.segment.chunkedgraph to volumes, files and the graph; edits by hand
count. Holds one chunk, and the tables of all pieces and their contacts, in memory. What it is not:
an upload, or a server.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from petavox import volume
from petavox.progress import Progress
from petavox.provenance import record, write_atomically
from petavox.segment import chunkedgraph as pcg
from petavox.segment.agglomeration import ACCEPTED, UNSCORED, final_of
from petavox.segment.candidates import contacts, reach
from petavox.settings import Settings, ZyxSetting
from petavox.space import Grid
from petavox.stages import tables
from petavox.stages.agglomerated import Agglomerated
from petavox.volume import opening, state
from petavox.volume.volume import Volume

_FANOUT = 2
_LEVEL = 17
"""Of zstd, as PyChunkedGraph's own ingestion writes it."""


class ChunkedGraphSettings(Settings):
    """How a graph is exported."""

    chunk: ZyxSetting = (128, 256, 256)
    """Voxels of a chunk of layer 2."""
    spatial_bits: int = Field(pcg.SPATIAL_BITS, ge=1, le=16)
    """Of each coordinate of a chunk in the ids."""
    max_distance: float = Field(100.0, ge=0)
    """nm between pieces that an edge may join; that of the candidates."""


def export(
    source: str | Path,
    out: str | Path,
    settings: ChunkedGraphSettings | None = None,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write the graph of the agglomerated labels `source` into a folder; gives the figures.

    Raises BadInput if there is no graph, or the ids have no room for the chunks.
    """
    settings, began, place = settings or ChunkedGraphSettings(), time.monotonic(), Path(out)
    known = Agglomerated.open(source)
    labels = volume.open(known.reads["labels"])
    layout = pcg.Layout(labels.box.start, labels.box.stop, settings.chunk, settings.spatial_bits)
    opening.make_room(place, overwrite=overwrite)
    place.mkdir(parents=True)
    state.begin(place)
    grid = Grid(labels.box, settings.chunk)
    pieces, objects, voxels = _cut(labels, place / "ws", layout, grid, quiet)
    met = _contacts(volume.open(place / "ws"), grid, settings, quiet)
    edges, _ = known.edited()
    ok = edges["decision"] == ACCEPTED
    between, cross = pcg.edges_of(
        met, pieces, objects, voxels, (edges["a"], edges["b"], affinities(edges), ok)
    )
    final = final_of(objects, edges["a"][ok], edges["b"][ok])
    files = _write(place, layout, between, cross, pieces, final)
    tables.write(
        place / "pieces.parquet",
        {"piece": pieces, "object": objects, "final": final, "voxels": voxels},
    )
    write_atomically(place / "config.yml", config(place, layout))
    figures = {
        "chunks": len(grid),
        "pieces": len(pieces),
        "objects": len(np.unique(objects)),
        "neurons": len(np.unique(final)),
        "edges": len(between),
        "edges_accepted": int(np.sum(_accepted(between, pieces, final))),
        "cross_edges": len(cross),
        **files,
        "config": str(place / "config.yml"),
    }
    state.finish(
        place,
        record(
            "export-pychunkedgraph",
            settings=settings,
            inputs={"source": str(source)},
            counters=figures,
            seconds=time.monotonic() - began,
        ),
    )
    return {"path": str(place), **figures, "seconds": round(time.monotonic() - began, 3)}


def affinities(edges: dict[str, np.ndarray]) -> np.ndarray:
    """r / (1 + r) with r = odds / odds asked, (n,) float32: above 0.5 the rule would accept.

    Of a pair without scores its chance, if a prior said one, else 0.
    """
    relative = np.asarray(edges["odds"], np.float64) / edges["odds_asked"]
    found = relative / (1 + relative)
    chance = np.asarray(edges.get("chance", np.full(len(found), np.nan)), np.float64)
    found = np.where(edges["decision"] == UNSCORED, np.nan_to_num(chance), found)
    return np.nan_to_num(found).astype(np.float32)


def config(place: Path, layout: pcg.Layout) -> str:
    """The file that ingestion is started with."""
    root = f"file://{place.absolute()}"
    z, y, x = layout.chunk
    return (
        "data_source:\n"
        f'  EDGES: "{root}/edges"\n'
        f'  COMPONENTS: "{root}/components"\n'
        f'  WATERSHED: "{root}/ws"\n'
        "graph_config:\n"
        f"  CHUNK_SIZE: [{x}, {y}, {z}]\n"
        f"  FANOUT: {_FANOUT}\n"
        f"  LAYER_ID_BITS: {pcg.LAYER_BITS}\n"
        f"  SPATIAL_BITS: {layout.spatial_bits}\n"
        "backend_client:\n"
        '  TYPE: "bigtable"\n'
        "  CONFIG:\n"
        "    ADMIN: true\n"
        "    READ_ONLY: false\n"
        "ingest_config: {}\n"
    )


def _cut(
    labels: Volume, ws: Path, layout: pcg.Layout, grid: Grid, quiet: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write the pieces as a volume; gives all pieces, their objects and voxels, ids ascending."""
    made = opening.create(
        ws, box=labels.box, voxel_size=labels.voxel_size, dtype=np.uint64, kind="labels",
        format="precomputed",
    )  # fmt: skip
    found = []
    with Progress("pieces", total=len(grid), unit="chunk", quiet=quiet) as progress:
        for block in grid:
            values, *said = layout.pieces(labels.read(block.write), block.index)
            made.write(block.write, values)
            found.append(said)
            progress.advance(1)
    opening.finish(made, {"stage": "export-pychunkedgraph"})
    pieces, objects, voxels = (np.concatenate([f[k] for f in found]) for k in range(3))
    order = np.argsort(pieces)
    return pieces[order], objects[order], voxels[order]


def _contacts(
    ws: Volume, grid: Grid, settings: ChunkedGraphSettings, quiet: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Contacts of pieces over the whole volume: p, q, faces, faces without a gap."""
    size = tuple(ws.voxel_size)
    around = Grid(ws.box, grid.block, reach(settings.max_distance, size))
    found = []
    with Progress("contacts", total=len(grid), unit="chunk", quiet=quiet) as progress:
        for block in around:
            c = contacts(
                ws.read(block.read),
                max_distance=settings.max_distance,
                voxel_size=size,
                start=block.read.start,
                own=block.write.slices(block.read.start),
            )
            found.append((c.a, c.b, c.faces, c.touching))
            progress.advance(1)
    p, q, faces, touch = (np.concatenate([f[k] for f in found]) for k in range(4))
    return pcg.touching(p, q, faces, touch)


def _write(
    place: Path,
    layout: pcg.Layout,
    between: pcg.Edges,
    cross: pcg.Edges,
    pieces: np.ndarray,
    final: np.ndarray,
) -> dict[str, int]:
    """The files of all chunks; gives how many."""
    for name in ("edges", "components"):
        (place / name).mkdir()
    codec = pa.Codec("zstd", compression_level=_LEVEL)
    shape = layout.shape

    def number(ids: np.ndarray) -> np.ndarray:
        return np.ravel_multi_index(tuple(layout.chunk_of(ids).T), shape)

    own = number(pieces)
    order = np.argsort(own, kind="stable")
    edges = [pcg.EdgesByChunk(e, (number(e.p), number(e.q))) for e in (between, cross)]
    wrote = dict.fromkeys(("edge_files", "component_files", "pieces_without_edges"), 0)
    chunks, starts = np.unique(own[order], return_index=True)
    for n, mine in zip(chunks, np.split(order, starts[1:]), strict=True):
        z, y, x = (int(i) for i in np.unravel_index(int(n), shape))
        within, leaving = edges[0].of(int(n))
        inside, cut = edges[1].of(int(n))
        assert len(inside) == 0  # an object is one piece in a chunk
        here = pieces[mine]
        if len(within) + len(leaving) + len(cut):
            data = pcg.edges_message(within, leaving, cut)
            packed = codec.compress(data, asbytes=True)
            (place / "edges" / f"edges_{x}_{y}_{z}.proto.zst").write_bytes(packed)
            wrote["edge_files"] += 1
        known = np.unique(np.concatenate([here, leaving.q, cut.q]))
        neuron = final[np.searchsorted(pieces, known)]
        row = np.argsort(neuron, kind="stable")
        groups = np.split(known[row], np.flatnonzero(np.diff(neuron[row])) + 1)
        data = pcg.components_message(groups)
        (place / "components" / f"components_{x}_{y}_{z}.proto").write_bytes(data)
        wrote["component_files"] += 1
        used = np.concatenate([within.p, within.q, leaving.p, cut.p])
        wrote["pieces_without_edges"] += int(np.sum(~np.isin(here, used)))
    return wrote


def _accepted(edges: pcg.Edges, pieces: np.ndarray, final: np.ndarray) -> np.ndarray:
    """Which edges join pieces of one neuron."""
    a, b = (final[np.searchsorted(pieces, v)] for v in (edges.p, edges.q))
    return np.asarray(a == b)
