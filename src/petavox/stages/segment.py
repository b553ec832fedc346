"""Segment: flood one subvolume of an image volume.

What it is: the join of petavox.ffn to volumes, files and a person waiting: inputs checked before
any work, progress, a checkpoint in mid-flood with exact resume, labels with their provenance.
What it is not: the algorithm, or the cutting of a large volume into subvolumes.

While it runs, `OUT.unfinished` holds the request and the checkpoint; `OUT` appears when the labels
are whole.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from petavox.blocks.plan import memory_available
from petavox.errors import AlreadyExists, BadInput
from petavox.ffn.canvas import Canvas
from petavox.ffn.devices import device_of, fastest_precision, step_seconds
from petavox.ffn.flood import BYTES_PER_VOXEL, SeedSettings, flood, normalised
from petavox.ffn.growth import FloodSettings, Growth
from petavox.ffn.model import Model, load_model
from petavox.ffn.predictor import Predictor
from petavox.ffn.restrict import Restrictor
from petavox.progress import Progress
from petavox.provenance import digest, record, write_json
from petavox.settings import BoxSetting, Settings
from petavox.space import Box, zyx
from petavox.stages.restrictions import restrictions
from petavox.stages.unfinished import load_state, save_state, workplace
from petavox.volume import Kind, Volume, state
from petavox.volume import open as open_volume
from petavox.volume.opening import create, finish

log = logging.getLogger("petavox")

_SHOW_EVERY = 0.5
"""Seconds: counting the settled seeds costs more than a step of a fast device."""
_INPUTS = ("earlier", "points", "mask", "seed_mask", "shift")
"""What a flood may read besides image and model."""


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
    if out.exists() and not overwrite and not half:
        raise AlreadyExists(f"{out} is there already; choose another name, or pass --overwrite.")
    loaded = load_model(model)
    loaded.spec.stepping(settings.flood.deltas)
    device = device_of(settings.device)
    volume = open_volume(image, voxel_size=voxel_size)
    box = _box(volume, settings.box, loaded)
    raw = volume.read(box)
    points = None if settings.points is None else _points(settings.points, box)
    restrictor = restrictions(
        box,
        volume,
        mask=settings.mask,
        seed_mask=settings.seed_mask,
        shift=settings.shift,
        shift_threshold=settings.shift_threshold,
    )
    ids, earlier = _earlier(settings.earlier, box, volume)
    _require_room_for_ids(ids, box)
    request = {
        "settings": settings.model_dump(mode="json", exclude={"checkpoint_every", "device"}),
        "box": str(box),
        "model": loaded.digest,
        "image": digest(raw.tobytes()),
        "voxel_size": list(volume.voxel_size),
        **_contents(ids, earlier, points, restrictor),
    }
    with workplace(work, request, overwrite=overwrite) as kept:
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
        watcher = _Watcher(work / "checkpoint.npz", settings.checkpoint_every, raw.size, quiet)
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


class Timed:
    """A predictor that adds up the seconds and calls spent inside it."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor, self.seconds, self.calls = predictor, 0.0, 0

    def __call__(self, image: np.ndarray, seed: np.ndarray) -> np.ndarray:
        """One field of view; see Predictor."""
        started = time.perf_counter()
        out = self.predictor(image, seed)
        self.seconds += time.perf_counter() - started
        self.calls += 1
        return out


class _Watcher:
    """Shows a flood's progress, and saves its state now and then."""

    def __init__(self, file: Path, every: float, voxels: int, quiet: bool) -> None:
        self.file, self.every, self.voxels = file, every, voxels
        self.progress = Progress("flood", total=None, unit="seed", quiet=quiet)
        self._saved = self._started = time.monotonic()
        self._fovs, self._shown = 0, 0.0

    def stepped(self, canvas: Canvas, growth: Growth) -> None:
        """A field of view was predicted."""
        now = time.monotonic()
        self._fovs += 1
        if self._fovs == 1:
            self.progress.total = len(canvas.seeds)
            self.progress.resume_at(settled(canvas))
        if now - self._shown >= _SHOW_EVERY:
            self._shown = now
            self.show(canvas)
        if now - self._saved >= self.every:
            save_state(self.file, canvas)
            self._saved = time.monotonic()

    def show(self, canvas: Canvas) -> None:
        """How far it is."""
        self.progress.to(
            settled(canvas),
            objects=str(len(canvas.origins)),
            filled=f"{100 * canvas.counters['voxels'] / self.voxels:.1f} %",
            FOV_per_s=self._fovs / max(time.monotonic() - self._started, 1e-9),
        )


def settled(canvas: Canvas) -> int:
    """Seeds that will start nothing any more: tried, or inside an object.

    Few seeds are tried while the large objects grow, and most never are, so that their count
    alone would promise days; these go up with the filled volume.
    """
    z, y, x = canvas.seeds.T
    inside = canvas.segmentation[z, y, x] != 0
    inside[: canvas.next_seed] = True
    return int(np.count_nonzero(inside))


def _box(volume: Volume, wanted: Box | None, model: Model) -> Box:
    box = wanted or volume.box
    if volume.kind is not Kind.IMAGE or volume.dtype.name not in ("uint8", "uint16", "float32"):
        raise BadInput(
            f"{volume.path} holds {volume.kind} of type {volume.dtype}; an image of uint8, uint16 "
            "or float32 is needed."
        )
    if box.is_empty or not volume.box.contains(box):
        raise BadInput(f"box {box} is not inside {volume.path}, whose box is {volume.box}.")
    if any(n < f for n, f in zip(box.shape, model.spec.fov, strict=True)):
        raise BadInput(
            f"box {box} is {box.shape} voxels, smaller than the network's field of view "
            f"{model.spec.fov} (z y x); choose a larger box."
        )
    needed, free = BYTES_PER_VOXEL * box.size, memory_available()
    if free is not None and needed > free:
        raise BadInput(
            f"box {box} needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are "
            "free here; flood a smaller --box, or many subvolumes with --blocks."
        )
    trained = model.spec.voxel_size
    if trained is not None and any(
        not 0.5 <= a / b <= 2 for a, b in zip(trained, volume.voxel_size, strict=True)
    ):
        raise BadInput(
            f"{volume.path} has voxels of {volume.voxel_size}, the model was trained on {trained} "
            "nm (z y x), more than a factor of two apart; use another level of the pyramid."
        )
    return box


def _earlier(path: str | None, box: Box, image: Volume) -> tuple[np.ndarray, np.ndarray | None]:
    """Ids of earlier objects in order, and the same objects as int32 1..n."""
    if path is None:
        return np.zeros(0, np.uint64), None
    ids, places = np.unique(_refined(open_volume(path), box, image), return_inverse=True)
    numbers = np.arange(len(ids), dtype=np.int32)
    if len(ids) and ids[0] != 0:
        numbers += 1
    else:
        ids = ids[1:]
    return ids.astype(np.uint64), numbers[places].reshape(box.shape)


def _require_room_for_ids(ids: np.ndarray, box: Box) -> None:
    """New ids count on from the largest earlier one, at most one for each voxel."""
    largest = int(ids.max(initial=0))
    if largest + box.size >= 1 << 64:
        raise BadInput(
            f"the largest id of the earlier objects is {largest}: there is no room above it for "
            "the ids of new ones; renumber the earlier labels."
        )


def _refined(labels: Volume, box: Box, image: Volume) -> np.ndarray:
    """Labels on the image's voxels; coarser ones are repeated: first the large, at low resolution.

    A voxel of the image belongs to the coarse voxel that holds it.
    """
    steps = [a / b for a, b in zip(labels.voxel_size, image.voxel_size, strict=True)]
    times = [round(s) for s in steps]
    if any(abs(s - t) > 1e-3 or t < 1 for s, t in zip(steps, times, strict=True)):
        raise BadInput(
            f"{labels.path} has voxels of {labels.voxel_size}, the image of {image.voxel_size}: "
            "earlier labels need the same voxels, or coarser ones by whole factors."
        )
    inside = Box(
        zyx([a // t for a, t in zip(box.start, times, strict=True)]),
        zyx([-(-b // t) for b, t in zip(box.stop, times, strict=True)]),
    )
    if not labels.box.contains(inside):
        raise BadInput(f"{labels.path} covers {labels.box} of its voxels, {inside} are needed.")
    found = labels.read(inside)
    for axis, t in enumerate(times):
        found = np.repeat(found, t, axis)
    start = [a - s * t for a, s, t in zip(box.start, inside.start, times, strict=True)]
    return found[Box.of_shape(box.shape, start).slices()]


def _contents(
    ids: np.ndarray, earlier: np.ndarray | None, points: np.ndarray | None, restrictor: Restrictor
) -> dict[str, str | None]:
    """Digests of what besides the image and the model decides the flood; None for what is absent.

    The settings name the paths only, and other voxels may lie there when a run is taken up.
    """
    limits = (restrictor.mask, restrictor.seed_mask, restrictor.shift)
    arrays = ((ids, earlier), (points,), *((a,) for a in limits))
    return {
        name: None if of[-1] is None else digest(*(a.tobytes() for a in of if a is not None))
        for name, of in zip(_INPUTS, arrays, strict=True)
    }


def _points(path: str, box: Box) -> np.ndarray:
    """Points inside the box, relative to it, in the order of the file."""
    file = Path(path)
    try:
        if file.suffix == ".json":
            origins = json.loads(file.read_text())["origins"]
            rows = [origins[k]["seed"] for k in sorted(origins, key=int)]
        else:
            rows = np.loadtxt(file, delimiter=",", ndmin=2).tolist()
        points = np.array(rows, np.float64).reshape(-1, 3)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise BadInput(
            f"{path} holds no seed points ({e}): give origins.json of an earlier run, or a CSV "
            "with one z,y,x in voxels per line and no heading."
        ) from None
    voxels = np.round(points).astype(np.int64)
    inside = ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
    return voxels[inside] - np.array(box.start)


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
            | {k: request[k] for k in ("model", *_INPUTS) if request[k] is not None},
            counters=figures,
            seconds=seconds,
        ),
    )
