"""What the report reads of a project; every value comes with the file and key it stands under.

What it is: records, JSON files, tables and volumes of a project, read once, and facts made of them.
What is missing or damaged is None, and remembered. What it is not: HTML, or a judgement.
"""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import petavox as pv
from petavox.errors import PetavoxError
from petavox.project import STEPS, Project, StepState
from petavox.view.project import given_size
from petavox.view.report.parts import Fact, Source
from petavox.volume import Volume, state

HIDDEN = ("out", "seconds", "notes", "suspected_order")
"""Figures of a step that a table of facts leaves out: paths, and what is shown elsewhere."""


UNITS = {"px": "px", "nm": "nm", "mm": "mm", "um2": "µm²", "um3": "µm³", "seconds": "s"}
"""Ends of a figure's name that are its unit."""


@dataclass(frozen=True)
class Record:
    """Values read from one file.  prefix: key under which they stand."""

    source: Source
    values: Mapping[str, Any]

    def get(self, key: str) -> Any:
        """A value by its dotted key; None if it is not there."""
        here: Any = self.values
        for part in key.split("."):
            if not isinstance(here, Mapping) or part not in here:
                return None
            here = here[part]
        return here

    def at(self, key: str) -> Source:
        """The source of a key."""
        prefix = f"{self.source.what}." if self.source.what else ""
        return Source(self.source.file, prefix + key, self.source.linked)

    def fact(self, name: str, key: str, unit: str = "", meaning: str = "") -> Fact | None:
        """A value as a fact; None if it is not there."""
        value = self.get(key)
        return None if value is None else Fact(name, value, self.at(key), unit, meaning)

    def facts(self, *, leave: tuple[str, ...] = HIDDEN) -> list[Fact]:
        """All plain values as facts, nested ones by their dotted key."""
        out: list[Fact] = []

        def walk(values: Mapping[str, Any], prefix: str) -> None:
            for key, value in values.items():
                if key in leave or value is None:
                    continue
                if isinstance(value, Mapping):
                    walk(value, f"{prefix}{key}.")
                elif not (isinstance(value, (list, str)) and (not value or len(str(value)) > 160)):
                    dotted = f"{prefix}{key}"
                    name, _, unit = dotted.rpartition("_")
                    if unit not in UNITS:
                        name, unit = dotted, ""
                    words = name.replace("_", " ").replace(".", ": ")
                    out.append(Fact(words, value, self.at(dotted), UNITS.get(unit, "")))

        walk(self.values, "")
        return out


class Results:
    """All that a report reads of a project.

    trouble: sentences on what is there and cannot be read.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.trouble: list[str] = []

    def rel(self, path: str | Path) -> str:
        """A path as it is shown: from the project's folder, if it lies in it."""
        try:
            return Path(path).absolute().relative_to(self.project.folder).as_posix()
        except ValueError:
            import os

            near = os.path.relpath(Path(path).absolute(), self.project.folder)
            # a neighbour by its way there; anything farther by its name
            return near if near.count("..") <= 2 and "://" not in str(path) else str(path)

    def state(self, step: str) -> StepState:
        """What is recorded of a step."""
        return self.project.state(step)

    def record(self, step: str) -> Record:
        """The record of a step: state, seconds, figures, settings."""
        file = self.project.record_file(STEPS[step])
        return Record(Source(self.rel(file)), asdict(self.state(step)))

    def figures(self, step: str) -> Record:
        """The figures of a step."""
        record = self.record(step)
        return Record(Source(record.source.file, "figures"), record.values["figures"])

    def json(self, path: str | Path) -> Record | None:
        """A JSON file of the project."""
        path = Path(path)
        if not path.is_file():
            return None
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError) as e:
            self.trouble.append(f"{self.rel(path)} cannot be read: {e}.")
            return None
        return Record(Source(self.rel(path)), values if isinstance(values, dict) else {})

    def columns(self, path: str | Path) -> dict[str, np.ndarray]:
        """The columns of a CSV or Parquet table; empty where there is none. Empty cells are NaN."""
        path = Path(path)
        if not path.is_file():
            return {}
        try:
            if path.suffix == ".csv":
                with open(path, newline="") as f:
                    rows = list(csv.DictReader(f))
                return {k: _column([r[k] for r in rows]) for k in (rows[0] if rows else {})}
            import pyarrow.parquet as pq

            table = pq.read_table(path)
            return {n: table[n].to_numpy(zero_copy_only=False) for n in table.column_names}
        except Exception as e:  # a damaged table must not cost the rest of the report
            self.trouble.append(f"{self.rel(path)} cannot be read: {e}.")
            return {}

    @functools.cached_property
    def _volumes(self) -> dict[str, Volume | None]:
        return {}

    def path(self, things: str) -> str | None:
        """Path of the first of these things that is finished or given."""
        return self.project.find(things)

    def volume(self, path: str | Path | None) -> Volume | None:
        """A volume, if it is there, finished and readable."""
        if path is None:
            return None
        key = str(path)
        if key not in self._volumes:
            try:
                state.require_complete(key)
                self._volumes[key] = pv.open(key, voxel_size=given_size(self.project, key))
            except PetavoxError as e:
                self.trouble.append(str(e))
                self._volumes[key] = None
        return self._volumes[key]

    def thing(self, things: str) -> Volume | None:
        """The volume of a thing, such as "neurons|objects"."""
        path = self.path(things)
        if path is not None and (Path(path) / "sections").is_dir():
            path = str(Path(path) / "sections")
        return self.volume(path)

    def true_labels(self) -> Volume | None:
        """The true objects over the image, given or made."""
        given = self.project.settings.truth.labels
        made = self.path("truth") if "truth" in STEPS else None
        path = self.project.path(given) if given else made and str(Path(made) / "labels.zarr")
        return self.volume(path) if path else None

    def source(self, volume: Volume, what: str = "") -> Source:
        """A volume as a source."""
        return Source(self.rel(volume.path), what)


def _column(values: list[str]) -> np.ndarray:
    try:
        return np.array([float(v) if v != "" else np.nan for v in values])
    except (TypeError, ValueError):
        return np.array(values, object)
