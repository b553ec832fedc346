"""Synapses: an image and a segmentation to clefts, partners and mitochondria, block by block.

    petavox synapses IMAGE SEGMENTATION OUT --model MODEL

    predict     each block: the network; one volume of probabilities for each class
    fragments   each block: components of the thresholded class, and their figures
    links       each block: which of its fragments touch a neighbour's
    (driver)    components of links: small ones left out, the smallest id for all
    objects     each block: fragments renamed to their components
    partners    each block: the clefts that begin in it, with the segmentation

What it is: the order of these steps, and OUT's folder. What it is not: the science; the steps
(petavox.stages.synapses_predict, _objects, _partners); or training (_train). Ids, figures and
partners do not depend on the blocks.

    OUT/synapses.parquet              one row a synapse and partner (petavox.neuron.tables.SYNAPSES)
    OUT/clefts.zarr                   uint64, a voxel's synapse
    OUT/mitochondria.zarr             uint64, a voxel's mitochondrion, if the model has the class
    OUT/predictions/CLASS.zarr        uint8, probability times 255
    OUT/work/                         tables of blocks, from which the same command goes on
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from petavox import provenance, volume
from petavox.blocks import Limits
from petavox.blocks.engines import Engine
from petavox.blocks.ledger import Ledger
from petavox.blocks.resume import resume
from petavox.blocks.runner import check
from petavox.errors import AlreadyExists, BadInput
from petavox.neuron.tables import SYNAPSES
from petavox.stages import tables
from petavox.stages.stage import run_stage
from petavox.stages.synapses_objects import ObjectSettings, make_objects
from petavox.stages.synapses_partners import AssignPartners, AssignSettings, require_fitting
from petavox.stages.synapses_predict import Predict, PredictSettings, image_of
from petavox.synapse.model import SynapseSpec, load_spec
from petavox.synapse.partners import PartnerSettings
from petavox.volume import state

log = logging.getLogger("petavox")

TABLE = "synapses.parquet"
OBJECTS = {"cleft": "clefts.zarr", "mitochondria": "mitochondria.zarr"}
"""Classes whose components become labels, and their volumes."""


class SynapseSettings(PredictSettings):
    """How synapses are found."""

    threshold: float = Field(0.5, gt=0, lt=1)
    """Probability from which a voxel is of a cleft, or of a mitochondrion."""
    min_cleft_nm3: float = Field(100_000.0, ge=0)
    """Smaller clefts are left out."""
    min_score: float = Field(0.0, ge=0, lt=1)
    """Clefts with a lower mean probability are left out."""
    min_mitochondrion_nm3: float = Field(1_000_000.0, ge=0)
    partners: PartnerSettings = PartnerSettings()
    pyramid: bool = True
    """Coarser levels of the labels, for viewers."""


def find_synapses(
    image: str | Path,
    segmentation: str | Path | None,
    out: str | Path,
    *,
    model: str | Path,
    ledger: Ledger,
    settings: SynapseSettings | None = None,
    engine: Engine | None = None,
    limits: Limits | None = None,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Find the synapses of an image, and their partners in a segmentation; returns figures.

    segmentation: None, or with a model that has no sides: clefts alone, pre and post are 0.
    Goes on where an earlier call with the same `out` ended; with another segmentation only the
    partners are found anew. Raises AlreadyExists if `out` is something else's, and BadInput, before
    any work and with `out` as it was, for inputs that do not fit together.
    """
    began = time.monotonic()
    out, settings = Path(out), settings or SynapseSettings()
    spec = load_spec(model)
    _require_room(out, ledger, overwrite)
    if segmentation is not None and "pre" not in spec.classes:
        raise BadInput(
            f"model {model} knows no pre and post sides, so it cannot assign partners: leave the "
            "segmentation out, or use a model with these classes."
        )
    how: dict[str, Any] = {
        "ledger": ledger, "engine": engine, "limits": limits, "overwrite": True, **options,
    }  # fmt: skip
    said: dict[str, Path] = {c: out / "predictions" / f"{c}.zarr" for c in spec.classes}
    asked = PredictSettings(**{k: getattr(settings, k) for k in PredictSettings.model_fields})
    predict = Predict(asked, reads={"image": image, "model": model}, writes=said)
    total, size = predict.grid().total, image_of(image, asked).voxel_size
    if segmentation is not None:
        require_fitting(volume.open(segmentation), total, size)
    task = predict.task()
    if resume(task, ledger).fresh or not ledger.is_complete(task.name):
        check(task, engine, options.get("only"))
    out.mkdir(parents=True, exist_ok=True)
    state.begin(out, stage="synapses")
    _remove_others(out, spec)
    run_stage(predict, **how)
    figures: dict[str, Any] = {}
    keys = {}
    of = ObjectSettings(
        block=settings.block, threshold=settings.threshold, pyramid=settings.pyramid
    )
    least = {"cleft": settings.min_cleft_nm3, "mitochondria": settings.min_mitochondrion_nm3}
    for name, file in OBJECTS.items():
        if name in spec.classes:
            keys[name], figures[file.removesuffix(".zarr")] = make_objects(
                name,
                said[name],
                out / "work" / name,
                out / file,
                of,
                min_voxels=max(1, math.ceil(least[name] / size.volume)),
                min_score=settings.min_score if name == "cleft" else 0.0,
                **how,
            )
    figures |= _assigned(segmentation, said, out, keys["cleft"], settings, how)
    seconds = time.monotonic() - began
    record = provenance.record(
        "synapses",
        settings=settings,
        inputs={"image": str(image), "segmentation": str(segmentation), "model": str(model)},
        counters=figures,
        seconds=seconds,
    )
    state.finish(out, record)
    return figures | {"seconds": round(seconds, 2)}


def _require_room(out: Path, ledger: Ledger, overwrite: bool) -> None:
    inside = {p.name for p in out.iterdir()} if out.is_dir() else {""}
    if not out.exists() or not inside or ledger.parts(Predict.name) is not None:
        return
    said = (state.read(out) if out.is_dir() else None) or {}
    begun = said.get("state") == "writing" and said.get("stage") == "synapses"
    # a run that was stopped before its first block left the mark alone: nothing can be lost
    if (begun and inside == {state.NAME}) or (overwrite and (begun or "predictions" in inside)):
        return
    raise AlreadyExists(
        f"{out} is there already, and not from this run; choose another name"
        + ("." if overwrite else ", or pass --overwrite.")
    )


def _remove_others(out: Path, spec: SynapseSpec) -> None:
    """Remove what an earlier model made of classes that this one does not know."""
    for file in (out / "predictions").glob("*.zarr"):
        if file.stem not in spec.classes:
            shutil.rmtree(file)
    for name, labels in OBJECTS.items():
        if name not in spec.classes:
            for folder in (out / labels, out / "work" / name):
                shutil.rmtree(folder, ignore_errors=True)


def _assigned(
    segmentation: str | Path | None,
    said: dict[str, Path],
    out: Path,
    key: str,
    settings: SynapseSettings,
    how: dict[str, Any],
) -> dict[str, Any]:
    """The table of synapses, written; figures."""
    reads: dict[str, str | Path] = {
        "clefts": out / OBJECTS["cleft"],
        "whole": out / "work" / "cleft" / "whole",
    }
    if segmentation is not None:
        reads |= {"pre": said["pre"], "post": said["post"], "segmentation": segmentation}
    stage = AssignPartners(
        AssignSettings(block=settings.block, partners=settings.partners, key=key),
        reads=reads,
        writes={"rows": out / "work" / "rows"},
    )
    run_stage(stage, **how)
    columns: dict[str, list[np.ndarray]] = {}
    for part in tables.parts(stage.writes["rows"], len(stage.grid())):
        for name, values in part.items():
            columns.setdefault(name, []).append(values)
    rows = {n: np.concatenate(v) for n, v in columns.items()}
    # the weakest of its three parts is a row's score
    sides = [rows["cleft_score"]]
    if segmentation is not None:
        sides += [rows["pre_score"], rows["post_score"]]
    rows["score"] = np.minimum.reduce(sides)
    order = np.lexsort((-rows["post_score"], rows["id"]))
    table = pa.table({n: v[order] for n, v in rows.items()})
    extra = [n for n in table.column_names if n not in SYNAPSES.names]
    table = table.select([*SYNAPSES.names, *extra])
    tables.write_arrow(out / TABLE, table)
    ids = np.unique(rows["id"])
    large = int(how["ledger"].counters(stage.name).get("too_large", 0))
    if large:
        log.warning(
            "%d clefts lie in a box of more than %g nm^3 and got no partners; see "
            "partners.max_box_nm3", large, settings.partners.max_box_nm3,
        )  # fmt: skip
    return {
        "synapses": len(ids),
        "partners": int(np.count_nonzero(rows["post"])),
        "without_pre": len(np.unique(rows["id"][rows["pre"] == 0])),
        "without_post": len(np.unique(rows["id"][rows["post"] == 0])),
        "clefts_too_large": large,
    }


__all__ = ["OBJECTS", "TABLE", "SynapseSettings", "find_synapses"]
