"""The demonstration: a project of phantom tiles, with damage, from tiles to a connectome.

    run("demo")        # petavox demo: tiles, petavox.yaml, petavox run

What it is: the tiles and the settings; the work is that of any project (petavox.project). What it
is not: a benchmark, or good settings for real tissue: it is small so that it ends within minutes.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from pydantic import Field

from petavox.errors import AlreadyExists, BadInput
from petavox.phantom.tile_settings import TileSettings
from petavox.project import FILE, Project, driver, load, template
from petavox.settings import Settings
from petavox.stages.phantom_tiles import write_tiles
from petavox.volume.opening import make_room

log = logging.getLogger("petavox")
TILES = "tiles"


class DemoSettings(Settings):
    """What the demonstration shows. Voxels are of 10 x 10 x 10 nm, as the shipped models know."""

    sections: int = Field(32, ge=24)
    tile: int = Field(150, ge=120)
    """Side of a tile, px; there are 2 x 2 of them in a section."""
    seed: int = 7
    """Of the tissue; the shipped models were trained on other seeds."""
    workers: int = Field(2, ge=0)

    @property
    def tiles(self) -> TileSettings:
        """The tiles: bent and turned, some folded, cracked, dusty or missing."""
        return TileSettings(
            sections=self.sections, grid=(2, 2), tile=(self.tile, self.tile), overlap=40,
            pixel_nm=10.0, thickness_nm=10.0, seed=self.seed, look="fib-sem", jitter=3.0, lens=0.5,
            shift=8.0, rotation=2.0, elastic=3.0, elastic_sigma=120.0, noise=4.0, shading=0.03,
            fold_width=5.0, crack_width=4.0, folds=1, cracks=1, dust=3, missing_tiles=1,
            missing_sections=1,
        )  # fmt: skip

    def project(self) -> dict[str, Any]:
        """petavox.yaml, as values."""
        rim, size = 20, self.tiles.size
        box = f"0:{self.sections},{rim}:{size[0] - rim},{rim}:{size[1] - rim}"
        side = -(-(size[0] - 2 * rim) // 2)
        return {
            "name": "demo",
            "voxel_size": [10, 10, 10],
            "input": {"tiles": f"{TILES}/tiles.csv"},
            "models": {"segmentation": "shipped", "synapses": "shipped"},
            "truth": {"tiles": TILES},
            "workers": self.workers,
            # the sections with a missing tile or a fold are kept, with what is left of them
            "go_on_with_losses": True,
            "stages": {
                "render": {"fill_missing": True, "fill_gaps": 2, "box": box},
                "qc": True,
                # as in the tissue that the shipped models were trained on
                "contrast": {"low": 0.27, "high": 0.75},
                "segment": {
                    "block": [self.sections, side, side],
                    "context": [10, 16, 16],
                    "flood": {"min_segment_size": 300},
                },
                "agglomerate": {
                    "candidates": {
                        "max_distance": 30.0, "min_faces": 150, "min_size": 2000, "most_asked": 30,
                        "block": [self.sections, side, side],
                    },
                    "resegment": {
                        "tries": 1, "box_radius": [200, 200, 200],
                        "analysis_radius": [150, 150, 150],
                    },
                },
                "mesh": {"block": [128, 128, 128]},
            },
        }  # fmt: skip


def prepare(folder: str | Path, settings: DemoSettings, *, overwrite: bool = False) -> Project:
    """Make the tiles and petavox.yaml, or take those that are there of the same settings.

    Raises AlreadyExists if the folder holds something else and `overwrite` is not set.
    """
    place = Path(folder)
    if place.exists() and not _ours(place):
        if not overwrite:
            raise AlreadyExists(
                f"{place} is there already and no demonstration; choose another name, or pass "
                "--overwrite."
            )
        make_room(place, overwrite=True)
    said = place / TILES / "phantom.json"
    if _settings_of(said) != settings.tiles.model_dump(mode="json"):
        log.info("demo: synthetic tissue, cut into tiles, with damage")
        write_tiles(place / TILES, settings.tiles, overwrite=True)
    wanted = template.text(settings.project())
    file = place / FILE
    if not file.is_file() or file.read_text() != wanted:
        return template.make(place, settings.project(), overwrite=True)
    return load(place)


def _ours(place: Path) -> bool:
    """An empty folder, or one of an earlier demonstration."""
    return place.is_dir() and (not any(place.iterdir()) or (place / TILES).is_dir())


def _settings_of(file: Path) -> Any:
    try:
        return json.loads(file.read_text())["settings"]
    except (OSError, ValueError, KeyError):
        return None


def run(
    folder: str | Path, settings: DemoSettings | None = None, *, overwrite: bool = False
) -> dict[str, Any]:
    """Make the project and run all of it; gives what each step did, and the scores.

    Run again, it goes on where it was, or finds all done.
    """
    settings = settings or DemoSettings()
    project = prepare(folder, settings, overwrite=overwrite)
    done = driver.run(project)
    scores = project.find("scores")
    if scores is None:
        raise BadInput(f"{project.folder} has no scores: the step `score` is off.")
    return {
        "stages": done,
        "scores": json.loads((Path(scores) / "scores.json").read_text()),
        "report": project.find("report"),
    }
