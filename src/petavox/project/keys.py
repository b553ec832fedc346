"""The key of a step: what decides its result, part by part, so that a run can say what changed.

    code MODULE         the source of a stage's module, and of the science that it imports
    settings NAME       but those that only say how the work is done (threads, memory)
    model               the bytes of the network's file
    input THING         the key of the step that made it; of data that is given, its content

What it is: parts, and digests of given data that are remembered by size and time of change. What
it is not: the choice of what to do (petavox.project.plan).
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from petavox.blocks.content import SMALL, content_digest
from petavox.blocks.task import source_digest
from petavox.errors import BadInput
from petavox.project.project import Project
from petavox.project.steps import Step
from petavox.provenance import digest, file_digest, write_json
from petavox.volume import places
from petavox.volume.formats import hdf5

MACHINERY = tuple(
    f"petavox.{m}"
    for m in ("blocks", "cli", "errors", "progress", "project", "provenance", "settings", "view",
              "volume")
)  # fmt: skip
"""Where voxels live and how work is run: it is tested to change no result."""


class Digests:
    """Digests of given files and folders; what has not changed in size or time is not read again.

    file: where they are remembered between runs (written by `save` alone).
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, list[Any]] = {}
        try:
            self._known = dict(json.loads(file.read_text()))
        except (OSError, ValueError):
            self._known = {}  # it is only a memory: what is lost is read again
        self._fresh = False

    def save(self) -> None:
        """Remember."""
        if self._fresh:
            write_json(self._file, self._known)
            self._fresh = False

    def of(self, place: str) -> str:
        """Digest of a volume, table or model."""
        if places.is_url(place):
            return content_digest(place)
        inside = hdf5.split(Path(place))
        root = Path(place) if inside is None else inside[0]
        return self._remembered(place, _signature(root), lambda: content_digest(place))

    def file(self, place: Path) -> str:
        """Digest of a file's bytes."""
        return self._remembered(str(place), _signature(place), lambda: file_digest(place))

    def tiles(self, table: str) -> str:
        """Digest of a tile table, and of every tile that it lists."""
        from petavox.align import tiles

        place = Path(table)
        files = sorted(place.glob("*.txt")) if place.is_dir() else [place]
        listed = sorted({t.file for t in tiles.read(table).tiles})
        said = [(f.name, self.file(f)) for f in files]
        stats = [f.stat() for f in listed]
        if sum(s.st_size for s in stats) > SMALL:
            # as for volumes: reading all of a large data set would take as long as stitching it
            return digest(said, [(s.st_size, s.st_mtime_ns) for s in stats])
        return digest(said, [self.file(f) for f in listed])

    def _remembered(self, name: str, signature: str, make: Any) -> str:
        known = self._known.get(name)
        if known is None or known[0] != signature:
            known = self._known[name] = [signature, make()]
            self._fresh = True
        return str(known[1])


def _signature(root: Path) -> str:
    """Sizes and times of change: cheap, and changes whenever the content is written."""
    if not root.exists():
        raise BadInput(f"there is nothing at {root}.")
    if root.is_file():
        s = root.stat()
        return f"{s.st_size} {s.st_mtime_ns}"
    found = []
    for folder, _, names in os.walk(root):
        for name in names:
            s = os.stat(os.path.join(folder, name))
            found.append((os.path.relpath(os.path.join(folder, name), root), s.st_size,
                          s.st_mtime_ns))  # fmt: skip
    return digest(sorted(found))


def parts(
    project: Project, step: Step, keys: Mapping[str, str], digests: Digests
) -> dict[str, str]:
    """What decides a step's result.  keys: of the steps before it."""
    found = {f"code {m}": source_digest(m) for m in modules(step.code)}
    settings = project.stage_settings(step.name).model_dump(mode="json")
    for name, value in _flat(settings):
        if name.rpartition(".")[2] not in step.free:
            found[f"settings {name}"] = _text(value)
    model = project.model(step)
    if model is not None:
        found["model"] = digests.file(model)
    given = project.inputs(step.name)
    for thing, maker in project.makers(step.name).items():
        if maker:
            found[f"input {thing}"] = keys[maker]
        else:
            place = given[thing]
            found[f"input {thing}"] = (
                digests.tiles(place) if thing == "tiles" else digests.of(place)
            )
    return found


def key_of(parts: Mapping[str, str]) -> str:
    """The key that parts make."""
    return digest(dict(parts))


@functools.cache
def modules(root: str) -> tuple[str, ...]:
    """A module and all of petavox that it imports, directly or not, but for MACHINERY; sorted.

    The source is read, nothing is imported but the packages around it.
    """
    found: set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += [
                n for n in _imported(name) if not _is_machinery(n) or n.startswith(f"{root}.")
            ]
    return tuple(sorted(found))


@functools.cache
def _imported(module: str) -> tuple[str, ...]:
    """The modules of petavox that a module's source imports."""
    spec = _spec(module)
    if spec is None or spec.origin is None:
        return ()
    found = []
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            inner = [f"{node.module}.{a.name}" for a in node.names]
            # a name of a package is a module of it, or comes through its __init__
            names = [n if _spec(n) is not None else node.module for n in inner]
        else:
            continue
        found += [n for n in names if n.startswith("petavox.")]
    return tuple(dict.fromkeys(found))


def _is_machinery(name: str) -> bool:
    return any(name == m or name.startswith(f"{m}.") for m in MACHINERY)


@functools.cache
def _spec(name: str) -> Any:
    if not name.startswith("petavox."):
        return None
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return None


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((f"{prefix}{name}", value))
    return found


def _text(value: Any) -> str:
    return json.dumps(value, default=str)
