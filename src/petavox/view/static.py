"""A view as a folder that any web server can serve: data, Neuroglancer's client, a page.

    OUT/index.html     opens the view, wherever the folder is served from
    OUT/state.json     the state, with --url: for other Neuroglancers, and in links
    OUT/data/N/        the layers' files
    OUT/v/static/      Neuroglancer's client (Apache-2.0; its licence beside it)

What it is: the writer of such a folder. What it is not: a server, or an uploader.

The client is the one that ships with the Python package, unchanged; it asks its server for events
once, which a folder cannot answer: a script in the page answers instead.
"""

from __future__ import annotations

import html
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from petavox import provenance
from petavox.errors import BadInput
from petavox.view.scene import Scene
from petavox.view.server import Files, client_folder, client_licence
from petavox.view.volumes import Host
from petavox.volume import state
from petavox.volume.opening import make_room

BASE = "https://view.invalid/base"
"""Stands in addresses for the place that is known only when the page is opened."""
PUBLIC = "https://neuroglancer-demo.appspot.com/"

_SHIM = """<script>
// a folder cannot send events: the client is told at once that it has its settings
window.EventSource = class {
  constructor() {
    setTimeout(() => {
      this.onopen?.();
      this.onmessage?.({data: JSON.stringify({k: "c", s: {}, g: "1"})});
    }, 0);
  }
  close() {}
};
</script>"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<script>
const state = {state};
const here = location.href.replace(/[?#].*$/, "").replace(/\\/[^/]*$/, "");
const text = JSON.stringify(state).replaceAll({base}, here);
location.replace("v/static/index.html#!" + encodeURIComponent(text));
</script></head>
<body><noscript>This view needs JavaScript and WebGL 2.</noscript></body></html>
"""


class _Writer:
    """Takes data into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def add(self, source: Path | Files) -> str:
        out = self.folder / "data" / str(self.count)
        self.count += 1
        if isinstance(source, Path):
            shutil.copytree(source, out, ignore=shutil.ignore_patterns(".*"))
        else:
            source.write(out)
        return f"{BASE}/data/{out.name}"


def write(
    out: Path,
    made: Callable[[Host], Scene],
    *,
    title: str = "petavox",
    url: str | None = None,
    overwrite: bool = False,
) -> dict[str, object]:
    """Write a view into a folder; returns figures and the links.

    made: gives the scene when told where its data go.  url: where the folder will be served from;
    then state.json and the link for other Neuroglancers name it.
    """
    began = time.monotonic()
    if url is not None and not url.startswith(("http://", "https://")):
        raise BadInput(f"--url is '{url}': give the address of the folder, https://...")
    client, licence = client_folder(), client_licence()
    make_room(out, overwrite=overwrite)
    out.mkdir(parents=True)
    state.begin(out)
    writer = _Writer(out)
    scene = made(writer)
    said = json.dumps(scene.state())
    # inside a script, a name must not be able to end it
    inner = said.replace("<", "\\u003c")
    page = _PAGE.format(title=html.escape(title), state=inner, base=json.dumps(BASE))
    (out / "index.html").write_text(page)
    _client(client, licence, out / "v" / "static")
    figures: dict[str, object] = {
        "folder": str(out),
        "layers": [layer.name for layer in scene.layers],
    }
    if url is not None:
        base = url.rstrip("/").removesuffix("/index.html")
        (out / "state.json").write_text(said.replace(BASE, base) + "\n")
        figures["link"] = f"{base}/index.html"
        figures["link_elsewhere"] = f"{PUBLIC}#!{base}/state.json"
    files = [p for p in out.rglob("*") if p.is_file()]
    figures |= {"files": len(files), "bytes": sum(p.stat().st_size for p in files)}
    seconds = time.monotonic() - began
    record = provenance.record(
        "static view", settings={"url": url}, inputs={}, counters=figures, seconds=seconds
    )
    state.finish(out, record)
    return figures | {"seconds": round(seconds, 2)}


def is_static(path: str | Path) -> bool:
    """True for a folder that `write` made."""
    folder = Path(path)
    return (folder / "v" / "static" / "index.html").is_file() and (folder / "data").is_dir()


def _client(client: Path, licence: Path | None, out: Path) -> None:
    """The client's files, without what only its developers need."""
    shutil.copytree(client, out, ignore=shutil.ignore_patterns("*.map"))
    page = (out / "index.html").read_text()
    (out / "index.html").write_text(page.replace("<script", _SHIM + "<script", 1))
    if licence is not None:
        shutil.copy(licence, out / "LICENSE")
