"""Screenshots of a page by Chromium without a window, driven over the DevTools protocol.

What it is: start Chromium with a new empty profile, open the page, wait until Neuroglancer says
that every chunk it needs is drawn, take the picture, end Chromium. What it is not: a wait for some
seconds; a picture is only taken of a page that is ready, and a layer that cannot be loaded is an
error with its reason.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from petavox.errors import MissingExtra, WorkFailed

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # as root there is none; the only page opened is our own
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0",
)

LONGEST = 10
"""Times `timeout` that a page may take in all."""


class Serving(Protocol):
    """What a server of pages knows of itself."""

    failures: list[str]
    served: int


# what the page says of itself: the layers, and whether all that is visible has been drawn.
# viewer.isReady() would also wait for hidden layers, of which nothing is drawn
_STATUS = """(() => {
  const viewer = window.viewer;
  if (!viewer) return JSON.stringify({ready: false, layers: [], lost: false});
  const layers = viewer.layerManager.managedLayers.map(managed => {
    const errors = [];
    for (const source of managed.layer?.dataSources ?? []) {
      const error = source.loadState?.error;
      if (error !== undefined) errors.push(String(error?.message ?? error));
    }
    return {name: managed.name, ready: managed.isReady(), errors};
  });
  const lost = viewer.display?.gl?.isContextLost() ?? false;
  viewer.chunkQueueManager.flushPendingChunkUpdates();
  const ready = viewer.display.isReady() &&
    viewer.layerManager.managedLayers.every(managed => !managed.visible || managed.isReady());
  return JSON.stringify({ready, layers, lost});
})()"""


def chromium() -> str:
    """Chromium's program on this machine: $PETAVOX_CHROMIUM, or found on the path.

    Raises MissingExtra if there is none.
    """
    named = os.environ.get("PETAVOX_CHROMIUM")
    found = named or next((p for n in NAMES if (p := shutil.which(n))), None)
    if found is None or shutil.which(found) is None:
        raise MissingExtra(
            f"screenshots need Chromium, and {named or 'none'} was found: install it (Debian: "
            "apt install chromium), or name its program in PETAVOX_CHROMIUM."
        )
    return found


def screenshot(
    url: str,
    *,
    size: tuple[int, int],
    layers: Sequence[str],
    timeout: float = 120.0,
    server: Serving | None = None,
) -> bytes:
    """The page at `url` as PNG, once Neuroglancer has drawn it.

    size: pixels, width and height.  layers: names that must be there.
    timeout: seconds without any progress; progress is a layer that gets ready, or something more
    that the page fetched from `server`.  So a slow machine that gets on is waited for (up to
    LONGEST times as long), and a page that hangs is not.
    server: who serves the page's data; what it could not serve is an error at once.
    Raises WorkFailed if a layer cannot be loaded, or nothing happens for `timeout` seconds.
    """
    program = chromium()
    with tempfile.TemporaryDirectory(
        prefix="petavox-chromium-", ignore_cleanup_errors=True
    ) as home:
        log = Path(home) / "log"
        with open(log, "wb") as errors:
            process = subprocess.Popen(
                [program, *FLAGS, f"--user-data-dir={home}", "--window-size={},{}".format(*size),
                 "about:blank"],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True,
                env=os.environ | {"TMPDIR": home},  # it leaves things behind
            )  # fmt: skip
        try:
            port = _port(process, Path(home), log, timeout)
            return asyncio.run(_take(port, url, size, _Wanted(list(layers), timeout, server)))
        finally:
            _end(process)


def _port(process: subprocess.Popen[bytes], home: Path, log: Path, timeout: float) -> int:
    """The port on which Chromium listens; it writes it into its profile."""
    until = time.monotonic() + timeout
    file = home / "DevToolsActivePort"
    while time.monotonic() < until:
        if file.exists() and len(lines := file.read_text().splitlines()) >= 2:
            return int(lines[0])
        if process.poll() is not None:
            break
        time.sleep(0.05)
    tail = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise WorkFailed(f"Chromium did not start: {' '.join(tail) or 'it said nothing'}.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End Chromium with all of its processes."""
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=5)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@dataclass(frozen=True)
class _Wanted:
    """What the picture waits for."""

    layers: list[str]
    timeout: float
    server: Serving | None


class _Refused(WorkFailed):
    """The browser did not do what it was asked."""


class _Page:
    """One page's DevTools connection: calls by number, events ignored."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.write_message(
            json.dumps({"id": self._number, "method": method, "params": parameters})
        )
        while True:
            text = await self._socket.read_message()
            if text is None:
                raise WorkFailed("Chromium ended before the picture was taken.")
            answer = json.loads(text)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise _Refused(f"Chromium refused {method}: {answer['error']['message']}.")
                return dict(answer["result"])

    async def evaluate(self, expression: str, *, wait: bool = False) -> Any:
        result = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=wait
        )
        if "exceptionDetails" in result:
            raise WorkFailed(f"the page failed: {result['exceptionDetails'].get('text')}.")
        return result["result"].get("value")


async def _take(port: int, url: str, size: tuple[int, int], wanted: _Wanted) -> bytes:
    from tornado.websocket import websocket_connect

    socket = await websocket_connect(await _first_page(port), max_message_size=2**30)
    try:
        work = _picture(_Page(socket), url, size, wanted)
        return await asyncio.wait_for(work, LONGEST * wanted.timeout)
    except TimeoutError:
        raise WorkFailed(
            f"Chromium gave no picture within {LONGEST * wanted.timeout:g} s. A larger --timeout, "
            "a smaller --size or fewer objects may help."
        ) from None
    finally:
        socket.close()


async def _first_page(port: int) -> str:
    """The DevTools address of the page that Chromium opens at its start."""
    for _ in range(200):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            pages = [t for t in json.load(answer) if t["type"] == "page"]
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
        await asyncio.sleep(0.05)
    raise WorkFailed("Chromium started but opened no page.")


async def _picture(page: _Page, url: str, size: tuple[int, int], wanted: _Wanted) -> bytes:
    await page.call("Page.enable")
    await page.call(
        "Emulation.setDeviceMetricsOverride",
        width=size[0],
        height=size[1],
        deviceScaleFactor=1,
        mobile=False,
    )
    await page.call("Page.navigate", url=url)
    await _ready(page, wanted)
    shot = await page.call("Page.captureScreenshot", format="png")
    return base64.b64decode(shot["data"])


async def _ready(page: _Page, wanted: _Wanted) -> None:
    """Wait until all layers are there and drawn, and stay so for two more frames."""
    calm, known, since = 0, "", time.monotonic()
    status: dict[str, Any] = {"ready": False, "layers": []}
    while time.monotonic() < since + wanted.timeout:
        # between two pages there is nothing to ask
        with contextlib.suppress(_Refused):
            status = json.loads(await page.evaluate(_STATUS))
        if wanted.server is not None and wanted.server.failures:
            raise WorkFailed(f"some of the data cannot be read: {wanted.server.failures[0]}")
        broken = {str(x["name"]): x["errors"][0] for x in status["layers"] if x["errors"]}
        if broken:
            name, reason = next(iter(broken.items()))
            raise WorkFailed(f"Neuroglancer cannot load the layer '{name}': {reason}")
        if status.get("lost"):
            raise WorkFailed(
                "the browser lost its graphics, most likely for want of memory: show fewer "
                "objects (--select), or a smaller --size."
            )
        served = wanted.server.served if wanted.server is not None else 0
        if known != (known := f"{status} {served}"):
            since = time.monotonic()
        present = {x["name"] for x in status["layers"]} >= set(wanted.layers)
        calm = calm + 1 if present and status["ready"] else 0
        if calm >= 3:
            frames = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"
            await page.evaluate(frames, wait=True)
            return
        await asyncio.sleep(0.1)
    waiting = [x["name"] for x in status["layers"] if not x["ready"]] or sorted(
        set(wanted.layers) - {x["name"] for x in status["layers"]}
    )
    raise WorkFailed(
        f"Neuroglancer did not get on for {wanted.timeout:g} s; waiting for: "
        f"{', '.join(map(str, waiting)) or 'its window'}. A larger --timeout may help."
    )
