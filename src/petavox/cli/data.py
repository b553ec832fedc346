"""`petavox data`: public data sets, listed and fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Public data sets.")


@app.command("list")
@command
def list_(
    name: Annotated[str | None, typer.Argument(help="Only this set, with all that is known.")] = (
        None
    ),
) -> Figures:
    """List the public data sets petavox can fetch: content, size, licence.

    petavox data list

    petavox data list cremi-a
    """
    from petavox.datasets import catalogue, named

    if name is None:
        return {
            s.name: {"what": s.what, "size": s.size, "licence": s.licence}
            for s in catalogue().values()
        }
    one = named(name)
    return {
        "what": one.what,
        "voxel_size_nm": one.voxel_size,
        "size": one.size,
        "licence": one.licence,
        "cite": one.cite,
        "volumes": one.volumes,
        "notes": one.notes or None,
        **{
            f"file_{i}": f.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            for i, f in enumerate(one.files, 1)
        },
        "read_in": one.read_in,
    }


@app.command()
@command
def fetch(
    name: Annotated[str, typer.Argument(help="Name in `petavox data list`.")],
    to: Annotated[Path, typer.Option(help="Folder; the set goes into TO/NAME.")] = Path("data"),
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="Folder with the files, instead of the network."),
    ] = None,
) -> Figures:
    """Fetch a public data set; stopped, the same command goes on where it was.

    petavox data fetch snemi3d

    petavox data fetch cremi-a --from /mirror --to data
    """
    from petavox.datasets import fetch as go
    from petavox.datasets import named

    return go(named(name), to, mirror=from_)
