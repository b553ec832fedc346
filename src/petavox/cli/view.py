"""`petavox view`: volumes in Neuroglancer, in a browser or as a picture."""

from __future__ import annotations

import re
import time
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from petavox.cli.common import Figures, command
from petavox.errors import AlreadyExists, BadInput

app = typer.Typer(add_completion=False)


@app.command()
@command
def view(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Volumes of any format; folders of meshes and skeletons."),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="A volume shown as labels whatever its file says; may be repeated."),
    ] = None,
    select: Annotated[
        list[int] | None, typer.Option(help="Id of the labels to show in 3-D; may be repeated.")
    ] = None,
    points: Annotated[
        list[Path] | None,
        typer.Option(help="A table of places in nm, such as that of `petavox score --errors`."),
    ] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="nm, z y x, for files that do not say."),
    ] = None,
    at: Annotated[
        tuple[float, float, float] | None,
        typer.Option(help="Voxel to look at, z y x (default: the middle of the first volume)."),
    ] = None,
    layout: Annotated[
        str, typer.Option(help="Panels: 4panel, xy, xz, yz, 3d, xy-3d, xz-3d or yz-3d.")
    ] = "4panel",
    port: Annotated[int, typer.Option(help="Port on this machine; 0: a free one.")] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    screenshot: Annotated[
        Path | None, typer.Option(help="Write a picture (.png) and end, without a window.")
    ] = None,
    size: Annotated[str, typer.Option(help="Of the picture in pixels, WxH.")] = "1280x960",
    timeout: Annotated[
        float, typer.Option(help="Seconds that loading may take for a picture.")
    ] = 120.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the picture.")] = False,
) -> Figures | None:
    """Open volumes in Neuroglancer: its own client, on this machine, without internet.

    Example: petavox view block.h5/raw --labels out.zarr --screenshot out.png
    """
    from petavox.provenance import write_atomically
    from petavox.view import volumes
    from petavox.view.browser import chromium
    from petavox.view.browser import screenshot as take
    from petavox.view.points import points_layer
    from petavox.view.scene import LAYOUTS
    from petavox.view.server import Server, client_folder

    pixels = _pixels(size)
    if layout not in LAYOUTS:
        raise BadInput(f"layout '{layout}' is not one of {', '.join(LAYOUTS)}.")
    if screenshot is not None:
        if screenshot.suffix.lower() != ".png":
            raise BadInput(f"the picture {screenshot} must end in .png.")
        if screenshot.exists() and not overwrite:
            raise AlreadyExists(f"{screenshot} is there already; pass --overwrite to replace it.")
        chromium()
    client_folder()
    shown = volumes.opened(paths or [], labels or [], voxel_size, select or [])
    notes = [points_layer(p) for p in points or []]
    start = time.perf_counter()
    controls = {} if screenshot is None else {"showUIControls": False, "showPanelBorders": False}
    with Server(port=port, config=controls) as server:
        scene = volumes.scene(shown, server, layout=layout, at=at, size=pixels, more=notes)
        page = server.page(scene.fragment())
        names = [layer.name for layer in scene.layers]
        if screenshot is not None:
            picture = take(
                page, size=pixels, layers=names, timeout=timeout, failures=server.failures
            )
            write_atomically(screenshot, picture)
            seconds = round(time.perf_counter() - start, 2)
            return {"picture": str(screenshot), "layers": names, "seconds": seconds}
        typer.echo(page)
        typer.echo(f"Serving {', '.join(names)}; stop with Ctrl-C.", err=True)
        if browser:
            webbrowser.open(page)
        try:
            server.stopped.wait()
        except KeyboardInterrupt:
            return None
    return None


def _pixels(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if found is None or not all(16 <= int(n) <= 8192 for n in found.groups()):
        raise BadInput(f"size '{text}' is not WxH in pixels from 16 to 8192, such as 1280x960.")
    return (int(found[1]), int(found[2]))
