"""Segment: flood one subvolume of an image volume.

What it is: the join of petavox.ffn to volumes, files and a person waiting: inputs checked before
any work, progress, a checkpoint in mid-flood with exact resume, labels with their provenance.
What it is not: the algorithm, or the cutting of a large volume into subvolumes.

While it runs, `OUT.unfinished` holds the request and the checkpoint; `OUT` appears when the labels
are whole.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from petavox.ffn.canvas import Canvas
from petavox.ffn.devices import device_of, fastest_precision, step_seconds
from petavox.ffn.flood import SeedSettings, flood, normalised
from petavox.ffn.growth import FloodSettings
from petavox.ffn.model import load_model
from petavox.ffn.predictor import Predictor
from petavox.provenance import digest, record, write_json
from petavox.settings import BoxSetting, Settings
from petavox.space import Box
from petavox.stages.flood_inputs import (
    INPUTS,
    box_of,
    contents,
    earlier_objects,
    points_inside,
    require_room_for_ids,
)
from petavox.stages.flood_watch import Timed, Watcher
from petavox.stages.restrictions import restrictions
from petavox.stages.room import require_apart, require_room
from petavox.stages.stamps import sources
from petavox.stages.unfinished import load_state, workplace
from petavox.volume import Kind, Volume, state
from petavox.volume import open as open_volume
from petavox.volume.opening import create, finish

log = logging.getLogger("petavox")

CODE = tuple(
    f"petavox.ffn.{m}"
    for m in (
        "canvas",
        "checkpoint",
        "flip",
        "flood",
        "int8",
        "moves",
        "network",
        "predictor",
        "restrict",
        "seeds",
    )
)
"""What decides the objects: a flood goes on only with the code that it was begun with."""


class SegmentSettings(Settings):
    """A request to flood one subvolume."""

    box: BoxSetting | None = None
    """The subvolume, voxels; None: all of the image."""
    flood: FloodSettings = Field(default_factory=FloodSettings)
    seeds: SeedSettings = Field(default_factory=SeedSettings)
    device: str = "auto"
    precision: Literal["auto", "f32", "bf16", "int8"] = "auto"
    """auto: bf16 where a short measurement finds it faster here. int8: processors only, never
    chosen by itself."""
    mask: str | None = None
    """Volume, nonzero where no field of view may be centred."""
    seed_mask: str | None = None
    """Volume, nonzero where no object may start."""
    shift: tuple[str, str] | None = None
    """Two volumes: in-plane displacement along y and along x, in voxels."""
    shift_threshold: float = Field(default=4.0, gt=0)
    points: str | None = None
    """For the seed policy points: origins.json of an earlier run, or a CSV of z,y,x voxels."""
    earlier: str | None = None
    """Labels of an earlier pass over the same box: obstacles whose ids are kept. They may have
    coarser voxels, by whole factors (coarse-to-fine)."""
    checkpoint_every: float = Field(default=60.0, ge=0)
    """Seconds between checkpoints in mid-flood."""


def segment(
    image: str | Path,
    out: str | Path,
    model: str | Path,
    settings: SegmentSettings | None = None,
    *,
    voxel_size: tuple[float, float, float] | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Flood one subvolume of the image at `image` into the labels volume `out`.

    Goes on from `OUT.unfinished` if that holds the same request on the same voxels. Returns the
    figures of the run. Raises BadInput before any work if something cannot be used.
    """
    settings, out = settings or SegmentSettings(), Path(out)
    work = out.with_name(out.name + ".unfinished")
    half = _left_half_written(out, work)
    require_room(out, overwrite=overwrite, going_on=half)
    shift = settings.shift or ()
    read = (image, model, settings.mask, settings.seed_mask, settings.points, settings.earlier)
    require_apart(out, (*read, *shift))
    loaded = load_model(model)
    loaded.spec.stepping(settings.flood.deltas)
    device = device_of(settings.device)
    volume = open_volume(image, voxel_size=voxel_size)
    box = box_of(volume, settings.box, loaded)
    raw = volume.read(box)
    points = None if settings.points is None else points_inside(settings.points, box)
    restrictor = restrictions(
        box,
        volume,
        mask=settings.mask,
        seed_mask=settings.seed_mask,
        shift=settings.shift,
        shift_threshold=settings.shift_threshold,
    )
    ids, earlier = earlier_objects(settings.earlier, box, volume)
    require_room_for_ids(ids, box)
    request = {
        "settings": settings.model_dump(mode="json", exclude={"checkpoint_every", "device"}),
        "box": str(box),
        "model": loaded.digest,
        "image": digest(raw.tobytes()),
        "voxel_size": list(volume.voxel_size),
        "code": sources(*CODE),
        **contents(ids, earlier, points, restrictor),
    }
    with workplace(work, request, half_written=half, overwrite=overwrite) as kept:
        if half:
            shutil.rmtree(out)
        precision = kept.get("precision") or (
            fastest_precision(loaded, device)
            if settings.precision == "auto"
            else settings.precision
        )
        write_json(work / "request.json", request | {"precision": precision})
        sample = normalised(raw, loaded.spec) if precision == "int8" else None
        predict = Timed(Predictor(loaded, device=device, precision=precision, sample=sample))
        bare = step_seconds(predict.predictor)
        started = time.perf_counter()
        watcher = Watcher(work / "checkpoint.npz", settings.checkpoint_every, raw.size, quiet)
        with watcher.progress:
            canvas = flood(
                raw,
                predict,
                loaded.spec,
                voxel_size=tuple(volume.voxel_size),
                settings=settings.flood,
                seeds=settings.seeds,
                points=points,
                restrictor=restrictor,
                earlier=earlier,
                state=load_state(work / "checkpoint.npz"),
                watcher=watcher,
            )
            watcher.show(canvas)
        seconds = time.perf_counter() - started
        if canvas.counters["leaks"]:
            log.warning(
                "%d objects grew over the leak guard's share of the subvolume and were left out; "
                "see flood.max_object_share",
                canvas.counters["leaks"],
            )
        figures = _figures(canvas, seconds, predict, bare, precision, str(device))
        _write(out, canvas, ids, box, volume, request, figures, seconds, overwrite=overwrite)
        (work / "checkpoint.npz").unlink(missing_ok=True)
    return figures


def _left_half_written(out: Path, work: Path) -> bool:
    """True if a run of this very command was stopped while it wrote the labels.

    `work` is then still there, and tells below whether the request is the same.
    """
    said = state.read(out) or {}
    return said.get("state") == "writing" and (work / "request.json").exists()


def _figures(
    canvas: Canvas, seconds: float, predict: Timed, bare: float, precision: str, device: str
) -> dict[str, Any]:
    fovs = predict.calls
    return {
        "objects": canvas.counters["objects"],
        "fovs": canvas.counters["fovs"],
        "filled": float((canvas.segmentation > 0).mean()),
        "seconds": round(seconds, 2),
        "fov_per_s": fovs / seconds if seconds else 0.0,
        "mvoxel_per_s": canvas.image.size / seconds / 1e6 if seconds else 0.0,
        "network_share": predict.seconds / seconds if seconds else 0.0,
        "bare_network_fov_per_s": 1 / bare,
        "precision": precision,
        "device": device,
        "counters": dict(canvas.counters),
    }


def _write(
    out: Path,
    canvas: Canvas,
    ids: np.ndarray,
    box: Box,
    image: Volume,
    request: dict[str, Any],
    figures: dict[str, Any],
    seconds: float,
    *,
    overwrite: bool,
) -> None:
    table = np.arange(canvas.next_id, dtype=np.uint64)
    table[1 : 1 + len(ids)] = ids
    fresh = np.arange(1 + len(ids), canvas.next_id)
    table[fresh] = ids.max(initial=0) + np.arange(1, 1 + len(fresh), dtype=np.uint64)
    labels = table[np.maximum(canvas.segmentation, 0)]
    volume = create(
        out,
        box=box,
        voxel_size=image.voxel_size,
        dtype=np.uint64,
        kind=Kind.LABELS,
        overwrite=overwrite or out.exists(),
    )
    volume.write(box, labels)
    if canvas.probability is not None:
        beside = create(
            out / "probability",
            box=box,
            voxel_size=image.voxel_size,
            dtype=np.uint8,
            kind=Kind.IMAGE,
        )
        beside.write(box, canvas.probability)
        finish(beside, {"of": str(out)})
    origins = {
        str(int(table[i])): dataclasses.asdict(o)
        | {
            "seed": [a + b for a, b in zip(o.seed, box.start, strict=True)],
            "overlaps": {str(int(table[k])): n for k, n in o.overlaps.items()},
        }
        for i, o in canvas.origins.items()
    }
    write_json(out / "origins.json", {"order": "zyx voxels", "origins": origins})
    finish(
        volume,
        record(
            "segment",
            settings=request["settings"],
            inputs={"image": image.path, "voxels": request["image"]}
            | {k: request[k] for k in ("model", *INPUTS) if request[k] is not None},
            counters=figures,
            seconds=seconds,
        ),
    )
