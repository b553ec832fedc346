"""`petavox view`: volumes in Neuroglancer, in a browser or as a picture."""

from __future__ import annotations

import re
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from petavox.cli.common import Figures, command
from petavox.errors import AlreadyExists, BadInput

if TYPE_CHECKING:
    from petavox.view.scene import Scene
    from petavox.view.volumes import Host

app = typer.Typer(add_completion=False)


@app.command()
@command
def view(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="A project; volumes of any format; folders of meshes and skeletons."),
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
    static: Annotated[
        Path | None, typer.Option(help="Write a folder that any web server can serve, and end.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="With --static: the address it will be served at, for links.")
    ] = None,
    size: Annotated[str, typer.Option(help="Of the picture in pixels, WxH.")] = "1280x960",
    timeout: Annotated[
        float, typer.Option(help="Seconds without progress after which a picture is given up.")
    ] = 120.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the picture or folder.")
    ] = False,
) -> Figures | None:
    """Open a project or volumes in Neuroglancer: its own client, on this machine, no internet.

    Example: petavox view PROJECT
    Example: petavox view block.h5/raw --labels out.zarr --screenshot out.png
    Example: petavox view PROJECT --static view --url https://lab.example/view
    """
    from petavox.provenance import write_atomically
    from petavox.view.browser import chromium
    from petavox.view.browser import screenshot as take
    from petavox.view.scene import LAYOUTS
    from petavox.view.server import Server, client_folder
    from petavox.view.static import is_static, write

    pixels = _pixels(size)
    if layout not in LAYOUTS:
        raise BadInput(f"layout '{layout}' is not one of {', '.join(LAYOUTS)}.")
    if static is not None and screenshot is not None:
        raise BadInput("--static writes a folder and --screenshot a picture: give one of them.")
    if url is not None and static is None:
        raise BadInput("--url says where a static view will be: give --static FOLDER too.")
    if screenshot is not None:
        if screenshot.suffix.lower() != ".png":
            raise BadInput(f"the picture {screenshot} must end in .png.")
        if screenshot.exists() and not overwrite:
            raise AlreadyExists(f"{screenshot} is there already; pass --overwrite to replace it.")
        chromium()
    client_folder()
    paths = paths or []
    start = time.perf_counter()
    ready = len(paths) == 1 and is_static(paths[0])
    made = None if ready else _scene(paths, labels, select, points, voxel_size, layout, at, pixels)
    if static is not None:
        if made is None:
            raise BadInput(f"{paths[0]} is a static view already.")
        return write(static, made, title=_title(paths), url=url, overwrite=overwrite)
    controls = {} if screenshot is None else {"showUIControls": False, "showPanelBorders": False}
    with Server(port=port, config=controls) as server:
        if made is None:
            page, names, waited = f"{server.add(Path(paths[0]))}/index.html", [], []
        else:
            scene = made(server)
            page = server.page(scene.fragment())
            names = [layer.name for layer in scene.layers]
            waited = [layer.name for layer in scene.layers if layer.visible]
        if screenshot is not None:
            picture = take(page, size=pixels, layers=waited, timeout=timeout, server=server)
            write_atomically(screenshot, picture)
            seconds = round(time.perf_counter() - start, 2)
            return {"picture": str(screenshot), "layers": names, "seconds": seconds}
        typer.echo(page)
        typer.echo(f"Serving {', '.join(names) or paths[0]}; stop with Ctrl-C.", err=True)
        if browser:
            webbrowser.open(page)
        try:
            server.stopped.wait()
        except KeyboardInterrupt:
            return None
    return None


def _scene(
    paths: list[str],
    labels: list[str] | None,
    select: list[int] | None,
    points: list[Path] | None,
    voxel_size: tuple[float, float, float] | None,
    layout: str,
    at: tuple[float, float, float] | None,
    pixels: tuple[int, int],
) -> Callable[[Host], Scene]:
    """What to show, opened and checked; the scene is made when there is a place for its data."""
    from petavox.project import load
    from petavox.project.settings import FILE
    from petavox.view import project, volumes
    from petavox.view.layers import Layer
    from petavox.view.points import points_layer

    def is_project(path: str) -> bool:
        return Path(path).name == FILE or (Path(path) / FILE).is_file()

    whole = [load(p) for p in paths if is_project(p)]
    if len(whole) > 1:
        raise BadInput("one project can be viewed at a time; give volumes beside it by their path.")
    notes: list[Layer] = [points_layer(p) for p in points or []]
    rest = [p for p in paths if not is_project(p)]
    if not whole:
        shown = volumes.opened(rest, labels or [], voxel_size, select or [])
    else:
        shown = project.volumes(whole[0], select or [])
        if rest or labels:
            shown += volumes.opened(rest, labels or [], voxel_size)

    def made(host: Host) -> Scene:
        more = [*(project.notes(whole[0], shown, host) if whole else []), *notes]
        return volumes.scene(shown, host, layout=layout, at=at, size=pixels, more=more)

    return made


def _title(paths: list[str]) -> str:
    return Path(paths[0]).name if paths else "petavox"


def _pixels(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if found is None or not all(16 <= int(n) <= 8192 for n in found.groups()):
        raise BadInput(f"size '{text}' is not WxH in pixels from 16 to 8192, such as 1280x960.")
    return (int(found[1]), int(found[2]))
