"""A petavox.yaml for people: what is said, with a line on each thing that could be.

What it is: text from values, and the values that fit given data. What it is not: the form of the
file; that is petavox.project.settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from petavox import provenance
from petavox.errors import AlreadyExists, BadInput
from petavox.project import checks
from petavox.project.project import Project
from petavox.project.settings import FILE, VERSION, ProjectSettings
from petavox.project.steps import STEPS
from petavox.settings import parse
from petavox.volume import open as open_volume
from petavox.volume import places

_NOTES = {
    "name": "",
    "voxel_size": "nm, z y x: thickness of a section, edge of a pixel",
    "input": "where the run begins: one of tiles (a table), sections, image; also mask, synapses",
    "models": "a .safetensors file each, or `shipped` (for a first look, not for science)",
    "truth": "what is known: it is scored",
    "workers": "processes on this machine; or `site: slurm` and the like",
    "go_on_with_losses": "go on when tiles or sections had to be left out",
}


def text(values: Mapping[str, Any]) -> str:
    """petavox.yaml with comments; `values` as in ProjectSettings."""
    lines = [
        "# A petavox project: `petavox run` does what is not done yet, `petavox run --dry-run`",
        "# says what that is, `petavox status` how far it is. Paths count from this file. What can",
        "# be said here is described in docs/project.md.",
        "",
        f"version: {VERSION}",
    ]
    for key, note in _NOTES.items():
        if key not in values:
            continue
        lines += [""] * bool(note) + [f"# {note}"] * bool(note)
        lines.append(_dumped({key: values[key]}))
    stages = dict(values.get("stages") or {})
    lines += [
        "",
        "# In the order of work: `on`, `off`, or the stage's settings. Lines that begin with #",
        "# show what holds without them; a stage without its data or model is left out.",
        "stages:",
    ]
    for step in STEPS.values():
        given = stages.get(step.name)
        if isinstance(given, Mapping):
            lines.append(f"  # {step.line}")
            lines += ["  " + line for line in _dumped({step.name: dict(given)}).splitlines()]
        elif given is None:
            lines.append(f"  # {step.name}: {'on' if step.on else 'off'}  # {step.line}")
        else:
            lines.append(f"  {step.name}: {'on' if given else 'off'}  # {step.line}")
    if not stages:
        lines[-len(STEPS) - 1] = "stages: {}"
    return "\n".join(lines) + "\n"


def _dumped(values: Mapping[str, Any]) -> str:
    nested = any(isinstance(v, Mapping | list | tuple) for v in values.values())
    flow = None if nested else False
    text = yaml.safe_dump(_plain(values), sort_keys=False, default_flow_style=flow, width=88)
    return str(text).strip()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def make(folder: str | Path, values: Mapping[str, Any], *, overwrite: bool = False) -> Project:
    """Check a project and write its petavox.yaml; paths in `values` count from the folder.

    Raises AlreadyExists if there is one, BadInput if the data cannot be used; then nothing is
    written.
    """
    place = Path(folder)
    file = place / FILE
    if file.exists() and not overwrite:
        raise AlreadyExists(f"{file} is there already: edit it, or pass --overwrite.")
    if place.exists() and not place.is_dir():
        raise BadInput(f"{place} is a file; a project is a folder.")
    made = not place.exists()
    written = text(values)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise BadInput(f"the folder {place} cannot be made: {e.strerror}.") from None
    try:
        settings = parse(ProjectSettings, yaml.safe_load(written), f"the project in {place}")
        project = Project(file, settings)
        checks.check(project)
    except BaseException:
        if made:
            place.rmdir()
        raise
    provenance.write_atomically(file, written)
    return project


def from_here(folder: Path, given: str) -> str:
    """A path that was given here, as it is written in the folder's petavox.yaml."""
    place = places.named(given)
    if places.is_url(place):
        return str(place)
    path, base = Path(place).expanduser().absolute(), folder.absolute()
    # relative where the data lie in the project or beside it, so that both can be moved
    for up, parent in enumerate([base, base.parent]):
        if path.is_relative_to(parent):
            return str(Path(*[".."] * up) / path.relative_to(parent))
    return str(path)


def blocks_for(image: str | None, voxel_size: Any) -> dict[str, Any]:
    """Settings of `segment` that fit an image: blocks of about 256, not thinner than 64 at the end.

    image: None while it is not known; then blocks of 256.
    """
    if image is None:
        return {"block": [256, 256, 256], "context": [32, 32, 32]}
    source = open_volume(image, voxel_size=voxel_size)
    return {"block": [_side(n) for n in source.box.shape], "context": [32, 32, 32]}


def _side(length: int) -> int:
    """The side of blocks that cut a length evenly, in chunks of 16; at most 256."""
    blocks = -(-length // 256)
    return max(16, -(-length // (16 * blocks)) * 16)
