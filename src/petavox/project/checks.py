"""Whether a project can be run, found out before any work: one sentence for what is wrong.

What it is: checks of settings, data, models, place and workers, as far as they can be known now.
What it is not: the checks that need an earlier stage's output; those the stages make.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from petavox.errors import BadInput, PetavoxError
from petavox.project.project import Project
from petavox.volume import Volume, places
from petavox.volume import open as open_volume


def crew(project: Project, workers: int | None, site: str | None) -> dict[str, Any]:
    """Who works: workers or site, for open_engine; and "count", how many they are.

    count: 0 where it is not known: the workers of a site with a scheduler come and go.
    Raises BadInput for an unknown site.
    """
    from petavox.blocks import sites

    if workers is not None and site is not None:
        raise BadInput("--workers and --site together say two things; give one of them.")
    if workers is None and site is None:
        workers, site = project.settings.workers, project.settings.site
    count = workers or 1
    if site is not None:
        here = Path(project.path(site))
        site = str(here) if here.is_file() else site
        known = sites.load(site)
        count = known.workers if known.scheduler == "local" else 0
    return {"workers": workers or None, "site": site, "count": count}


def check(project: Project) -> None:
    """Raise BadInput (or NotComplete) for the first thing that would stop a run."""
    _settings(project)
    _places(project)
    specs = _models(project)
    voxels = _data(project)
    _truth(project)
    _blocks(project, specs)
    _space(project, voxels)


def _settings(project: Project) -> None:
    if not project.steps:
        raise BadInput(f"{project.file}: all stages are off; there is nothing to run.")
    for step in project.steps:
        project.stage_settings(step.name)


def _places(project: Project) -> None:
    """No input may lie where a step writes."""
    if not os.access(project.folder, os.W_OK):
        raise BadInput(f"{project.folder} cannot be written by you; a run writes there.")
    given = project.settings.input.model_dump() | {
        f"truth.{k}": v for k, v in project.settings.truth.model_dump().items()
    }
    for name, said in given.items():
        if said is None or places.is_url(project.path(said)):
            continue
        place = Path(project.path(said)).resolve()
        for step in project.steps:
            for path in project.outputs(step.name).values():
                out = path.resolve()
                if place == out or out in place.parents or place in out.parents:
                    raise BadInput(
                        f"{project.file}: {name} {said} and the output {path.name} of step "
                        f"'{step.name}' lie in one another: a run never writes into its input; "
                        "move the input."
                    )


def _models(project: Project) -> dict[str, Any]:
    from petavox.ffn.model import load_spec

    specs = {}
    for step in project.steps:
        file = project.model(step)
        if file is None:
            continue
        if not file.is_file():
            said = getattr(project.settings.models, str(step.model))
            raise BadInput(
                f"{project.file}: models.{step.model} is {said}, but there is no file {file}; give "
                "a .safetensors file, or `shipped`."
            )
        if step.model == "segmentation":
            specs[step.name] = load_spec(file)
    return specs


def _data(project: Project) -> int:
    """Open all that is given; gives about how many voxels the image has."""
    said, size = project.settings.input, project.settings.voxel_size
    if said.tiles is not None:
        assert size is not None
        return _tiles(project.path(said.tiles), size[2])
    name = "sections" if said.sections is not None else "image"
    image = _volume(project, name)
    if image.dtype.kind not in "uf" or image.dtype.itemsize > 4 or image.kind.value != "image":
        raise BadInput(
            f"{project.file}: input.{name} {image.path} holds {image.kind} of {image.dtype}: an "
            "image of uint8 or uint16 is needed."
        )
    if name == "sections" and image.voxel_size.y != image.voxel_size.x:
        raise BadInput(
            f"{project.file}: input.sections {image.path} has pixels of {image.voxel_size}: they "
            "must be square."
        )
    if said.mask is not None:
        _volume(project, "mask")
    if project.subset is not None and not image.box.contains(project.subset):
        raise BadInput(f"the subset {project.subset} is not inside {image.path}: {image.box}.")
    if said.synapses is not None:
        from petavox.neuron import tables
        from petavox.stages.connectome import read_table

        path = Path(project.path(said.synapses))
        tables.checked(read_table(path), tables.SYNAPSES, str(path))
    return image.box.size * image.dtype.itemsize


def _tiles(table: str, pixel: float) -> int:
    from petavox.align import tiles

    found = tiles.check(tiles.read(table), pixel)
    return sum(t.shape[0] * t.shape[1] for t in found.tiles)


def _volume(project: Project, name: str) -> Volume:
    path = project.path(getattr(project.settings.input, name))
    try:
        return open_volume(path, voxel_size=project.settings.voxel_size)
    except PetavoxError as e:
        raise type(e)(f"{project.file}: input.{name}: {e}") from None


def _truth(project: Project) -> None:
    for name, said in project.settings.truth.model_dump().items():
        if said is not None and not Path(project.path(said)).exists():
            raise BadInput(f"{project.file}: truth.{name} {said}: there is nothing there.")


def _blocks(project: Project, specs: dict[str, Any]) -> None:
    """The blocks of the flood fit the network, and the image where it is known already."""
    for step in project.steps:
        if not step.name.startswith("segment"):
            continue
        settings, spec = project.stage_settings(step.name), specs.get(step.name)
        if spec is not None and settings.method == "flood":
            reach = spec.margin
            if any(c < r for c, r in zip(settings.context, reach, strict=True)):
                raise BadInput(
                    f"{project.file}: stages.{step.name}.context is {settings.context}, less than "
                    f"{reach}, the reach of the model's field of view {spec.fov} (z y x): use at "
                    f"least {reach}."
                )
            _trained(project, spec)
        if not project.makers(step.name).get("image"):
            from petavox.stages.blockwise_segment import BlockwiseSegment

            model = project.model(step)
            reads = {"image": project.inputs(step.name)["image"]}
            BlockwiseSegment(
                settings, reads=reads | ({"model": str(model)} if model else {}), writes={}
            ).grid()


def _trained(project: Project, spec: Any) -> None:
    """The network was trained on voxels of about this size."""
    size: tuple[float, ...] | None = project.settings.voxel_size
    if size is None and project.settings.input.image:
        size = tuple(_volume(project, "image").voxel_size)
    if size is None or spec.voxel_size is None:
        return
    if any(not 0.5 <= a / b <= 2 for a, b in zip(spec.voxel_size, size, strict=True)):
        raise BadInput(
            f"{project.file}: voxels are {tuple(size)} nm, the segmentation model was trained on "
            f"{tuple(spec.voxel_size)} nm (z y x), more than a factor of two apart: use another "
            "model (models.segmentation), or another level of the image."
        )


def _space(project: Project, size: int) -> None:
    """Room for the outputs: image copies, labels twice with compression, tables."""
    need, free = 4 * size, shutil.disk_usage(project.folder).free
    if free < need:
        raise BadInput(
            f"{project.folder} has {free / 2**30:.1f} GiB free; this run may write about "
            f"{need / 2**30:.1f} GiB: free some, or move the project to another disk."
        )
