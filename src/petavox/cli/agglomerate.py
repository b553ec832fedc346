"""`petavox agglomerate`: merge the objects that the network holds to be one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from petavox.cli.common import Figures, command
from petavox.cli.running import (
    BlockTimeout,
    RetryQuarantined,
    RunFolder,
    SiteName,
    Workers,
    run_folder,
    running,
)

app = typer.Typer(add_completion=False)


@app.command()
@command
def agglomerate(
    labels: Annotated[str, typer.Argument(help="Labels: objects, or supervoxels of any origin.")],
    image: Annotated[str, typer.Argument(help="Image volume that covers the labels.")],
    out: Annotated[Path, typer.Argument(help="Labels volume to make (OME-Zarr).")],
    model: Annotated[Path, typer.Option("--model", "-m", help="Model file (.safetensors).")],
    settings: Annotated[
        Path | None, typer.Option(help="YAML of AgglomerateSettings; options here override it.")
    ] = None,
    rule: Annotated[Path | None, typer.Option(help="Rule to use: rule.json of a graph.")] = None,
    odds: Annotated[
        float | None, typer.Option(help="Odds that a pair must exceed; moves the threshold.")
    ] = None,
    calibrate: Annotated[
        str | None, typer.Option(help="Volume of truth on which to fit the rule.")
    ] = None,
    calibrate_box: Annotated[
        str | None, typer.Option(help="Only this part of the truth, z0:z1,y0:y1,x0:x1.")
    ] = None,
    folds: Annotated[int, typer.Option(help="Of the cross-validation, slabs of z.")] = 2,
    max_distance: Annotated[
        float | None, typer.Option(help="nm between objects that are judged [100].")
    ] = None,
    min_faces: Annotated[
        int | None, typer.Option(help="Voxel faces of contact from which a pair is judged [10].")
    ] = None,
    prior: Annotated[
        Path | None, typer.Option(help="prior.json of a calibrated graph: ask only where it pays.")
    ] = None,
    most_asked: Annotated[
        int | None, typer.Option(help="Ask the network about no more pairs than this.")
    ] = None,
    places: Annotated[
        int | None, typer.Option(help="Places of a contact to ask about, if it is large [1].")
    ] = None,
    block: Annotated[
        tuple[int, int, int] | None, typer.Option(help="Voxels of one piece of work, z y x.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="f32, bf16 or int8.")] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None, typer.Option(help="nm, z y x, if the image has none.")
    ] = None,
    workers: Workers = 0,
    site: SiteName = None,
    block_timeout: BlockTimeout = None,
    run: RunFolder = None,
    retry_quarantined: RetryQuarantined = False,
    overwrite: Annotated[bool, typer.Option(help="Replace what is at OUT.")] = False,
) -> Figures:
    """Judge every pair of objects that come close, and merge those that are one.

    The graph of all pairs is kept in OUT.graph: with another --rule or --odds nothing is flooded
    again. Interrupted, the same command goes on where it was. Example:

    petavox agglomerate objects.zarr image.zarr neurons.zarr --model fib25.safetensors
    """
    from petavox.errors import BadInput
    from petavox.settings import parse, read_yaml_mapping
    from petavox.stages.agglomerate import AgglomerateSettings
    from petavox.stages.agglomerate import agglomerate as go
    from petavox.stages.calibrate import (
        CalibrateSettings,
        calibrated,
        calibrated_prior,
        require_truth,
    )

    if calibrate is not None and (rule is not None or odds is not None):
        raise BadInput("--calibrate fits the rule and its odds; leave out --rule and --odds.")
    if calibrate is None and calibrate_box is not None:
        raise BadInput("--calibrate-box is a part of a truth: give the truth with --calibrate.")
    values: dict[str, Any] = {} if settings is None else read_yaml_mapping(settings)
    given: dict[str, Any] = {
        "max_distance": max_distance,
        "min_faces": min_faces,
        "most_asked": most_asked,
        "places": places,
        "prior": None if prior is None else read_yaml_mapping(prior),
        "block": block,
    }
    values["candidates"] = dict(values.get("candidates") or {}) | {
        k: v for k, v in given.items() if v is not None
    }
    if rule is not None:
        values["rule"] = read_yaml_mapping(rule)
    if odds is not None:
        values["rule"] = dict(values.get("rule") or {}) | {"odds": odds}
    values |= {
        k: v for k, v in {"precision": precision, "voxel_size": voxel_size}.items() if v is not None
    }
    where = str(rule or settings or "the options")
    request = parse(AgglomerateSettings, values, where)
    fit = fit_prior = None
    if calibrate is not None:
        wanted = parse(CalibrateSettings, {"box": calibrate_box, "folds": folds}, "the options")
        require_truth(labels, calibrate, wanted)

        def fit(edges: Any) -> Any:
            return calibrated(labels, calibrate, edges, wanted)

        def fit_prior(edges: Any) -> Any:
            return calibrated_prior(labels, calibrate, edges, wanted)

    folder = run_folder(out, run)
    with running(folder, workers=workers, site=site, block_timeout=block_timeout) as how:
        return go(
            labels,
            image,
            out,
            model=model,
            settings=request,
            calibrate=fit,
            calibrate_prior=fit_prior,
            overwrite=overwrite,
            retry_quarantined=retry_quarantined,
            **how,
        )
