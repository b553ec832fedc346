"""`petavox plan`: what a run will cost, from measured blocks, on any site and any volume."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from petavox.cli.common import Figures, command
from petavox.cli.running import find_ledgers

log = logging.getLogger("petavox")

app = typer.Typer(add_completion=False)


@app.command()
@command
def plan(
    place: Annotated[
        Path | None, typer.Argument(help="Project, run folder, or output with measured blocks.")
    ] = None,
    site: Annotated[str, typer.Option(help="laptop, slurm, polaris, aurora, ... or a YAML.")] = (
        "laptop"
    ),
    nodes: Annotated[int, typer.Option(min=1, help="Nodes of the site.")] = 1,
    volume: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Another volume: its voxels, z y x.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=1e-6, help="A worker there against one that was measured.")
    ] = 1.0,
    scan: Annotated[
        bool, typer.Option(help="Efficiency for 1, 10, ... up to 10,000 nodes instead.")
    ] = False,
    config: Annotated[bool, typer.Option(help="Also show what would be started there.")] = False,
) -> Figures:
    """Project node-hours, wall time, bytes and files; without PLACE, show a site's configuration.

    Block times come from the ledger; the schedule is simulated, with stragglers, lost nodes and
    the end of jobs. Example:

    petavox plan segmentation.zarr --site aurora --nodes 1024 --volume 10000 10000 10000

    Of a project it also says what `petavox run` would do, and why; what was not run yet as a whole
    is projected from the newest `--subset` that measured it to the whole image.
    """
    from petavox.blocks import launching, projection, sites
    from petavox.blocks.ledger import Ledger
    from petavox.errors import BadInput
    from petavox.project import load

    where = sites.load(site)
    figures: dict[str, Any] = {}
    if place is None or config:
        figures["config"] = launching.shown(where)
    if place is None:
        return figures
    project = place.name == "petavox.yaml" or (place / "petavox.yaml").is_file()
    if project:
        figures["next_run"] = _steps(place)
    with contextlib.ExitStack() as stack:
        ledgers = []
        for path in find_ledgers(place):
            try:
                ledgers.append(stack.enter_context(Ledger(path, readonly=True)))
            except BadInput as e:
                if path.parent.parent.name != "subset":
                    raise
                log.warning("%s It does not count.", e)
        known = [_measured(x, place if project else None, volume) for x in ledgers]
        steps = {s.name for s in load(place).steps} if project else None
        if project and not any(names for _, names in projection.first_measured(known, steps)):
            return figures | {"cost": "no block was measured yet; run some, as with --subset"}
        if scan:
            return figures | _scan(known, where, speed, steps)
        return figures | projection.project_all(known, where, steps=steps, nodes=nodes, speed=speed)


def _measured(ledger: Any, project: Path | None, volume: Any) -> Any:
    """A ledger, and what it is projected to: of a subset of a project the whole image."""
    from petavox.blocks.projection import Measured

    folder = ledger.path.parent
    if project is None or folder.parent.name != "subset":
        return Measured(ledger, volume)
    return Measured(ledger, volume or _image_shape(project), folder.name)


def _image_shape(place: Path) -> Any:
    """Shape of what a project floods, zyx: a box, or its image; None where that cannot be read."""
    from petavox import volume
    from petavox.errors import PetavoxError
    from petavox.project import load

    project = load(place)
    if any(step.name == "segment" for step in project.steps):
        box = project.stage_settings("segment").box
        if box is not None:
            return box.shape
    path = project.find("image")
    if path is None:
        return None
    try:
        return volume.open(path, voxel_size=project.settings.voxel_size).shape
    except PetavoxError:
        return None


def _scan(
    known: list[Any], where: Any, speed: float, steps: Collection[str] | None
) -> dict[str, Any]:
    """Task -> its schedule on 1 to 10,000 nodes."""
    from petavox.blocks import projection

    found: dict[str, Any] = {}
    for one, names in projection.first_measured(known, steps):
        measured = projection.measured_shape(one.ledger)
        alone = f" (subset {one.subset} alone)" if one.subset and one.volume is None else ""
        for name in names:
            parts = one.ledger.parts(name)
            assert parts is not None  # it was measured
            n = projection.blocks_of(parts, one.volume, measured)
            counts = [k for k in (1, 10, 100, 1000, 2048, 5000, 10_000) if k <= n]
            seconds = [s / speed for s in one.ledger.seconds(name)]
            rows = projection.efficiencies(n, seconds, where, counts)
            found[name + alone] = {f"{r['nodes']} nodes": r for r in rows}
    return found


def _steps(place: Path) -> dict[str, Any]:
    """What a run of the project would do."""
    from petavox.project import checks, load
    from petavox.project.plan import plan as choices

    project = load(place)
    checks.check(project)
    return {c.step.name: f"{c.action} ({c.why})" for c in choices(project)}
