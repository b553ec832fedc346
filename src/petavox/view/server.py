"""A small HTTP server on this machine: Neuroglancer's client, and the volumes it shows.

What it is: folders as they are (with Range and CORS, as Neuroglancer asks for), any other volume
as precomputed chunks made on demand, and the client that ships with the `neuroglancer` package;
nothing comes from the internet. What it is not: a server for others; it listens on 127.0.0.1, and
every address holds a secret, so that no other page in the browser can guess it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import mimetypes
import re
import secrets
import threading
import urllib.parse
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from petavox.errors import BadInput, MissingExtra

log = logging.getLogger("petavox")

TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".map": "application/json"}


class Files(Protocol):
    """Files made on demand, such as the chunks of a volume."""

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Body and content type of a name below the source's address; None: not there."""
        ...

    def write(self, out: Path) -> None:
        """Write them all down. Raises BadInput if they are too many."""
        ...


def client_folder() -> Path:
    """Neuroglancer's client on this machine. Raises MissingExtra if it is not installed."""
    spec = importlib.util.find_spec("neuroglancer")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        for folder in (Path(root) / "static" / "client", Path(root) / "static"):
            if (folder / "index.html").is_file():
                return folder
    raise MissingExtra(
        "Neuroglancer is not installed, and `petavox view` shows its client: "
        "pip install 'petavox[view]'."
    )


def client_licence() -> Path | None:
    """The licence of the client (Apache-2.0), as its package brings it."""
    try:
        files = importlib.metadata.files("neuroglancer") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = next((f for f in files if f.name == "LICENSE"), None)
    return Path(str(found.locate())) if found is not None else None


class Server:
    """Serves until closed. Use as a context, or call `close`.

    port: 0 takes a free one.  config: what the client is told about its controls.
    failures: what could not be served.  served: requests answered so far.
    """

    def __init__(self, *, port: int = 0, config: Mapping[str, Any] | None = None) -> None:
        self.client = client_folder()
        self.config = dict(config or {})
        self.token = secrets.token_urlsafe(12)
        self.failures: list[str] = []
        self.served = 0
        self.stopped = threading.Event()
        self._sources: list[Path | Files] = []
        try:
            self._http = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        except (OSError, OverflowError) as e:
            raise BadInput(f"cannot listen on port {port} ({e}); choose another --port.") from None
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """http://127.0.0.1:PORT."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def add(self, source: Path | Files) -> str:
        """Serve a folder, or chunks made on demand; gives its address."""
        self._sources.append(source)
        return f"{self.address}/data/{self.token}/{len(self._sources) - 1}"

    def page(self, fragment: str) -> str:
        """The address of the client with a state."""
        return f"{self.address}/v/{self.token}/#{fragment}"

    def close(self) -> None:
        """Stop serving."""
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str) -> tuple[bytes | Path, str] | None:
        """What lies at a path: bytes or a file, and its content type; None: nothing."""
        parts = urllib.parse.unquote(path).split("/")[1:]
        if len(parts) < 3 or parts[1] != self.token:
            return None
        if parts[0] == "v":
            return _file(self.client, "/".join(parts[2:]) or "index.html")
        if parts[0] != "data" or not parts[2].isdigit() or int(parts[2]) >= len(self._sources):
            return None
        source, name = self._sources[int(parts[2])], "/".join(parts[3:])
        if isinstance(source, Path):
            return _file(source, name)
        return source.get(name)


def _file(folder: Path, name: str) -> tuple[Path, str] | None:
    """A file below a folder, or its gzipped twin; None if not there, or not below."""
    root = folder.resolve()
    for path in (root / name, root / f"{name}.gz"):
        if path.is_file() and path.resolve().is_relative_to(root):
            kind = TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0]
            return path, kind or "application/octet-stream"
    return None


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and one past the last of a Range header; None for the whole.

    Raises ValueError if nothing of it is there. Several ranges at once are answered as the whole,
    as HTTP allows.
    """
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", (header or "").strip())
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        stop = min(int(found[2]) + 1, size) if found[2] else size
    if start >= stop:
        raise ValueError(header)
    return start, stop


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # headers and body are two writes; without this each answer waits 40 ms for an ACK
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path = urllib.parse.urlsplit(self.path).path
            try:
                if path == f"/events/{server.token}":
                    self._events()
                    return
                found = server.answer(path)
            except (BrokenPipeError, ConnectionError):
                self.close_connection = True
                return
            except Exception as e:
                server.failures.append(f"{type(e).__name__}: {e}")
                log.warning("a chunk could not be served: %s", e)
                self._send(HTTPStatus.INTERNAL_SERVER_ERROR, str(e).encode(), "text/plain")
                return
            server.served += 1
            if found is None:
                self._send(HTTPStatus.NOT_FOUND, b"", "text/plain")
            else:
                self._content(*found)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._send(HTTPStatus.OK, b"{}", "application/json")

        def do_OPTIONS(self) -> None:
            self._send(HTTPStatus.NO_CONTENT, b"", "text/plain")

        def _content(self, body: bytes | Path, kind: str) -> None:
            extra: dict[str, str] = {"Accept-Ranges": "bytes"}
            size = len(body) if isinstance(body, bytes) else body.stat().st_size
            if isinstance(body, Path) and body.suffix == ".gz" and not self.path.endswith(".gz"):
                extra = {"Content-Encoding": "gzip"}
                part = None
            else:
                try:
                    part = byte_range(self.headers.get("Range"), size)
                except ValueError:
                    unmet = {"Content-Range": f"bytes */{size}"}
                    self._send(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", kind, unmet)
                    return
            start, stop = part or (0, size)
            if isinstance(body, Path):
                with open(body, "rb") as f:
                    f.seek(start)
                    data = f.read(stop - start)
            else:
                data = body[start:stop]
            if part is None:
                self._send(HTTPStatus.OK, data, kind, extra)
            else:
                extra["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
                self._send(HTTPStatus.PARTIAL_CONTENT, data, kind, extra)

        def _send(
            self, status: HTTPStatus, data: bytes, kind: str, extra: Mapping[str, str] | None = None
        ) -> None:
            try:
                self.send_response(status)
                for name, value in {
                    "Content-Type": kind,
                    "Content-Length": str(len(data)),
                    "Access-Control-Allow-Origin": "*",
                    "Access-Control-Allow-Headers": "Range",
                    "Access-Control-Expose-Headers": "Content-Range, Content-Encoding",
                    "Cache-Control": "no-cache",
                    **(extra or {}),
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
            except (BrokenPipeError, ConnectionError):
                self.close_connection = True  # the browser does not want it any more

        def _events(self) -> None:
            """The client's stream of settings: one message, then silence until the server stops."""
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-cache")
            self.end_headers()
            message = json.dumps({"k": "c", "s": server.config, "g": "1"})
            self.wfile.write(f"data: {message}\n\n".encode())
            self.wfile.flush()
            self.close_connection = True
            server.stopped.wait()

        def log_message(self, format: str, *args: Any) -> None:
            log.debug(format, *args)

    return Handler
