"""The demonstration: a list of steps from nothing to a scored segmentation and a picture.

What it is: the pipeline in small, on synthetic tissue with exact truth, with the model that is
shipped. What it is not: a benchmark; docs/ffn.md has the figures on real tissue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import petavox as pv
from petavox.errors import BadInput
from petavox.ffn.shipped import MODEL
from petavox.provenance import record, write_atomically
from petavox.settings import Settings, ZyxSetting
from petavox.stages import phantom, score
from petavox.stages.segment import SegmentSettings, segment
from petavox.view import picture
from petavox.volume import state
from petavox.volume.opening import make_room

log = logging.getLogger("petavox")


class DemoSettings(Settings):
    """What the demonstration shows."""

    shape: ZyxSetting = (64, 128, 128)
    """Voxels of the phantom, zyx."""
    seed: int = 99
    """Of the phantom; the shipped model was trained on other seeds."""
    device: str = "cpu"


@dataclass
class Demo:
    """One run: its folder, and what its steps have found."""

    folder: Path
    settings: DemoSettings
    figures: dict[str, Any] = field(default_factory=dict)


def shipped_model() -> Path:
    """The model that comes with petavox."""
    if not MODEL.is_file():
        raise BadInput(f"the shipped model {MODEL} is missing; install petavox again.")
    return MODEL


def make_tissue(demo: Demo) -> dict[str, Any]:
    """Synthetic neuropil with exact truth."""
    wanted = phantom.PhantomSettings(
        shape=demo.settings.shape, voxel_size=(10, 10, 10), seed=demo.settings.seed
    )
    return phantom.write(demo.folder / "phantom", wanted, workers=2)


def flood(demo: Demo) -> dict[str, Any]:
    """Flood it with the shipped model."""
    return segment(
        demo.folder / "phantom" / phantom.NAMES["image"],
        demo.folder / "objects.zarr",
        shipped_model(),
        SegmentSettings(device=demo.settings.device),
    )


def judge(demo: Demo) -> dict[str, Any]:
    """Score the objects against the truth."""
    result = pv.open(demo.folder / "objects.zarr")
    truth = pv.open(demo.folder / "phantom" / phantom.NAMES["labels"])
    return dict(score.tables(result, truth).report())


def draw(demo: Demo) -> dict[str, Any]:
    """Image, truth and result side by side."""
    image = pv.open(demo.folder / "phantom" / phantom.NAMES["image"]).read()
    truth = pv.open(demo.folder / "phantom" / phantom.NAMES["labels"]).read()
    result = pv.open(demo.folder / "objects.zarr").read()
    drawn = picture.figure(image, truth, result, image.shape[0] // 2, enlarge=3)
    file = demo.folder / "demo.png"
    write_atomically(file, picture.png(drawn))
    return {"picture": str(file)}


STEPS: dict[str, Callable[[Demo], dict[str, Any]]] = {
    "phantom": make_tissue,
    "segment": flood,
    "score": judge,
    "picture": draw,
}
"""The steps, in order; each reads only what earlier ones wrote."""


def run(
    folder: str | Path, settings: DemoSettings | None = None, *, overwrite: bool = False
) -> dict[str, Any]:
    """Run all steps in a new folder; returns the figures of each, with its seconds.

    Raises AlreadyExists if the folder is there and `overwrite` is not set.
    """
    demo = Demo(Path(folder), settings or DemoSettings())
    shipped_model()
    make_room(demo.folder, overwrite=overwrite)
    demo.folder.mkdir(parents=True)
    state.begin(str(demo.folder))
    begun = time.monotonic()
    for name, step in STEPS.items():
        started = time.monotonic()
        log.info("demo: %s. %s", name, step.__doc__)
        found = step(demo)
        demo.figures[name] = found | {"step_seconds": round(time.monotonic() - started, 1)}
    state.finish(
        str(demo.folder),
        record(
            "demo",
            settings=demo.settings,
            inputs={},
            counters=demo.figures,
            seconds=time.monotonic() - begun,
        ),
    )
    return demo.figures
