"""`petavox model`: bring networks in, look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Import and inspect networks.")


@app.command("import")
@command
def import_(
    source: Annotated[
        Path, typer.Argument(help="TensorFlow checkpoint (.index, data beside it) or .npz.")
    ],
    out: Annotated[Path, typer.Argument(help="Model file to make (.safetensors).")],
    fov: Annotated[tuple[int, int, int], typer.Option(help="Field of view, z y x voxels.")],
    deltas: Annotated[tuple[int, int, int], typer.Option(help="Step, z y x voxels.")],
    image_mean: Annotated[float, typer.Option(help="Grey value subtracted in training.")],
    image_std: Annotated[float, typer.Option(help="Grey values per unit in training.")],
    seed_pad: Annotated[float, typer.Option(help="Probability where nothing is known.")] = 0.05,
    seed_init: Annotated[float, typer.Option(help="Probability at a start.")] = 0.95,
    move_threshold: Annotated[float, typer.Option(help="Probability to move on.")] = 0.9,
    segment_threshold: Annotated[float, typer.Option(help="Probability of an object.")] = 0.6,
    voxel_size: Annotated[
        tuple[float, float, float] | None, typer.Option(help="nm, z y x, of its training image.")
    ] = None,
    note: Annotated[str, typer.Option(help="Where the network comes from, its licence.")] = "",
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> Figures:
    """Turn a network of the original flood-filling code into a petavox model.

    Example, the released FIB-25 network:

    petavox model import model.ckpt-27465036.index fib25.safetensors --fov 33 33 33
    --deltas 8 8 8 --image-mean 128 --image-std 33
    """
    from petavox.errors import AlreadyExists
    from petavox.ffn.model import ModelSpec, save_model
    from petavox.ffn.released import read_released
    from petavox.provenance import file_digest
    from petavox.settings import parse

    if out.exists() and not overwrite:
        raise AlreadyExists(f"{out} is there already; choose another name, or pass --overwrite.")
    weights, depth, features = read_released(source)
    spec = parse(
        ModelSpec,
        {
            "fov": fov,
            "deltas": deltas,
            "depth": depth,
            "features": features,
            "image_mean": image_mean,
            "image_std": image_std,
            "seed_pad": seed_pad,
            "seed_init": seed_init,
            "move_threshold": move_threshold,
            "segment_threshold": segment_threshold,
            "voxel_size": voxel_size,
            "provenance": {
                "imported_from": source.name,
                "digest": file_digest(source),
                "note": note,
            },
        },
        "the options",
    )
    save_model(out, spec, weights)
    return info_of(out)


@app.command()
@command
def info(path: Annotated[Path, typer.Argument(help="Model file.")]) -> Figures:
    """What a model is: geometry, thresholds, provenance.

    Example: petavox model info fib25.safetensors
    """
    return info_of(path)


@app.command()
@command
def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A training's folder, its checkpoints, or one of them.")
    ],
    out: Annotated[Path, typer.Argument(help="Model file to make (.safetensors).")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")] = False,
) -> Figures:
    """Take the model out of a training's newest checkpoint.

    Example: petavox model export training model.safetensors
    """
    from petavox.errors import AlreadyExists
    from petavox.ffn.export import export_checkpoint

    if out.exists() and not overwrite:
        raise AlreadyExists(f"{out} is there already; choose another name, or pass --overwrite.")
    export_checkpoint(checkpoint, out)
    return info_of(out)


def info_of(path: Path) -> Figures:
    """The spec of a model file, with its size and cost."""
    from petavox.ffn.model import load_model
    from petavox.ffn.network import flop_per_voxel

    model = load_model(path)
    spec = model.spec
    fov_voxels = spec.fov[0] * spec.fov[1] * spec.fov[2]
    return spec.model_dump() | {
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "gflop_per_fov": flop_per_voxel(spec.depth, spec.features) * fov_voxels / 1e9,
        "digest": model.digest,
    }
