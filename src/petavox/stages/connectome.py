"""Labels, skeletons and synapses to a connectome: tables, graph, files of other programs.

What it is: settings, the block function that counts voxels, and the driver that joins tables.
What it is not: arithmetic on tables; that is petavox.neuron.connectome. The tables of a
connectome are held in memory: about 200 bytes an object or synapse.

    OUT/base/objects.parquet, base/synapses.parquet    by ids of the segmentation, kept for updates
    OUT/neurons.parquet, synapses.parquet, edges.parquet
    OUT/connectome.graphml, edges.csv, cave_synapses.parquet, neuprint/*.csv, sonata/*
    OUT/plots/*.png                                    if asked for
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from pydantic import Field

from petavox import provenance
from petavox.blocks import Context, Costs, Counters, Engine, Ledger
from petavox.errors import BadInput
from petavox.neuron import connectome as wiring
from petavox.neuron import exports, graph, tables
from petavox.neuron import plots as pictures
from petavox.space import Block
from petavox.stages import objects
from petavox.stages.asking import NAMES
from petavox.stages.stage import run_stage
from petavox.stages.tables import write_arrow
from petavox.volume import state
from petavox.volume.opening import make_room


class ConnectomeSettings(objects.LabelSettings):
    """How voxels are counted, and what is written."""

    soma_radius_nm: float = Field(1500.0, gt=0)
    """A skeleton at least so thick somewhere has its soma there."""
    plots: bool = False


class ObjectCounts(objects.FragmentStage):
    """Voxels and boxes of the objects of every block."""

    name = "object counts"
    function = "petavox.stages.connectome:count_block"
    code = ("petavox.neuron.tables",)
    settings: ConnectomeSettings

    def costs(self) -> Costs:
        """Labels, their runs and copies."""
        return Costs(memory_bytes=300_000_000 + 40 * objects.largest_block(self.grid()))


def count_block(block: Block, context: Context) -> Counters:
    """Count the voxels of one block."""
    settings = context.parsed(ConnectomeSettings)
    source, _ = objects.labels_of(context.reads["labels"], settings)
    found = tables.count_voxels(source.read(block.write), block.write.start)
    file = objects.file_of(context.writes["fragments"], block.number)
    provenance.write_atomically(file, found.tobytes())
    return {"objects": len(found)}


def run(
    labels: str,
    synapses: Path,
    out: Path,
    settings: ConnectomeSettings,
    *,
    skeletons: Path | None = None,
    mapping: Path | None = None,
    engine: Engine | None = None,
    ledger: Ledger | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make a connectome from a label volume and a table of synapses; returns figures.

    skeletons: folder of `petavox skeletonize`, for cable and soma.  mapping: base id -> neuron.
    Raises BadInput before any work if an input cannot be used.
    """
    began = time.monotonic()
    base = tables.checked(read_table(synapses), tables.SYNAPSES, str(synapses))
    edits = _mapping(mapping)
    made = None if skeletons is None else _skeletons(skeletons)
    if settings.plots:
        pictures.require()
    source, _ = objects.labels_of(labels, settings)
    made_from = {
        "settings": settings.model_dump(mode="json"),
        "inputs": {"labels": labels, "synapses": str(synapses), "skeletons": str(skeletons)},
    }
    work = objects.work_of(out)
    first = ObjectCounts(
        settings, reads={"labels": labels}, writes={"fragments": work / "fragments"}
    )
    read = (synapses, skeletons, mapping)
    with objects.work_folder(
        out, first, engine=engine, overwrite=overwrite, ledger=ledger, read=read
    ) as ledger:
        run_stage(first, ledger=ledger, engine=engine, overwrite=True)
        counts = tables.sum_counts(
            np.frombuffer(objects.file_of(work / "fragments", number).read_bytes(), tables.COUNTS)
            for number in range(len(first.grid()))
        )
        things = wiring.objects_table(counts, source.voxel_size, made, settings.soma_radius_nm)
        make_room(out, overwrite=True)
        (out / "base").mkdir(parents=True)
        state.begin(out, **made_from)
        # all of each or none: an update trusts the base of a connectome that is not complete
        write_arrow(out / "base" / "objects.parquet", things)
        write_arrow(out / "base" / "synapses.parquet", base)
        return _write(out, things, base, edits, mapping, made_from, began)


def update(out: Path, mapping: Path, *, plots: bool = False) -> dict[str, Any]:
    """Make the tables of a connectome anew after edits, from its base tables; no image is read.

    mapping: base id -> neuron, whole (not only what changed), Parquet or CSV.
    A call that was stopped can be repeated: the base tables never change.
    """
    began = time.monotonic()
    edits = _mapping(mapping)
    things = _base(out, "objects", tables.OBJECTS)
    base = _base(out, "synapses", tables.SYNAPSES)
    if plots:
        pictures.require()
    return _write(out, things, base, edits, mapping, _made_from(out, plots), began)


def read_table(path: Path) -> pa.Table:
    """A table from Parquet or CSV. Raises BadInput for anything else."""
    if not path.exists():
        raise BadInput(f"there is no table {path}.")
    # not guessed: a guess takes ids of 2^63 and more for decimal numbers, and rounds them
    ids = dict.fromkeys(("id", "neuron", "pre", "post"), pa.uint64())
    try:
        if path.suffix == ".csv":
            return pa_csv.read_csv(path, convert_options=pa_csv.ConvertOptions(column_types=ids))
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as e:
        kind = f"CSV with {', '.join(ids)} as uint64" if path.suffix == ".csv" else "Parquet"
        raise BadInput(
            f"{path} cannot be read as {kind}: {e}. A table is Parquet, or CSV named .csv."
        ) from None


def _write(
    out: Path,
    things: pa.Table,
    base: pa.Table,
    edits: pa.Table | None,
    mapping: Path | None,
    made_from: dict[str, Any],
    began: float,
) -> dict[str, Any]:
    """All that follows from base tables and a mapping.

    made_from: the settings and inputs of the base tables, for the record.
    """
    made = wiring.assemble(things, base, edits)
    # with what it was made from, which a call that is stopped must not forget
    state.begin(out, **made_from)
    shutil.rmtree(out / "plots", ignore_errors=True)
    for name in NAMES:
        write_arrow(out / f"{name}.parquet", getattr(made, name))
    write_arrow(out / "cave_synapses.parquet", exports.cave(made.synapses, base))
    texts: dict[str, str | bytes] = {
        "connectome.graphml": graph.graphml(made.neurons, made.edges),
        "edges.csv": graph.edge_list(made.edges),
    }
    parts = exports.neuprint(made.neurons, made.synapses, made.edges)
    texts |= {f"neuprint/{name}": data for name, data in parts.items()}
    parts = exports.sonata(made.neurons, made.edges)
    texts |= {f"sonata/{name}": data for name, data in parts.items()}
    if made_from["settings"]["plots"]:
        parts = pictures.pictures(made.neurons, made.synapses, made.edges)
        texts |= {f"plots/{name}": data for name, data in parts.items()}
    for name, data in texts.items():
        provenance.write_atomically(out / name, data)
    counters = {
        "neurons": made.neurons.num_rows,
        "synapses": len(np.unique(made.synapses["id"].to_numpy())),
        "partners": made.synapses.num_rows,
        "edges": made.edges.num_rows,
        "volume_um3": float(np.nansum(made.neurons["volume_nm3"].to_numpy())) / 1e9,
    }
    seconds = time.monotonic() - began
    record = provenance.record(
        "connectome",
        settings=made_from["settings"],
        inputs=made_from["inputs"] | {"mapping": str(mapping)},
        counters=counters,
        seconds=seconds,
    )
    state.finish(out, record)
    return counters | {"seconds": round(seconds, 2)}


def _made_from(out: Path, plots: bool) -> dict[str, Any]:
    """The settings and inputs that a connectome's base tables were made from."""
    said = state.read(out) or {}
    said = said.get("provenance", said)
    settings = said.get("settings") or {}
    return {"settings": settings | {"plots": plots}, "inputs": said.get("inputs") or {}}


def _mapping(path: Path | None) -> pa.Table | None:
    if path is None:
        return None
    edits = tables.checked(read_table(path), wiring.MAPPING, str(path))
    wiring.mapped(pa.chunked_array([pa.array([], pa.uint64())]), edits)
    return edits


def _skeletons(folder: Path) -> pa.Table:
    file = folder / "skeletons.parquet"
    if not file.exists():
        raise BadInput(f"{folder} holds no skeletons.parquet; make it by petavox skeletonize.")
    state.require_complete(folder)
    return pq.read_table(file)


def _base(out: Path, name: str, schema: pa.Schema) -> pa.Table:
    file = out / "base" / f"{name}.parquet"
    if not file.exists():
        raise BadInput(f"{out} is no connectome that can be updated: it has no base/{file.name}.")
    try:
        return tables.checked(pq.read_table(file), schema, str(file))
    except (pa.ArrowInvalid, OSError) as e:
        raise BadInput(
            f"{file} is damaged ({e}): make the connectome again with --overwrite."
        ) from None
