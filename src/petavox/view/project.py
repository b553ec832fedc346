"""All layers of a project: image, masks, objects, neurons, meshes, skeletons, synapses, blocks.

What it is: which of a project's results become which layer. What it is not: the reading of a
project (petavox.project), or serving. What is not finished, or not there, is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import petavox as pv
from petavox.blocks.ledger import Ledger
from petavox.errors import BadInput, NotComplete
from petavox.project import Project
from petavox.space import VoxelSize
from petavox.view import status, synapses
from petavox.view.layers import AnnotationLayer, Layer, Source
from petavox.view.volumes import Host, Shown, with_objects
from petavox.volume import state

log = logging.getLogger("petavox")

MOST_SIDES = 20_000
"""Synapses whose sides are looked up in the labels; of more, lines have no length."""

SYNAPSE_SHADER = """void main() {
  setColor(defaultColor());
  setLineWidth(3.0);
  setEndpointMarkerSize(4.0, 8.0);
  setEndpointMarkerColor(vec4(1.0, 0.35, 0.2, 1.0), vec4(0.2, 0.7, 1.0, 1.0));
  setEndpointMarkerBorderWidth(0.0);
}
"""
"""Pre is the small red end, post the large blue one."""
BLOCK_SHADER = """void main() {
  setColor(vec4(prop_colour(), 1.0));
}
"""


def volumes(project: Project, selected: Sequence[int] = ()) -> list[Shown]:
    """The volumes of a project, bottom first; only the last labels are visible at first.

    selected: ids of the neurons shown in 3-D; default: the largest.
    Raises BadInput if the project has no image yet.
    """
    image = _opened(project, "image") or _opened(project, "sections")
    if image is None:
        raise BadInput(
            f"project {project.folder} has nothing to view yet: no image, no sections; start it "
            "by `petavox run`."
        )
    out = [Shown(image, False, _sized(project, image), name="image")]
    for path in _masks(project):
        mask = _open(project, str(path))
        if mask is not None and mask.dtype.kind == "u":
            given, name = _sized(project, mask), f"mask {path.stem}"
            out.append(Shown(mask, True, given, name=name, visible=False))
    objects, neurons = _opened(project, "objects"), _opened(project, "neurons")
    truth = project.settings.truth.labels
    if truth is not None and (known := _open(project, project.path(truth))) is not None:
        out.append(Shown(known, True, name="truth", visible=False))
    for name, volume in (("objects", objects), ("neurons", neurons)):
        if volume is not None:
            last = name == "neurons" or neurons is None
            out.append(Shown(volume, True, name=name, visible=last))
    if out[-1].labels and out[-1].visible:
        folders = [Path(p) for t in ("meshes", "skeletons") if (p := project.find(t))]
        out[-1] = with_objects(out[-1], folders, selected)
    return out


def notes(project: Project, shown: Sequence[Shown], host: Host) -> list[Layer]:
    """Synapses and blocks of a project as layers of annotations."""
    out: list[Layer] = []
    labels = next((s for s in reversed(shown) if s.labels and s.visible), None)
    table = synapse_table(project)
    if table is not None:
        found = synapses.read(table)
        ends = found.place[:, None].repeat(2, axis=1)
        if labels is not None and len(found) <= MOST_SIDES:
            ends = synapses.sides(found, labels.volume)
        source = Source(f"precomputed://{host.add(synapses.lines(found, ends))}")
        linked = {} if labels is None else dict.fromkeys(("pre", "post"), labels.name)
        out.append(
            AnnotationLayer(
                "synapses", [source], colour="#ffd500", shader=SYNAPSE_SHADER, objects=linked
            )
        )
    return [*out, *_blocks(project, shown[0].volume.voxel_size, host)]


def synapse_table(project: Project) -> Path | None:
    """The table of synapses by neurons, or the one that was found or given."""
    for thing, name in (("connectome", "synapses.parquet"), ("synapses", "synapses.parquet")):
        found = project.find(thing)
        if found is not None:
            path = Path(found)
            path = path / name if path.is_dir() else path
            if path.is_file():
                return path
    return None


def _blocks(project: Project, voxel_size: VoxelSize, host: Host) -> list[Layer]:
    """A hidden layer for each blockwise task over the image."""
    if not project.ledger_file.is_file():
        return []
    out: list[Layer] = []
    with Ledger(project.ledger_file, readonly=True) as ledger:
        for task in ledger.tasks():
            blocks = status.of_task(ledger, task["name"])
            if blocks is None or not in_space(task["name"]):
                continue
            source = Source(f"precomputed://{host.add(status.boxes(blocks, voxel_size))}")
            name = f"blocks {task['name']}"
            out.append(AnnotationLayer(name, [source], visible=False, shader=BLOCK_SHADER))
    return out


def in_space(task: str) -> bool:
    """Blocks of voxels; tasks over lists of objects or ranges of ids are no places."""
    words = ("object", "union", "range", "shard", "pairs", "merge", "links", "level")
    return not any(w in task.rpartition("/")[2] for w in words)


def _masks(project: Project) -> list[Path]:
    found = [Path(p)] if (p := project.find("mask")) else []
    if (qc := project.find("qc")) is not None and (Path(qc) / "damage.zarr").exists():
        found.append(Path(qc) / "damage.zarr")
    return found


def _opened(project: Project, thing: str) -> pv.Volume | None:
    path = project.find(thing)
    if path is None:
        return None
    inner = Path(path) / "sections"
    return _open(project, str(inner) if thing == "sections" and inner.is_dir() else path)


def given_size(project: Project, path: str) -> VoxelSize | None:
    """The voxel size to open a path with: the project's, for the volumes that it begins from.

    What petavox made knows its own, which may be another, as that of damage does.
    """
    size, said = project.settings.voxel_size, project.settings.input
    given = [p for p in (said.image, said.sections, said.mask) if p is not None]
    if size is None or path not in map(project.path, given):
        return None
    return VoxelSize.of(size)


def _sized(project: Project, volume: pv.Volume) -> bool:
    """Does the project give a voxel size that the volume's own files do not say?"""
    if given_size(project, volume.path) is None:
        return False
    try:
        pv.open(volume.path)
    except BadInput:
        return True
    return False


def _open(project: Project, path: str) -> pv.Volume | None:
    """A volume if it is there and finished."""
    try:
        state.require_complete(path)
        return pv.open(path, voxel_size=given_size(project, path))
    except (BadInput, NotComplete) as e:
        log.warning("left out of the view: %s", e)
        return None
